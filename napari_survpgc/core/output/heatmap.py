"""Attention percentiles over the slide, as a figure and as pixels."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from napari_survpgc.core.attention.scores import score_grid

from .plots import HEATMAP_COLORS, RESEARCH


def heatmap_figure(
    thumbnail: NDArray[np.uint8],
    slide_size: tuple[int, int],
    coords: ArrayLike,
    percentiles: ArrayLike,
    patch_px_level0: float,
    *,
    title: str,
    mpp: float | None,
    opacity: float = 0.55,
    colors: str = HEATMAP_COLORS,
) -> Figure:
    """Lay percentile colors over the thumbnail: one cell a patch, no smoothing, with color bar and scale bar.

    Parameters
    ----------
    thumbnail : (h, w, 3) of the whole slide.   slide_size : (width, height) level-0 px.
    """
    blended = heatmap_image(thumbnail, slide_size, coords, percentiles, patch_px_level0, opacity, colors)
    height, width = blended.shape[:2]
    dpi = 100
    figure = Figure(figsize=(width / dpi + 1.5, height / dpi + 0.9), dpi=dpi, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(blended, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=13, loc="left")
    scale = ScalarMappable(Normalize(0, 100), colormaps[colors])
    bar = figure.colorbar(scale, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label("Percentile of attention among the patches of this slide", fontsize=10)
    if mpp:
        _scale_bar(axes, width, height, slide_size[0] / width * mpp)
    caption = f"{RESEARCH}. Attention shows where the model looks, not why."
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=9)
    return figure


def heatmap_image(
    thumbnail: NDArray[np.uint8],
    slide_size: tuple[int, int],
    coords: ArrayLike,
    percentiles: ArrayLike,
    patch_px_level0: float,
    opacity: float = 0.55,
    colors: str = HEATMAP_COLORS,
) -> NDArray[np.uint8]:
    """Return the thumbnail (h, w, 3) with the colored patches laid over it."""
    grid = score_grid(coords, np.asarray(percentiles, float), patch_px_level0)
    height, width = thumbnail.shape[:2]
    scale = width / slide_size[0]
    # Which cell each thumbnail pixel lies in.
    x = ((np.arange(width) + 0.5) / scale - grid.origin[0]) / grid.cell
    y = ((np.arange(height) + 0.5) / scale - grid.origin[1]) / grid.cell
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = ((rows >= 0) & (rows < grid.values.shape[0]))[:, None] & (
        (columns >= 0) & (columns < grid.values.shape[1])
    )
    values = grid.values[
        np.clip(rows, 0, grid.values.shape[0] - 1)[:, None], np.clip(columns, 0, grid.values.shape[1] - 1)
    ]
    shown = inside & np.isfinite(values)
    tint = colormaps[colors](np.where(shown, values, 0) / 100)[..., :3] * 255
    weight = np.where(shown, opacity, 0.0)[..., None]
    return np.rint(thumbnail * (1 - weight) + tint * weight).astype(np.uint8)


def _scale_bar(axes: Axes, width: int, height: int, um_per_px: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten, about a fifth of the width."""
    target = width * um_per_px / 5
    power = 10 ** math.floor(math.log10(target))
    length = max(n * power for n in (1, 2, 5) if n * power <= target)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    x, y = width * 0.03, height * 0.97
    axes.plot([x, x + length / um_per_px], [y, y], color="black", lw=4, solid_capstyle="butt")
    axes.text(x, y - height * 0.012, text, fontsize=11, va="bottom")
