"""H-optimus-0 (Bioptimus, 2024): ViT-g/14 with 4 registers, 1536 wide, class token.

Trained at 0.5 µm per px on 224 px: patches of 224 px, its own channel statistics.
"""

from __future__ import annotations

import functools

from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.image.vision_transformer import OPTIMUS_MEAN, OPTIMUS_STD
from napari_survpgc.core.encoders.weights.weights import WeightSource
from napari_survpgc.core.types import EncoderKind

from .vision_transformer import ImageSpec, load_transformer
from .vision_transformer import check_file as vision_check

CARD = EncoderCard(
    id="h-optimus-0",
    kind=EncoderKind.IMAGE,
    title="H-optimus-0",
    licence="Apache-2.0, access on request",
    dim=1536,
    patch_px=224,
    mpp=0.5,
    weights_mb=4540,
    trident="hoptimus0",
    aliases=("h_optimus_0",),
)
SPEC = ImageSpec(
    source=WeightSource(
        CARD,
        files=("pytorch_model.bin",),
        repository="bioptimus/H-optimus-0",
        also={"pytorch_model.bin": "model.safetensors"},
    ),
    architecture="vit_giant_patch14_reg4_dinov2",
    arguments={
        "img_size": 224,
        "init_values": 1e-5,
        "num_classes": 0,
        "global_pool": "token",
        "dynamic_img_size": True,
    },
    mean=OPTIMUS_MEAN,
    std=OPTIMUS_STD,
)
SOURCE = SPEC.source
load = functools.partial(load_transformer, SPEC)
check_file = functools.partial(vision_check, SPEC)
