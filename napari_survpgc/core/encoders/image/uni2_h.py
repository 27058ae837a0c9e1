"""UNI2-h (Mahmood Lab, 2025): ViT-H/14 with SwiGLU and 8 registers, 1536 wide, class token.

Sizes as its model card states them; bfloat16 on a GPU, as TRIDENT runs it.
"""

from __future__ import annotations

import functools

import timm.layers
import torch

from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.weights import WeightSource
from napari_survpgc.core.types import EncoderKind

from .vision_transformer import ImageSpec, load_transformer
from .vision_transformer import check_file as vision_check

CARD = EncoderCard(
    id="uni2-h",
    kind=EncoderKind.IMAGE,
    title="UNI2-h",
    licence="CC BY-NC-ND 4.0, academic use, access on request",
    dim=1536,
    patch_px=256,
    mpp=0.5,
    weights_mb=2725,
    trident="uni_v2",
    aliases=("uni2", "mahmood-uni2"),
)
SPEC = ImageSpec(
    source=WeightSource(
        CARD,
        files=("pytorch_model.bin",),
        repository="MahmoodLab/UNI2-h",
    ),
    architecture="vit_giant_patch14_224",
    arguments={
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "init_values": 1e-5,
        "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2,
        "num_classes": 0,
        "no_embed_class": True,
        "mlp_layer": timm.layers.SwiGLUPacked,
        "act_layer": torch.nn.SiLU,
        "reg_tokens": 8,
        "dynamic_img_size": True,
    },
    half=torch.bfloat16,
)
SOURCE = SPEC.source
load = functools.partial(load_transformer, SPEC)
check_file = functools.partial(vision_check, SPEC)
