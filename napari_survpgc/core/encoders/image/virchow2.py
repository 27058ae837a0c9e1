"""Virchow2 (Zimmermann et al., 2024): ViT-H/14 with SwiGLU and 4 registers, 2560 wide.

Patches of 224 px at 20x, as it was trained. The feature is the class token followed by the mean of the patch tokens
(registers left out), as its model card says.
"""

from __future__ import annotations

import functools

import timm.layers
import torch

from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.weights import WeightSource
from napari_survpgc.core.types import EncoderKind

from .vision_transformer import ImageSpec, Pooling, load_transformer
from .vision_transformer import check_file as vision_check

CARD = EncoderCard(
    id="virchow2",
    kind=EncoderKind.IMAGE,
    title="Virchow2",
    licence="CC BY-NC-ND 4.0, academic use, access on request",
    dim=2560,
    patch_px=224,
    mpp=0.5,
    weights_mb=2525,
)
SPEC = ImageSpec(
    source=WeightSource(
        CARD,
        files=("pytorch_model.bin",),
        repository="paige-ai/Virchow2",
        also={"pytorch_model.bin": "model.safetensors"},
    ),
    architecture="vit_huge_patch14_224",
    arguments={
        "img_size": 224,
        "init_values": 1e-5,
        "num_classes": 0,
        "reg_tokens": 4,
        "mlp_ratio": 5.3375,
        "global_pool": "",
        "mlp_layer": timm.layers.SwiGLUPacked,
        "act_layer": torch.nn.SiLU,
        "dynamic_img_size": True,
    },
    resampling="bicubic",
    pooling=Pooling.CLASS_AND_MEAN,
)
SOURCE = SPEC.source
load = functools.partial(load_transformer, SPEC)
check_file = functools.partial(vision_check, SPEC)
