"""CONCH's image tower (Lu et al., Nature Medicine 2024): ViT-B/16 on 448 px and one attention-pooled query, 512 wide.

The feature is the pooled query after its normalization, before the contrastive projection: what CLAM and TRIDENT
store. Patches of 512 px at 20x, bicubic to 448. Written from the published layout; the package is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_survpgc.core.encoders.base import resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.image.vision_transformer import CLIP_MEAN, CLIP_STD
from napari_survpgc.core.encoders.weights.weights import (
    WeightSource,
    check_state,
    find_weights,
    load_strictly,
    read_checkpoint,
    sha256_of,
    state_dict_of,
)
from napari_survpgc.core.types import EncoderKind

from .vision_transformer import ImageSpec, PixelEncoder, Pooling, TransformerEncoder

CARD = EncoderCard(
    id="conch",
    kind=EncoderKind.IMAGE,
    title="CONCH",
    licence="CC BY-NC-ND 4.0, academic use, access on request",
    dim=512,
    patch_px=512,
    mpp=0.5,
    weights_mb=800,
    trident="conch_v1",
    aliases=("mahmood-conch",),
)
SOURCE = WeightSource(
    CARD,
    files=("pytorch_model.bin",),
    repository="MahmoodLab/CONCH",
)
SPEC = ImageSpec(
    source=SOURCE,
    input_px=448,
    resampling="bicubic",
    mean=CLIP_MEAN,
    std=CLIP_STD,
    pooling=Pooling.HEAD,
    half=torch.float32,
)
PREFIX = "visual."
_TOWER = "CONCH's image tower"
_CAPTION = ("attn_pool_caption.", "ln_caption.", "proj_contrast")

WORK = 2.0 * 88e6 * (448 / 16) ** 2
"""Floating-point operations a patch."""


@dataclass(frozen=True)
class ConchImageSizes:
    """Sizes of the image tower (conch_ViT-B-16)."""

    image_px: int = 448
    patch_px: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    pooler_heads: int = 8
    dim: int = 512


class AttentionPool(nn.Module):
    """A learned query that attends over all tokens."""

    def __init__(self, sizes: ConchImageSizes) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, sizes.dim))
        self.attn = nn.MultiheadAttention(
            sizes.dim, sizes.pooler_heads, kdim=sizes.width, vdim=sizes.width, batch_first=True
        )
        self.ln_q, self.ln_k = nn.LayerNorm(sizes.dim), nn.LayerNorm(sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool (b, t, width) into (b, dim)."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, keys, keys, need_weights=False)[0][:, 0]


class ConchImageTower(nn.Module):
    """Keys as in the checkpoint, without the prefix 'visual.'."""

    def __init__(self, sizes: ConchImageSizes) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        self.trunk = VisionTransformer(
            embed_dim=sizes.width,
            depth=sizes.layers,
            num_heads=sizes.heads,
            img_size=sizes.image_px,
            patch_size=sizes.patch_px,
            num_classes=0,
            dynamic_img_size=True,
        )
        self.attn_pool_contrast = AttentionPool(sizes)
        self.ln_contrast = nn.LayerNorm(sizes.dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode (b, 3, h, w) into (b, dim)."""
        return self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(pixels)))


def load_image_tower(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the image tower out of the whole checkpoint; what only captioning needs is left out.

    Raises
    ------
    EncoderError : naming the first differences.
    """
    load_strictly(network, _own(state), _TOWER)


def _own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(PREFIX): value
        for key, value in state.items()
        if key.startswith(PREFIX) and not key.removeprefix(PREFIX).startswith(_CAPTION)
    }


def check_file(name: str, path: Path) -> None:
    """Raise EncoderError unless a file holds the image tower: checked before it is kept."""
    if name == SOURCE.files[0]:
        with torch.device("meta"):
            network = ConchImageTower(ConchImageSizes())
        check_state(network, _own(state_dict_of(read_checkpoint(path), path)), _TOWER)


def load(device: str = "auto") -> TransformerEncoder:
    """Load the encoder; EncoderError says what is missing."""
    where = resolve_device(device)
    (path,) = find_weights(SOURCE)
    with torch.device("meta"):
        network = ConchImageTower(ConchImageSizes())
    load_image_tower(network, state_dict_of(read_checkpoint(path), path))
    return TransformerEncoder(PixelEncoder(network, SPEC), SPEC, where, sha256_of(path))
