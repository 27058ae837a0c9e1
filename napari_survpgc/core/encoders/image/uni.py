"""UNI (Chen et al., Nature Medicine 2024): ViT-L/16, 1024 wide, the class token after the last normalization.

Patches of 256 px at 20x, resized to 224 (bilinear, antialiased), as its authors, CLAM and TRIDENT do; float16 on a GPU.
"""

from __future__ import annotations

import functools

from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.weights import WeightSource
from napari_survpgc.core.types import EncoderKind

from .vision_transformer import ImageSpec, load_transformer
from .vision_transformer import check_file as vision_check

CARD = EncoderCard(
    id="uni",
    kind=EncoderKind.IMAGE,
    title="UNI",
    licence="CC BY-NC-ND 4.0, academic use, access on request",
    dim=1024,
    patch_px=256,
    mpp=0.5,
    weights_mb=1213,
    trident="uni_v1",
    aliases=("mahmood-uni",),
)
SPEC = ImageSpec(
    source=WeightSource(
        CARD,
        files=("pytorch_model.bin",),
        repository="MahmoodLab/UNI",
    ),
    architecture="vit_large_patch16_224",
    arguments={
        "img_size": 224,
        "patch_size": 16,
        "init_values": 1e-5,
        "num_classes": 0,
        "dynamic_img_size": True,
    },
)
SOURCE = SPEC.source
load = functools.partial(load_transformer, SPEC)
check_file = functools.partial(vision_check, SPEC)
