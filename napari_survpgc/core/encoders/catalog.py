"""Which encoders there are, and how one is loaded by its id."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from napari_survpgc.core.errors import EncoderError

if TYPE_CHECKING:
    from pathlib import Path

    from .base import GeneEncoder, ImageEncoder, TextEncoder
    from .weights.weights import WeightSource


IMAGE_ENCODERS: dict[str, str] = {
    "efficientnet-lite0": "efficientnet_lite0",
    "uni": "uni",
    "uni2-h": "uni2_h",
    "conch": "conch",
    "virchow2": "virchow2",
    "h-optimus-0": "h_optimus_0",
    "prov-gigapath": "prov_gigapath",
    "phikon-v2": "phikon_v2",
}


TEXT_ENCODERS: dict[str, str] = {"minilm": "minilm", "conch": "conch"}


GENE_ENCODERS: dict[str, str] = {"gene-projection": "gene_projection", "scfoundation": "scfoundation"}


_REGISTRIES = {"image": IMAGE_ENCODERS, "text": TEXT_ENCODERS, "gene": GENE_ENCODERS}


def load_image_encoder(encoder_id: str, device: str = "auto") -> ImageEncoder:
    """Load an image encoder; EncoderError says what is missing.

    Parameters
    ----------
    device : "auto" (all GPUs of the machine, or its processor), one device, or several: "cuda:0,cuda:1".
    """
    devices = _devices(device)
    if len(devices) == 1:
        return _load("image", encoder_id, devices[0])
    from .image.replicated import ReplicatedEncoder

    return ReplicatedEncoder([_load("image", encoder_id, each) for each in devices])


def _devices(device: str) -> list[str]:
    if device == "auto":
        import torch

        count = torch.cuda.device_count()
        return [f"cuda:{i}" for i in range(count)] if count > 1 else ["auto"]
    return [part.strip() for part in device.split(",")]


def load_text_encoder(encoder_id: str, device: str = "auto") -> TextEncoder:
    """Load a text encoder; EncoderError says what is missing."""
    return _load("text", encoder_id, device)


def load_gene_encoder(encoder_id: str, device: str = "auto") -> GeneEncoder:
    """Load a gene encoder; EncoderError says what is missing."""
    return _load("gene", encoder_id, device)


@functools.cache
def _load(kind: str, encoder_id: str, device: str) -> Any:
    """Load an encoder once a process: it is frozen, and its weights take seconds to read and check."""
    if encoder_id in _REGISTRIES[kind]:
        return _module(kind, encoder_id).load(device)
    if kind == "image" and parse_hub_id(encoder_id):
        from .image.hub_image import load_hub_image

        return load_hub_image(encoder_id, device)
    if kind == "text" and encoder_id.startswith("hf:"):
        from .text.hub_text import load_hub_text

        return load_hub_text(encoder_id, device)
    raise EncoderError(
        f"There is no {kind} encoder named {encoder_id}",
        f"Choose one of: {', '.join(sorted(_REGISTRIES[kind]))}, or hf:<owner>/<name>",
    )


def parse_hub_id(encoder_id: str) -> bool:
    """Whether an id names an encoder of a hub: "hf:<owner>/<name>", "timm:<model>"."""
    kind, _, name = encoder_id.partition(":")
    return kind in ("hf", "timm") and bool(name) and ".." not in name


def weight_sources(encoder_id: str, kind: str | None = None) -> list[WeightSource]:
    """Return where the weights of an encoder come from, one source a kind that has this id; none for embedded ones.

    Parameters
    ----------
    kind : "image", "text" or "gene"; None for all that have the id, and for the image encoder of a hub's id.

    Raises
    ------
    EncoderError : an unknown id.
    """
    known = [
        each for each, registry in _REGISTRIES.items() if encoder_id in registry and kind in (None, each)
    ]
    if known:
        found = [getattr(_module(each, encoder_id), "SOURCE", None) for each in known]
        return [source for source in found if source is not None]
    if not parse_hub_id(encoder_id) or kind == "gene":
        raise EncoderError(
            f"There is no {kind or ''} encoder named {encoder_id}",
            f"Choose one of: {', '.join(sorted({i for r in _REGISTRIES.values() for i in r}))}, or hf:<owner>/<name>",
        )
    from .image import hub_image
    from .text import hub_text

    return [(hub_text if kind == "text" else hub_image).source_of(encoder_id)]


def check_weights(encoder_id: str, name: str, path: Path, kind: str | None = None) -> None:
    """Check that a file is one of an encoder's: keys and shapes, without building the network.

    Parameters
    ----------
    name : in the source's ``files``.   kind : as for :func:`weight_sources`.

    Raises
    ------
    EncoderError : naming the first differences.
    """
    for each, registry in _REGISTRIES.items():
        if encoder_id in registry and kind in (None, each):
            check = getattr(_module(each, encoder_id), "check_file", None)
            if check is not None:
                check(name, path)


def encoder_module(kind: str, encoder_id: str) -> Any:
    """Return the module of an encoder that has a file of its own; None for one of a hub."""
    return _module(kind, encoder_id) if encoder_id in _REGISTRIES[kind] else None


def _module(kind: str, encoder_id: str) -> Any:
    return importlib.import_module(f"{__package__}.{kind}.{_REGISTRIES[kind][encoder_id]}")
