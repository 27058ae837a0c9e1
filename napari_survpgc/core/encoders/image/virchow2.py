"""Virchow2 (Zimmermann et al., 2024): ViT-H/14 with SwiGLU and 4 registers, 2560 wide.

Patches of 224 px at 20x, as it was trained. The feature is the class token followed by the mean of the patch tokens
(registers left out), as its model card says.
"""

from __future__ import annotations

import functools

import timm.layers
import torch

from napari_survpgc.core.encoders.weights.weights import WeightSource

from .vision_transformer import ImageSpec, Pooling, load_transformer
from .vision_transformer import check_file as vision_check

SPEC = ImageSpec(
    source=WeightSource(
        encoder_id="virchow2",
        title="Virchow2",
        files=("pytorch_model.bin",),
        repository="paige-ai/Virchow2",
        page="https://huggingface.co/paige-ai/Virchow2",
        licence="CC BY-NC-ND 4.0, academic use, access on request",
        also={"pytorch_model.bin": "model.safetensors"},
    ),
    dim=2560,
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
    patch_px=224,
    resampling="bicubic",
    pooling=Pooling.CLASS_AND_MEAN,
)
SOURCE = SPEC.source
load = functools.partial(load_transformer, SPEC)
check_file = functools.partial(vision_check, SPEC)
