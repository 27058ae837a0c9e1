"""Masks to outlines and back; outlines that cross themselves mended, regions cut out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import shapely
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
        rings.sort(key=lambda ring: -shapely.Polygon(ring).area)
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    return tuple(polygons)


def area_px(polygon: Polygon) -> float:
    """Return the area of an outline without its holes, in px of level 0, 0 or more."""
    return float(_shape(polygon).area)


def mended(polygon: Polygon) -> tuple[Polygon, ...]:
    """Return an outline as it is, or, where it crosses itself, the simple ones that cover the same tissue.

    Several, where it falls apart (a figure of eight); none, where it encloses nothing.
    """
    shape = _shape(polygon)
    if shape.is_valid:
        return (polygon,)
    return _polygons_of(shapely.make_valid(shape, method="structure", keep_collapsed=False))


def cut_out(polygons: Iterable[Polygon], holes: Sequence[Polygon]) -> tuple[Polygon, ...]:
    """Cut regions out of outlines; an outline that none of them touches stays as it is."""
    if not holes:
        return tuple(polygons)
    cut = shapely.union_all([_shape(part) for hole in holes for part in mended(hole)])
    kept: list[Polygon] = []
    for polygon in polygons:
        shape = _shape(polygon)
        kept += _polygons_of(shape.difference(cut)) if shape.intersects(cut) else (polygon,)
    return tuple(kept)


def _shape(polygon: Polygon) -> shapely.Polygon:
    return shapely.Polygon(polygon.exterior, polygon.holes)


def _polygons_of(geometry: shapely.Geometry) -> tuple[Polygon, ...]:
    """Return the areas of a geometry; points and lines, which enclose nothing, are left out."""
    parts = shapely.get_parts(shapely.get_parts(geometry))  # twice: a collection may hold multipolygons
    return tuple(
        Polygon(np.asarray(p.exterior.coords)[:-1], tuple(np.asarray(h.coords)[:-1] for h in p.interiors))
        for p in parts
        if p.geom_type == "Polygon" and not p.is_empty
    )


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
