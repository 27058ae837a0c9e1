"""Phikon-v2 (Filiot et al., 2024): DINOv2 ViT-L/16 of transformers, 1024 wide, class token. Not gated.

Patches of 224 px at 20x; channel statistics and resampling as the files say that come with the weights.
"""

from __future__ import annotations

from napari_survpgc.core.encoders.base import resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.weights import WeightSource, find_weights
from napari_survpgc.core.types import EncoderKind

from .hub_image import load_transformers
from .vision_transformer import TransformerEncoder

CARD = EncoderCard(
    id="phikon-v2",
    kind=EncoderKind.IMAGE,
    title="Phikon-v2",
    licence="Owkin non-commercial licence, research use",
    dim=1024,
    patch_px=224,
    mpp=0.5,
    weights_mb=1213,
    trident="phikon_v2",
)
SOURCE = WeightSource(
    CARD,
    files=("config.json", "preprocessor_config.json", "model.safetensors"),
    repository="owkin/phikon-v2",
    gated=False,
)
WORK = 2.0 * 303e6 * (224 / 16) ** 2
"""Floating-point operations a patch."""


def load(device: str = "auto") -> TransformerEncoder:
    """Load the encoder; EncoderError says what is missing."""
    return load_transformers(SOURCE, find_weights(SOURCE), resolve_device(device))
