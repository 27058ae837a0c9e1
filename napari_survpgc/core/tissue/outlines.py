"""Masks to outlines and back; outlines that cross themselves mended, regions cut out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_survpgc.core.types import Polygon, TissueMask

from .contours import contours


def mask_polygons(mask: NDArray[np.bool_], downsample: float, size: tuple[int, int]) -> tuple[Polygon, ...]:
    """Trace a mask. 4-connected pieces give simple rings that never touch themselves, at a cost linear in the pixels."""
    limits = np.array(size, float)
    polygons: list[Polygon] = []
    for contour in contours(mask):
        outer, *holes = (np.clip(ring * downsample, 0, limits) for ring in (contour.outer, *contour.holes))
        shape = shapely.Polygon(outer, holes)
        simple = shapely.simplify(shape, 0.6 * downsample, preserve_topology=False)
        if simple.geom_type != "Polygon" or simple.is_empty or not simple.is_valid:
            simple = shapely.simplify(shape, 0.6 * downsample, preserve_topology=True)
        polygons += _polygons_of(simple)
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


def inside(polygons: Iterable[Polygon], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of (n, 2) points lie in any of the outlines; one on an edge does."""
    found = np.zeros(len(points), bool)
    for shape in (_shape(part) for polygon in polygons for part in mended(polygon)):
        found |= shapely.intersects_xy(shape, points[:, 0], points[:, 1])
    return found


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
        # Each in the window around it: thousands of crumbs on a large slide cost no more than their own area.
        places = polygon.exterior / downsample - 0.5
        left, top = np.maximum(np.floor(places.min(0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(places.max(0)).astype(int) + 1, (width, height))
        if right <= left or bottom <= top:
            continue
        canvas = Image.new("1", (int(right - left), int(bottom - top)))
        draw = ImageDraw.Draw(canvas)
        # PIL fills pixel centers at integer coordinates; ours lie at + 0.5.
        draw.polygon(_flat(places, left, top), fill=1)
        for hole in polygon.holes:
            draw.polygon(_flat(hole / downsample - 0.5, left, top), fill=0)
        out[top:bottom, left:right] |= np.asarray(canvas)
    return out


def _flat(places: NDArray[np.float64], left: int, top: int) -> list[float]:
    # PIL drops the fraction, which must not depend on the window: -0.3 and 0.3 both become 0.
    return np.asarray(np.trunc(places) - (left, top)).ravel().tolist()


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
