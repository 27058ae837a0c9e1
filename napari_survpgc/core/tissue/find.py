"""Where the tissue is: a mask at about 8 µm per px, kept as outlines that a person can edit.

A pixel is tissue when it is stained (chroma of H&E) or dense and textured, and neither pen nor shadow. The rules use
optical density relative to the slide's own glass, so that yellowish glass and faint stitching do not count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_survpgc.core.errors import TissueError
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import ProgressCallback, TissueMask

from .outlines import mask_polygons

METHOD = "survpgc-1"
_SPECK_UM2 = 4.0e4  # tissue pieces below 0.2 mm x 0.2 mm are dust
_HOLE_UM2 = 2.5e5  # holes below 0.5 mm x 0.5 mm (fat, lumina, tears) belong to the tissue


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
