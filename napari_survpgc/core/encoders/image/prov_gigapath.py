"""The tile encoder of Prov-GigaPath (Xu et al., Nature 2024): ViT-g/16 with SwiGLU, 1536 wide, class token.

Patches of 256 px at 20x, resized to 256 (bicubic), of which the network sees the middle 224, as its authors do.
"""

from __future__ import annotations

import functools

from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.weights import WeightSource
from napari_survpgc.core.types import EncoderKind

from .vision_transformer import ImageSpec, load_transformer
from .vision_transformer import check_file as vision_check

CARD = EncoderCard(
    id="prov-gigapath",
    kind=EncoderKind.IMAGE,
    title="Prov-GigaPath",
    licence="Apache-2.0 with research-only terms, access on request",
    dim=1536,
    patch_px=256,
    mpp=0.5,
    weights_mb=4540,
    trident="gigapath",
)
SPEC = ImageSpec(
    source=WeightSource(
        CARD,
        files=("pytorch_model.bin",),
        repository="prov-gigapath/prov-gigapath",
    ),
    architecture="vit_giant_patch14_dinov2",
    arguments={
        "img_size": 224,
        "in_chans": 3,
        "patch_size": 16,
        "embed_dim": 1536,
        "depth": 40,
        "num_heads": 24,
        "init_values": 1e-5,
        "mlp_ratio": 5.33334,
        "num_classes": 0,
        "dynamic_img_size": True,
    },
    input_px=256,
    crop_px=224,
    resampling="bicubic",
)
SOURCE = SPEC.source
load = functools.partial(load_transformer, SPEC)
check_file = functools.partial(vision_check, SPEC)
