"""Core nouns as data of napari layers: places, colors and empty layers; in micrometres where the pixel size is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import matplotlib
import napari
import numpy as np
from napari.layers import Image, Layer
from napari.utils.colormaps import Colormap
from numpy.typing import NDArray

from napari_survpgc.app.session.state import OpenedSlide
from napari_survpgc.core.attention.maps import DIFFERENCE, MapScale, PatchCells
from napari_survpgc.core.slide.tiles import tiled_levels
from napari_survpgc.core.types import SlideInfo

MAPS = {"clinic": "Clinic attention", "genomic": "Genomic attention", DIFFERENCE: "Clinic - genomic"}
TISSUE, EDIT, BRUSH, PATCH = "Tissue outline", "Edit outline", "Tissue brush", "Selected patch"
OUTLINE_COLOR, HOLE_COLOR = (0.0, 0.35, 0.65, 1.0), (0.3, 0.3, 0.3, 1.0)
COLORMAPS = ("cividis", "viridis", "magma", "inferno", "plasma", "turbo", "gray")
"""The first is the default: the same order of brightness for color-blind readers and in print."""
FRAME_PX = 64
NOTHING = np.zeros((2, 2), np.float32)
KEY = "napari_survpgc"


def slide_layer(opened: OpenedSlide) -> tuple[list[Any], dict[str, Any], str]:
    """Return the napari layer data of an open slide: lazy, multiscale, in µm (in px while the pixel size is unknown)."""
    info = opened.slide.info
    scale = um_per_px(info)
    return (
        list(tiled_levels(opened.tiles)),
        {
            "name": info.path.stem,
            "rgb": True,
            "multiscale": True,
            "scale": (scale[1], scale[0]),
            "units": units_of(info),
            "axis_labels": ("y", "x"),
            "metadata": {KEY: opened},
        },
        "image",
    )


def show_scale_bar(viewer: napari.Viewer, *, known: bool = True) -> None:
    """Show napari's scale bar, readable on tissue, glass and the dark canvas; none where the size is not known."""
    bar = viewer.canvas.overlays.scale_bar
    bar.visible = known
    bar.colored = True
    bar.color = "black"
    bar.box = True
    bar.box_color = (1, 1, 1, 0.7)


def um_per_px(info: SlideInfo) -> tuple[float, float]:
    """World units a level-0 px in x and y."""
    return (info.mpp_x or 1.0, info.mpp_y or 1.0) if info.mpp else (1.0, 1.0)


def units_of(info: SlideInfo) -> tuple[str, str]:
    """One unit for all layers of a slide: napari drops the units of all when they differ."""
    return ("um", "um") if info.mpp else ("pixel", "pixel")


def map_place(cells: PatchCells, info: SlideInfo) -> dict[str, Any]:
    """Return scale and shift of a grid image of one cell a patch; napari places pixel centers."""
    sx, sy = um_per_px(info)
    side = cells.side
    return {
        "scale": (side * sy, side * sx),
        "translate": ((cells.origin[1] + (side - 1) / 2) * sy, (cells.origin[0] + (side - 1) / 2) * sx),
        "units": units_of(info),
        "axis_labels": ("y", "x"),
    }


@dataclass
class MapView:
    """How the maps are looked at; what the Maps panel sets.

    Attributes
    ----------
    rows : map -> row of its matrix, None for the mean of all.   threshold : 0-1 of the scale's range.
    """

    scale: MapScale = MapScale.PERCENTILE
    colormap: str = COLORMAPS[0]
    opacity: float = 0.55
    threshold: float = 0.0
    rows: dict[str, int | None] = field(default_factory=lambda: {"clinic": None, "genomic": None})


def patch_frames(neighbors: set[tuple[int, int]]) -> NDArray[np.uint8]:
    """Return an RGBA picture of 3 x 3 patches: the middle one framed, and thinly those of ``neighbors`` that exist.

    A picture, because napari takes 60-130 ms to draw other polygons, and a few for another place of a picture.

    Parameters
    ----------
    neighbors : (row, column) of each neighbor relative to the middle, -1 to 1.
    """
    pixels = np.zeros((3 * FRAME_PX, 3 * FRAME_PX, 4), np.uint8)
    for row, column in sorted(neighbors):
        _frame(pixels, row, column, 1, (255, 255, 255, 205))
    _frame(pixels, 0, 0, 3, (230, 26, 153, 255))
    return pixels


def _frame(
    pixels: NDArray[np.uint8], row: int, column: int, width: int, color: tuple[int, int, int, int]
) -> None:
    top, left = (row + 1) * FRAME_PX, (column + 1) * FRAME_PX
    cell = pixels[top : top + FRAME_PX, left : left + FRAME_PX]
    inner = np.zeros(cell.shape[:2], bool)
    inner[width:-width, width:-width] = True
    cell[~inner] = color


def empty_layer(name: str, units: tuple[Any, ...]) -> Layer:
    """Return a hidden layer for the outline of the tissue, a heatmap or the selected patch."""
    common = {"visible": False, "units": units, "axis_labels": ("y", "x")}
    look: dict[str, Any]
    if name == PATCH:
        return Image(patch_frames(set()), rgb=True, name=PATCH, interpolation2d="nearest", **common)
    if name == TISSUE:
        colors = Colormap([OUTLINE_COLOR, OUTLINE_COLOR], name="survpgc outline", low_color=(0, 0, 0, 0))
        look = {"name": TISSUE, "colormap": colors, "contrast_limits": (0.5, 1)}
    else:
        look = {"name": MAPS[name], "contrast_limits": (0, 1)}
    return Image(NOTHING, blending="translucent_no_depth", interpolation2d="nearest", **look, **common)


@cache
def overlay_colormap(name: str) -> Colormap:
    """Return a matplotlib colormap whose values below the lower limit are transparent."""
    colors = matplotlib.colormaps[name](np.linspace(0, 1, 256))
    return Colormap(colors, name=f"survpgc {name}", low_color=(0, 0, 0, 0))
