"""Any other image encoder by its id: ``hf:<owner>/<name>`` (transformers) and ``timm:<model>`` or ``timm:<owner>/<name>``.

What the id does not say is read from the configuration that comes with the weights: input size and the part of it that
is cut out, channel statistics, resampling. The feature is the class token (transformers), or timm's own pooling. Patches
are 256 px at 20x. No code of a repository is ever run (``trust_remote_code`` stays off), so encoders that need it are
refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_survpgc.core.encoders.base import resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.transformers_loading import load_network
from napari_survpgc.core.encoders.weights.weights import (
    WeightSource,
    find_weights,
    load_strictly,
    read_checkpoint,
    sha256_of,
    state_dict_of,
)
from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.files import read_json
from napari_survpgc.core.types import EncoderKind

from .vision_transformer import ImageSpec, PixelEncoder, Pooling, TransformerEncoder, wrap

_MAX_CONFIG_BYTES = 1 << 20
_HEADS = ("head.", "fc.", "classifier.", "head_dist.")


@dataclass(frozen=True)
class HubName:
    """The two halves of an id."""

    kind: str  # "hf" or "timm"
    name: str


def parse_id(encoder_id: str) -> HubName | None:
    """Return the halves of "hf:..." or "timm:..."; None for any other id."""
    kind, colon, name = encoder_id.partition(":")
    if not colon or kind not in ("hf", "timm") or not name or ".." in name:
        return None
    return HubName(kind, name)


def source_of(encoder_id: str) -> WeightSource:
    """Return where the weights of such an encoder come from."""
    hub = parse_id(encoder_id)
    if hub is None:
        raise EncoderError(f"{encoder_id} is no encoder of a hub", "Write hf:<owner>/<name> or timm:<model>")
    files: tuple[str, ...] = ("model.safetensors",)
    if hub.kind == "hf":
        files = ("config.json", "preprocessor_config.json", *files)
    elif "/" in hub.name:
        files = ("config.json", *files)
    repository = hub.name if "/" in hub.name else f"timm/{hub.name}"
    return WeightSource(
        EncoderCard(encoder_id, EncoderKind.IMAGE, hub.name, "see its page", patch_px=256, mpp=0.5),
        files=files,
        repository=repository,
        gated=False,
        also={"model.safetensors": "pytorch_model.bin"},
    )


def load_hub_image(encoder_id: str, device: str = "auto") -> TransformerEncoder:
    """Load such an encoder from local files or the hub's cache.

    Raises
    ------
    EncoderError : files are missing, damaged, of another model, or of a kind that needs code of its own.
    """
    source = source_of(encoder_id)
    where = resolve_device(device)
    files = find_weights(source)
    hub = parse_id(encoder_id)
    assert hub is not None
    if hub.kind == "hf":
        return load_transformers(source, files, where)
    config = read_config(files[0]) if len(files) == 2 else {}
    return _load_timm(source, files[-1], hub.name, config, where)


def load_transformers(
    source: WeightSource, files: tuple[Path, ...], device: torch.device
) -> TransformerEncoder:
    """Load an encoder of transformers from its config, preprocessor config and weights.

    Raises
    ------
    EncoderError : another architecture than transformers knows, other weights than the config states, or another width
        than the card.
    """
    config_file, processor_file, weights = files
    network = load_network(config_file.parent, source.card.title)
    width = hidden_size(network)
    if width != (source.card.dim or width):
        raise EncoderError(
            f"The files are not those of {source.card.title}: they give {width} numbers a patch instead of"
            f" {source.card.dim}",
            f"Get configuration and weights from {source.page}",
        )
    facts = read_config(processor_file)
    whole = _side(facts.get("size") or facts.get("crop_size"))
    seen = (
        _side(facts["crop_size"]) if facts.get("crop_size") and facts.get("do_center_crop", True) else whole
    )
    spec = ImageSpec(
        source=source.of_width(width),
        input_px=max(whole, seen),
        crop_px=seen,
        resampling="bicubic" if facts.get("resample") == 3 else "bilinear",
        mean=_three(facts.get("image_mean"), (0.5, 0.5, 0.5)),
        std=_three(facts.get("image_std"), (0.5, 0.5, 0.5)),
        pooling=Pooling.CLASS,
    )
    return TransformerEncoder(PixelEncoder(_LastHiddenState(network), spec), spec, device, sha256_of(weights))


def hidden_size(network: nn.Module) -> int:
    """Return the width of the tokens of a transformers network."""
    config: Any = network.config
    return int(config.hidden_size)


class _LastHiddenState(nn.Module):
    """The tokens of a transformers network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixel_values=pixels).last_hidden_state


def _load_timm(
    source: WeightSource, path: Path, name: str, config: Mapping[str, Any], device: torch.device
) -> TransformerEncoder:
    import timm

    architecture = str(config.get("architecture", name))
    arguments = config.get("model_args") if isinstance(config.get("model_args"), dict) else {}
    try:
        network = timm.create_model(architecture, pretrained=False, **{**(arguments or {}), "num_classes": 0})
    except (RuntimeError, TypeError, ValueError) as error:
        raise EncoderError(
            f"timm cannot build {architecture} ({str(error).splitlines()[0][:120]})",
            "Check the name, or choose another encoder",
        ) from error
    state = state_dict_of(read_checkpoint(path), path)
    expected = network.state_dict()
    # Checkpoints of classifiers carry the classifier, which is not used.
    state = {k: v for k, v in state.items() if k in expected or not k.startswith(_HEADS)}
    load_strictly(network, state, source.card.title)
    facts = {**network.pretrained_cfg, **(config.get("pretrained_cfg") or {})}
    seen = _side(facts.get("input_size"))
    share = facts.get("crop_pct") if facts.get("crop_mode", "center") == "center" else None
    if not isinstance(share, (int, float)) or not 0.5 <= share <= 1:
        share = 1
    spec = ImageSpec(
        source=source.of_width(int(getattr(network, "head_hidden_size", None) or network.num_features)),
        input_px=math.floor(seen / share),
        crop_px=seen,
        resampling="bicubic" if facts.get("interpolation") == "bicubic" else "bilinear",
        mean=_three(facts.get("mean"), (0.5, 0.5, 0.5)),
        std=_three(facts.get("std"), (0.5, 0.5, 0.5)),
        pooling=Pooling.HEAD,
    )
    return wrap(network, spec, device, sha256_of(path))


def read_config(path: Path) -> dict[str, Any]:
    """Read a small JSON object.

    Raises
    ------
    EncoderError : it is not one.
    """
    step = "Get it again from the page of the encoder"
    content = read_json(path, _MAX_CONFIG_BYTES, EncoderError, step, "a configuration", nan=True)
    if not isinstance(content, dict):
        raise EncoderError(f"{path.name} is damaged", step)
    return content


def _side(value: Any) -> int:
    """Return the side of the input square from any of the spellings in use; 224 where nothing says."""
    if isinstance(value, dict):
        value = value.get("height") or value.get("shortest_edge")
    if isinstance(value, (list, tuple)) and value:
        value = value[-1]
    side = int(value) if isinstance(value, (int, float)) else 224
    if not 16 <= side <= 2048:
        raise EncoderError(f"An input of {side} px is not usable", "Check the configuration of the encoder")
    return side


def _three(value: Any, otherwise: tuple[float, float, float]) -> tuple[float, float, float]:
    if isinstance(value, (list, tuple)) and len(value) == 3:
        return float(value[0]), float(value[1]), float(value[2])
    return otherwise
