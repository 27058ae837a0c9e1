"""What the attributes of a feature file say, by us and by other tools."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from napari_survpgc.core.encoders.catalog import image_encoder_aliases
from napari_survpgc.core.types import PatchFeatures


def geometry_attributes(features: PatchFeatures, name: str) -> dict[str, Any]:
    """Attributes of ``coords`` as TRIDENT spells them; magnifications are nominal."""
    grid = features.grid
    attributes: dict[str, Any] = {"patch_size": grid.patch_px, "overlap": 0, "name": name}
    if math.isfinite(grid.patch_px_level0):
        attributes["patch_size_level0"] = round(grid.patch_px_level0)
    if math.isfinite(grid.mpp):
        attributes["target_magnification"] = nominal_magnification(grid.mpp)
        if math.isfinite(grid.patch_px_level0):
            level0 = grid.mpp * grid.patch_px / grid.patch_px_level0
            attributes["level0_magnification"] = nominal_magnification(level0)
    if grid.slide_size:
        attributes["level0_width"], attributes["level0_height"] = grid.slide_size
    return attributes


def nominal_magnification(mpp: float) -> int | float:
    """Return what people call a pixel size in µm, 10 / mpp: 40 for 0.2525, 20 for 0.5, 2.5 for 4."""
    exact = 10 / mpp
    rounded = round(exact) if exact >= 5 else round(exact, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def encoder_of(attributes: Mapping[str, Any]) -> str | None:
    """Return the encoder that made the features under our id, or as it is written; None when nothing says.

    TRIDENT calls UNI "uni_v1", STAMP "mahmood-uni-<hash of its code>".
    """
    name = as_text(attributes.get("encoder")) or as_text(attributes.get("extractor"))
    if name is None:
        return None
    plain = re.sub(r"-[0-9a-f]{8,}$", "", name.lower())
    return image_encoder_aliases().get(plain, name)


def first_number(*candidates: Any) -> float:
    """Return the first candidate that is a positive number; TRIDENT writes the text 'None' for what it lacks."""
    for candidate in candidates:
        try:
            value = float(candidate)
        except (TypeError, ValueError):
            continue
        if math.isfinite(value) and value > 0:
            return value
    return math.nan


def as_text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value and value != "None" else None
