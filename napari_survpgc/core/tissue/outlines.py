"""Masks to outlines and back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage import measure

from napari_survpgc.core.types import Polygon, TissueMask


def mask_polygons(mask: NDArray[np.bool_], downsample: float, size: tuple[int, int]) -> tuple[Polygon, ...]:
    """Trace a mask. 4-connected pieces give simple rings that never touch themselves."""
    labels, count = ndimage.label(mask)
    polygons = []
    for number, window in enumerate(ndimage.find_objects(labels, count), start=1):
        piece = np.pad(labels[window] == number, 1)
        rings = measure.find_contours(piece.astype(np.float32), 0.5, fully_connected="low")
        # find_contours gives (row, column) at pixel centers; a pixel i covers [i, i + 1) and we padded by one.
        offset = np.array([window[1].start, window[0].start]) - 1 + 0.5
        rings = [(ring[:-1, ::-1] + offset) * downsample for ring in rings if len(ring) > 4]
        rings = [measure.approximate_polygon(np.vstack([r, r[:1]]), 0.6 * downsample)[:-1] for r in rings]
        rings = [np.clip(ring, 0, np.array(size, float)) for ring in rings if len(ring) >= 3]
        if not rings:
            continue
        rings.sort(key=lambda ring: -abs(area(ring)))
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    return tuple(polygons)


def area(ring: NDArray[np.float64]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def rasterize(mask: TissueMask, downsample: float) -> NDArray[np.bool_]:
    """Draw the outlines as a (ceil(h / downsample), ceil(w / downsample)) mask; holes stay empty."""
    width, height = (max(1, math.ceil(s / downsample)) for s in mask.size)
    out = np.zeros((height, width), bool)
    for polygon in mask.polygons:
        canvas = Image.new("1", (width, height))
        draw = ImageDraw.Draw(canvas)
        # PIL fills pixel centers at integer coordinates; ours lie at + 0.5.
        draw.polygon([tuple(p) for p in polygon.exterior / downsample - 0.5], fill=1)
        for hole in polygon.holes:
            draw.polygon([tuple(p) for p in hole / downsample - 0.5], fill=0)
        out |= np.asarray(canvas)
    return out


def outline_image(mask: TissueMask, max_px: int = 2048) -> tuple[NDArray[np.uint8], float]:
    """Draw the outlines two px wide, for display: 1 on an outline, 0 elsewhere.

    Returns
    -------
    (h, w) uint8 with the longer side at most ``max_px``, and its downsample.
    """
    downsample = max(1.0, max(mask.size) / max_px)
    inside = rasterize(mask, downsample)
    border = inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=0)
    return border.astype(np.uint8), downsample
