"""Smooth random fields."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise of unit variance that varies over ``scale`` px; coarse grids are interpolated, so it is cheap."""
    step = max(1.0, scale / 3)
    small = (int(np.ceil(shape[0] / step)) + 3, int(np.ceil(shape[1] / step)) + 3)
    field = rng.standard_normal(small, np.float32)
    field = ndimage.gaussian_filter(field, 1.0, mode="wrap")
    field /= field.std() + 1e-9
    if step <= 1.0:
        return field[: shape[0], : shape[1]]
    return resize(field, (round(small[0] * step), round(small[1] * step)))[: shape[0], : shape[1]]


def resize(field: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(field, np.float32), mode="F")
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
