"""Which encoders there are, and how one is loaded by its id."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.types import EncoderKind

from .card import EncoderCard, read_cards

if TYPE_CHECKING:
    from .base import GeneEncoder, ImageEncoder, TextEncoder
    from .weights.weights import WeightSource


ENCODERS: dict[EncoderKind, dict[str, EncoderCard]] = {
    kind: read_cards(Path(__file__).parent / kind) for kind in EncoderKind
}
"""By kind and id, every encoder that has a file of its own."""
IMAGE_ENCODERS, TEXT_ENCODERS, GENE_ENCODERS = ENCODERS.values()

WITHOUT_FILES = ("gene-sets", "expression", "one-hot")
"""What bundles name as encoders and models compute themselves."""


def cards_of(encoder_id: str, kind: str | None = None) -> list[EncoderCard]:
    """Return the card of every encoder with an id; none for those of a hub and unknown ones.

    Parameters
    ----------
    kind : "image", "text" or "gene"; None for all.
    """
    return [
        cards[encoder_id] for each, cards in ENCODERS.items() if encoder_id in cards and kind in (None, each)
    ]


@functools.cache
def image_encoder_aliases() -> dict[str, str]:
    """Return how other tools name image encoders in feature files -> our id."""
    return {
        name: card.id for card in IMAGE_ENCODERS.values() for name in (card.trident, *card.aliases) if name
    }


def load_image_encoder(encoder_id: str, device: str = "auto") -> ImageEncoder:
    """Load an image encoder; EncoderError says what is missing.

    Parameters
    ----------
    device : "auto" (all GPUs of the machine, or its processor), one device, or several: "cuda:0,cuda:1".
    """
    devices = _devices(device)
    if len(devices) == 1:
        return _load(EncoderKind.IMAGE, encoder_id, devices[0])
    from .image.replicated import ReplicatedEncoder

    return ReplicatedEncoder([_load(EncoderKind.IMAGE, encoder_id, each) for each in devices])


def _devices(device: str) -> list[str]:
    if device == "auto":
        import torch

        count = torch.cuda.device_count()
        return [f"cuda:{i}" for i in range(count)] if count > 1 else ["auto"]
    return [part.strip() for part in device.split(",")]


def load_text_encoder(encoder_id: str, device: str = "auto") -> TextEncoder:
    """Load a text encoder; EncoderError says what is missing."""
    return _load(EncoderKind.TEXT, encoder_id, device)


def load_gene_encoder(encoder_id: str, device: str = "auto") -> GeneEncoder:
    """Load a gene encoder; EncoderError says what is missing."""
    return _load(EncoderKind.GENE, encoder_id, device)


@functools.cache
def _load(kind: EncoderKind, encoder_id: str, device: str) -> Any:
    """Load an encoder once a process: it is frozen, and its weights take seconds to read and check."""
    if encoder_id in ENCODERS[kind]:
        return encoder_module(ENCODERS[kind][encoder_id]).load(device)
    if kind == EncoderKind.IMAGE and parse_hub_id(encoder_id):
        from .image.hub_image import load_hub_image

        return load_hub_image(encoder_id, device)
    if kind == EncoderKind.TEXT and encoder_id.startswith("hf:"):
        from .text.hub_text import load_hub_text

        return load_hub_text(encoder_id, device)
    raise EncoderError(
        f"There is no {kind} encoder named {encoder_id}",
        f"Choose one of: {', '.join(sorted(ENCODERS[kind]))}, or hf:<owner>/<name>",
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
    known = cards_of(encoder_id, kind)
    if known:
        return [encoder_module(card).SOURCE for card in known if not card.embedded]
    if not parse_hub_id(encoder_id) or kind == EncoderKind.GENE:
        raise EncoderError(
            f"There is no {kind or ''} encoder named {encoder_id}",
            f"Choose one of: {', '.join(sorted({i for cards in ENCODERS.values() for i in cards}))}, or hf:<owner>/<name>",
        )
    from .image import hub_image
    from .text import hub_text

    return [(hub_text if kind == EncoderKind.TEXT else hub_image).source_of(encoder_id)]


def check_weights(encoder_id: str, name: str, path: Path, kind: str | None = None) -> None:
    """Check that a file is one of an encoder's: keys and shapes, without building the network.

    Parameters
    ----------
    name : in the source's ``files``.   kind : as for :func:`weight_sources`.

    Raises
    ------
    EncoderError : naming the first differences.
    """
    for card in cards_of(encoder_id, kind):
        check = getattr(encoder_module(card), "check_file", None)
        if check is not None:
            check(name, path)


def encoder_module(card: EncoderCard) -> Any:
    """Import the file of an encoder."""
    return importlib.import_module(f"{__package__}.{card.module}")
