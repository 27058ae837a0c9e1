"""Where the tissue is: a mask at about 8 µm per px, kept as outlines that a person can edit.

A pixel is tissue when it is stained (chroma of H&E) or dense and textured, and neither pen nor shadow. The rules use
optical density relative to the slide's own glass, so that yellowish glass and faint stitching do not count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage import measure

from .errors import TissueError, writing
from .slide import Slide
from .types import Polygon, ProgressCallback, TissueMask

METHOD = "survpgc-1"
_SPECK_UM2 = 4.0e4  # tissue pieces below 0.2 mm x 0.2 mm are dust
_HOLE_UM2 = 2.5e5  # holes below 0.5 mm x 0.5 mm (fat, lumina, tears) belong to the tissue
_MAX_GEOJSON_BYTES = 256 << 20


def find_tissue(
    slide: Slide, *, um_per_px: float = 8.0, progress: ProgressCallback | None = None
) -> TissueMask:
    """Outline the tissue of a slide.

    Parameters
    ----------
    um_per_px : resolution of the mask; without a pixel size the mask has about 2,000 px on its longer side.

    Raises
    ------
    TissueError : there is no tissue.   SlideError : the slide is damaged.
    """
    if progress:
        progress("tissue", 0, 1)
    info = slide.info
    longest = max(info.size)
    mpp = info.mpp
    max_px = round(longest * mpp / um_per_px) if mpp else 2000
    image = slide.thumbnail(max(64, min(max_px, longest)))
    downsample = longest / max(image.shape[:2])
    px_um = downsample * mpp if mpp else um_per_px
    mask = tissue_pixels(image, px_um)
    polygons = mask_polygons(mask, downsample, info.size)
    if progress:
        progress("tissue", 1, 1)
    if not polygons:
        raise TissueError(
            f"No tissue was found on {info.path.name}",
            "Check that it is an H&E slide, or outline the tissue yourself and give the outlines (--tissue F.geojson)",
        )
    return TissueMask(polygons, info.size, METHOD)


def tissue_pixels(image: NDArray[np.uint8], px_um: float) -> NDArray[np.bool_]:
    """Return the (h, w) tissue mask of a low-resolution RGB image.

    Parameters
    ----------
    px_um : µm per px of the image, for the sizes of specks and holes.
    """
    pixels = image.astype(np.float32)
    glass = _glass_color(pixels)
    density = np.log10((glass + 1) / (pixels + 1))
    smooth = ndimage.gaussian_filter(density, (1, 1, 0))
    red, green, blue = np.moveaxis(smooth, -1, 0)
    mean = smooth.mean(-1)
    # H&E absorbs green most: hematoxylin red > blue, eosin blue >= red. Gray dirt and shadow absorb all alike.
    chroma = green - np.minimum(red, blue)
    stained = (chroma > 0.028) & (green > 0.035) & (green >= 0.92 * red) & (green >= 0.85 * blue)
    # Crushed or very dark hematoxylin is nearly gray-blue but dense and rough, unlike a pen or a shadow.
    roughness = _local_sd(density.mean(-1), 2)
    dense = (mean > 0.14) & (mean < 0.75) & (roughness > 0.045) & (green >= 0.8 * red) & (green > blue * 0.9)
    mask = stained | dense
    pen = _pen(pixels)
    mask &= ~pen
    mask &= ~_straight_lines(mask, chroma)
    mask = ndimage.binary_closing(np.pad(mask, 8), iterations=max(1, round(16 / px_um)))[8:-8, 8:-8]
    mask = ndimage.binary_opening(mask & ~pen, iterations=1)
    return _drop_small(mask, _SPECK_UM2 / px_um**2, _HOLE_UM2 / px_um**2)


def _glass_color(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the color of bare glass: the most frequent of the bright, gray pixels; white when there are none."""
    flat = pixels[::2, ::2].reshape(-1, 3)
    spread = flat.max(1) - flat.min(1)
    bright = flat[(flat.min(1) > 185) & (spread < 26)]
    if len(bright) < 0.005 * len(flat):
        return np.array([245.0, 245.0, 245.0], np.float32)
    return np.percentile(bright, 70, axis=0).astype(np.float32)


def _local_sd(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    size = 2 * radius + 1
    mean = ndimage.uniform_filter(values, size)
    square = ndimage.uniform_filter(values * values, size)
    return np.sqrt(np.clip(square - mean * mean, 0, None))


def _pen(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return felt-tip marks of blue, green, red and black ink, grown a little: ink fades out at its edge."""
    red, green, blue = np.moveaxis(ndimage.gaussian_filter(pixels, (1, 1, 0)), -1, 0)
    darkest = np.minimum(np.minimum(red, green), blue)
    highest = np.maximum(np.maximum(red, green), blue)
    saturation = (highest - darkest) / np.maximum(highest, 1)
    # Hematoxylin is purple: its red stays within about 0.6 of its blue. Blue ink has much less red and more green.
    blue_ink = (blue > 1.18 * green) & (green > 1.12 * red) & (saturation > 0.28) & (blue - red > 45)
    green_ink = (green > 1.10 * red) & (green > 1.02 * blue) & (green - red > 12) & (saturation > 0.10)
    # Eosin and blood absorb green more than blue; red ink absorbs both alike and almost completely.
    red_ink = (red > 110) & (saturation > 0.55) & (np.abs(green - blue) < 0.16 * red) & (green < 115)
    black_ink = (highest < 75) & (saturation < 0.35)
    core = blue_ink | green_ink | red_ink | black_ink
    core = ndimage.binary_opening(core, iterations=2)  # single odd pixels are pigment or blood, not ink
    if not core.any():
        return core
    return ndimage.binary_dilation(core, iterations=5)


def _straight_lines(mask: NDArray[np.bool_], chroma: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return coverslip edges: long thin straight pieces along the rows or columns of the scan."""
    lines = np.zeros_like(mask)
    for axis in (0, 1):
        length = max(60, mask.shape[axis] // 3)
        size = (length, 1) if axis == 0 else (1, length)
        long_runs = ndimage.binary_opening(mask, structure=np.ones(size, bool))
        thick = ndimage.binary_opening(mask, structure=np.ones((9, 9), bool))
        lines |= long_runs & ~thick
    return ndimage.binary_dilation(lines, iterations=2) & (chroma < 0.12)


def _drop_small(mask: NDArray[np.bool_], speck_px: float, hole_px: float) -> NDArray[np.bool_]:
    for value, limit in ((True, speck_px), (False, hole_px)):
        labels, count = ndimage.label(mask == value)
        if count == 0:
            continue
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        small = areas < limit
        small[0] = False
        if not value:
            # A notch at the border of the picture is glass, not a hole.
            edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
            small[edge] = False
        mask = mask ^ small[labels]
    return mask


# --- outlines -----------------------------------------------------------------------------------------------


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
        rings.sort(key=lambda ring: -abs(_area(ring)))
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    return tuple(polygons)


def _area(ring: NDArray[np.float64]) -> float:
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


def write_geojson(mask: TissueMask, path: Path) -> None:
    """Write the outlines as QuPath annotations, level-0 px."""
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [_closed(ring) for ring in (polygon.exterior, *polygon.holes)],
            },
            "properties": {
                "objectType": "annotation",
                "name": "Tissue",
                "classification": {"name": "Tissue", "color": [0, 150, 200]},
                "method": mask.method,
            },
        }
        for polygon in mask.polygons
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _closed(ring: NDArray[np.float64]) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in (*ring, ring[0])]


def read_geojson(path: Path, size: tuple[int, int]) -> TissueMask:
    """Read outlines drawn by hand, e.g. exported from QuPath; points and lines are ignored.

    Parameters
    ----------
    size : (width, height) of the slide in level-0 px, to which the outlines must belong.

    Raises
    ------
    TissueError : no GeoJSON, no polygon in it, or a polygon outside the slide.
    """
    try:
        if path.stat().st_size > _MAX_GEOJSON_BYTES:
            raise TissueError(
                f"{path.name} is too large for tissue outlines", "Export fewer or simpler outlines"
            )
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        polygons = tuple(_rings_to_polygon(rings) for rings in _geometries(document))
    except OSError as error:
        raise TissueError(
            f"{path} cannot be read ({error.strerror})", "Check the name and the folder"
        ) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TissueError(
            f"{path.name} is not a GeoJSON file of outlines", "Export the outlines from QuPath as GeoJSON"
        ) from error
    if not polygons:
        raise TissueError(f"{path.name} holds no polygon", "Draw at least one closed outline around tissue")
    for polygon in polygons:
        low, high = polygon.exterior.min(0), polygon.exterior.max(0)
        # QuPath lets outlines reach a little over the edge.
        margin = 0.02 * max(size)
        if (low < -margin).any() or (high > np.array(size) + margin).any():
            raise TissueError(
                f"An outline in {path.name} lies outside the slide ({size[0]} x {size[1]} px)",
                "Check that the outlines belong to this slide and are in pixels of full resolution",
            )
    if sum(abs(_area(p.exterior)) for p in polygons) <= 0:
        raise TissueError(
            f"The outlines in {path.name} enclose nothing", "Draw closed outlines around tissue"
        )
    return TissueMask(polygons, size, "imported")


def _geometries(node: Any) -> Iterator[list[Any]]:
    """Yield the ring lists of all polygons in a GeoJSON document; a bare list is QuPath's older export."""
    if isinstance(node, list):
        for item in node:
            yield from _geometries(item)
        return
    kind = node["type"]
    if kind == "FeatureCollection":
        yield from _geometries(node["features"])
    elif kind == "Feature":
        if node["geometry"] is not None:
            yield from _geometries(node["geometry"])
    elif kind == "GeometryCollection":
        yield from _geometries(node["geometries"])
    elif kind == "Polygon":
        yield node["coordinates"]
    elif kind == "MultiPolygon":
        yield from node["coordinates"]
    elif kind not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise ValueError(f"unknown geometry {kind}")


def _rings_to_polygon(rings: list[Any]) -> Polygon:
    arrays = []
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points).all():
            raise ValueError("a ring is not a list of points")
        points = points[:, :2]
        if len(points) > 1 and (points[0] == points[-1]).all():
            points = points[:-1]
        if len(points) < 3:
            raise ValueError("a ring has fewer than three points")
        arrays.append(points)
    return Polygon(arrays[0], tuple(arrays[1:]))
