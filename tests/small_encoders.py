"""The encoders that need weights, shrunk: their own layout and key names, few and narrow layers."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from napari_survpgc.core.encoders.catalog import IMAGE_ENCODERS, encoder_module
from napari_survpgc.core.encoders.image import vision_transformer
from napari_survpgc.core.encoders.image.vision_transformer import ImageSpec, Pooling

SMALL = {"depth": 1, "embed_dim": 48, "num_heads": 2}


def small_spec(encoder_id: str, monkeypatch: pytest.MonkeyPatch) -> ImageSpec:
    """Shrink a vision transformer, layout and all else as it is."""
    module = encoder_module(IMAGE_ENCODERS[encoder_id])
    spec = module.SPEC
    wide = 2 if spec.pooling is Pooling.CLASS_AND_MEAN else 1
    small = dataclasses.replace(
        spec, source=spec.source.of_width(48 * wide), arguments={**spec.arguments, **SMALL}
    )
    monkeypatch.setattr(module, "load", functools.partial(vision_transformer.load_transformer, small))
    monkeypatch.setattr(module, "check_file", functools.partial(vision_transformer.check_file, small))
    return small
