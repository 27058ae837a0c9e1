"""What the vision transformers of pathology share: pixels -> normalization -> network -> pooled tokens.

Each lives in a file of its own that says how its patches are cut, how its pixels are normalized and how its tokens are
pooled. The networks are timm's (Apache-2.0); the weights are the authors', loaded strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_survpgc.core.encoders.base import cpu_has_bf16, resolve_device, tune_allocator
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.weights import (
    WeightSource,
    check_state,
    find_weights,
    load_strictly,
    read_checkpoint,
    sha256_of,
    state_dict_of,
)
from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.types import Resampling

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIMUS_MEAN, OPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Pooling(StrEnum):
    """What becomes the feature row; the tokens come out of the last normalization."""

    CLASS = "class token"
    CLASS_AND_MEAN = "class token, then the mean of the patch tokens"
    HEAD = "the network's own pooling"


@dataclass(frozen=True)
class ImageSpec:
    """How an encoder is built and fed; its card says the rest.

    Attributes
    ----------
    architecture, arguments : of ``timm.create_model``.
    input_px, resampling : how patches are resampled.
    crop_px : side of the middle that the network sees of ``input_px``; None for all of it.
    mean, std : of the channels, of values in 0..1.
    half : precision on CUDA, as its authors or TRIDENT run it.
    """

    source: WeightSource
    architecture: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    input_px: int = 224
    crop_px: int | None = None
    resampling: Resampling = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pooling: Pooling = Pooling.CLASS
    half: torch.dtype = torch.float16

    @property
    def card(self) -> EncoderCard:
        return self.source.card

    @property
    def seen_px(self) -> int:
        """Side of what the network sees."""
        return self.crop_px or self.input_px


class PixelEncoder(nn.Module):
    """uint8 pixels -> feature rows.

    Parameters
    ----------
    tokens : the network; (b, 3, h, w) -> (b, t, dim) tokens, or (b, dim) with ``Pooling.HEAD``.
    prefix : tokens before the patch tokens: class token and registers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tokens: nn.Module, spec: ImageSpec, prefix: int = 1) -> None:
        super().__init__()
        self.tokens, self.prefix, self.pooling = tokens, prefix, spec.pooling
        margin = round((spec.input_px - spec.seen_px) / 2)  # as torchvision cuts
        self._seen = slice(margin, margin + spec.seen_px) if margin else slice(None)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Encode (b, h, w, 3) uint8 into (b, dim) float32."""
        seen = patches[:, self._seen, self._seen].permute(0, 3, 1, 2)
        pixels = (seen.to(self.mean.dtype) - self.mean) / self.std
        found = self.tokens(pixels)
        if self.pooling is Pooling.CLASS:
            found = found[:, 0]
        elif self.pooling is Pooling.CLASS_AND_MEAN:
            found = torch.cat([found[:, 0], found[:, self.prefix :].mean(1)], -1)
        return found.float()


class TransformerEncoder:
    """An :class:`ImageEncoder` around a :class:`PixelEncoder`."""

    def __init__(self, network: PixelEncoder, spec: ImageSpec, device: torch.device, weights: str) -> None:
        self.id, self.dim, self.weights = spec.card.id, spec.card.dim, weights
        self.patch_px, self.mpp, self.input_px = spec.card.patch_px, spec.card.mpp, spec.input_px
        self.resampling: Resampling = spec.resampling
        self.device, self.dtype = device, precision(device, spec.half)
        self.patch_bytes = _patch_bytes(network, spec, self.dtype)
        self.network = network.eval().requires_grad_(False).to(device=device, dtype=self.dtype)

    def encode(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            rows = self.network(torch.from_numpy(patches).to(self.device))
        return rows.cpu().numpy()


def _patch_bytes(network: nn.Module, spec: ImageSpec, dtype: torch.dtype) -> int:
    """Estimate the memory of the activations of one patch: the widest layer of a block on all tokens, a few at a time."""
    widest = max((p.shape[0] for p in network.parameters() if p.ndim == 2), default=spec.card.dim)
    tokens = (spec.seen_px // int(spec.arguments.get("patch_size", 14))) ** 2 + 16
    return 6 * widest * tokens * dtype.itemsize


def precision(device: torch.device, half: torch.dtype) -> torch.dtype:
    """Return ``half`` on CUDA, bfloat16 on processors that are faster with it, float32 elsewhere."""
    if device.type == "cuda":
        return half
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32


def build_transformer(spec: ImageSpec) -> nn.Module:
    """Return timm's network of a spec, with random weights; its tokens come from ``forward_features``."""
    import timm

    return timm.create_model(spec.architecture, pretrained=False, **spec.arguments)


def load_transformer(spec: ImageSpec, device: str = "auto") -> TransformerEncoder:
    """Load an encoder from its file, strictly.

    Raises
    ------
    EncoderError : the weights are missing, damaged or of another model.
    """
    where = resolve_device(device)
    (path,) = find_weights(spec.source)
    with torch.device("meta"):
        network = build_transformer(spec)
    load_strictly(network, state_dict_of(read_checkpoint(path), path), spec.card.title)
    return wrap(network, spec, where, sha256_of(path))


def wrap(network: nn.Module, spec: ImageSpec, device: torch.device, weights: str) -> TransformerEncoder:
    """Make an encoder of a loaded timm network, and check that it is as wide as the spec says.

    Parameters
    ----------
    weights : SHA-256 of their file.
    """
    if device.type == "cpu":
        tune_allocator()
    tokens = network if spec.pooling is Pooling.HEAD else _Features(network)
    encoder = TransformerEncoder(
        PixelEncoder(tokens, spec, getattr(network, "num_prefix_tokens", 1)), spec, device, weights
    )
    width = getattr(network, "num_features", spec.card.dim) * (
        2 if spec.pooling is Pooling.CLASS_AND_MEAN else 1
    )
    if width != spec.card.dim:
        raise EncoderError(
            f"{spec.card.title} gives {width} numbers a patch instead of {spec.card.dim}",
            "Choose the weights that its authors publish",
        )
    return encoder


class _Features(nn.Module):
    """The tokens of a timm network, after its last normalization."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.forward_features(pixels)  # type: ignore[operator]


def check_file(spec: ImageSpec, name: str, path: Path) -> None:
    """Raise EncoderError unless a file holds the weights of an encoder: checked before it is kept."""
    with torch.device("meta"):
        network = build_transformer(spec)
    check_state(network, state_dict_of(read_checkpoint(path), path), spec.card.title)
