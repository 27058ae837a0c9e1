"""Editing the outline of the tissue in the canvas: as shapes, or with a brush."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_survpgc.app.session.session import Session
from napari_survpgc.core.tissue.outlines import cut_out, mask_polygons, mended, rasterize
from napari_survpgc.core.types import Polygon, TissueMask

from .heatmaps import Heatmaps
from .layer_data import BRUSH, EDIT, HOLE_COLOR, OUTLINE_COLOR, um_per_px, units_of
from .spare_layers import SpareLayers

_BRUSH_UM = 8.0


class OutlineTools:
    """The layers that are drawn on while the outline is edited; what is drawn becomes the tissue only when it is taken.

    Attributes
    ----------
    shapes, brush : the layers, while there are any.
    """

    def __init__(self, session: Session, layers: SpareLayers, heatmaps: Heatmaps) -> None:
        self.viewer, self.session = layers.viewer, session
        self._layers, self._heatmaps = layers, heatmaps
        self.shapes: Shapes | None = None
        self.brush: Labels | None = None

    def put_away(self) -> None:
        """Remove both layers; the tissue stays as it was."""
        self._layers.remove(self.shapes, self.brush)

    def forget(self, layer: object) -> None:
        """A layer was removed from the viewer, by whomever."""
        if layer is self.shapes:
            self.shapes = None
        elif layer is self.brush:
            self.brush = None

    def edit_outlines(self) -> bool:
        """Show the outlines as shapes to edit, none when there is no tissue yet; False without a slide."""
        mask, opened = self.session.tissue, self.session.opened
        if opened is None:
            return False
        self._layers.remove(self.brush)
        self._heatmaps.hide()
        if self.shapes is None:
            sx, sy = um_per_px(opened.slide.info)
            rings, hole = [], []
            for polygon in mask.polygons if mask else ():
                for number, ring in enumerate((polygon.exterior, *polygon.holes)):
                    rings.append(np.stack([(ring[:, 1] - 0.5) * sy, (ring[:, 0] - 0.5) * sx], 1))
                    hole.append(number > 0)
            longest = max(opened.slide.info.size) * sx
            self.shapes = self._layers.add(
                Shapes(
                    rings or None,
                    ndim=2,
                    shape_type="polygon",
                    name=EDIT,
                    features={"hole": np.array(hole, bool)},
                    feature_defaults={"hole": False},
                    edge_width=longest * 0.002,
                    edge_color=np.array([HOLE_COLOR if h else OUTLINE_COLOR for h in hole])
                    if rings
                    else [OUTLINE_COLOR],
                    face_color="transparent",
                    units=units_of(opened.slide.info),
                    axis_labels=("y", "x"),
                )
            )
        self.viewer.layers.selection.active = self.shapes
        self.move_corners()
        return True

    def draw_area(self, *, hole: bool) -> None:
        """Let the next areas be drawn by hand: tissue, or a hole in it."""
        if self.shapes is None:
            return
        self.viewer.layers.selection.active = self.shapes
        self.shapes.selected_data = set()
        self.shapes.feature_defaults = {"hole": [hole]}
        self.shapes.current_edge_color = np.array(HOLE_COLOR if hole else OUTLINE_COLOR)
        self.shapes.mode = "add_polygon_lasso"

    def move_corners(self) -> None:
        if self.shapes is not None:
            self.viewer.layers.selection.active = self.shapes
            self.shapes.mode = "direct"

    def select_areas(self) -> None:
        if self.shapes is not None:
            self.viewer.layers.selection.active = self.shapes
            self.shapes.mode = "select"

    def delete_areas(self) -> None:
        if self.shapes is not None:
            self.shapes.remove_selected()

    def brush_mode(self, *, erase: bool) -> None:
        if self.brush is not None:
            self.viewer.layers.selection.active = self.brush
            self.brush.mode = "erase" if erase else "paint"

    def set_brush_size(self, size: int) -> None:
        if self.brush is not None:
            self.brush.brush_size = size

    def edit_with_brush(self) -> bool:
        """Show the tissue as a layer to paint on (about 8 µm a pixel); False without a slide."""
        mask, opened = self.session.tissue, self.session.opened
        if opened is None:
            return False
        info = opened.slide.info
        sx, sy = um_per_px(info)
        downsample = max(1.0, _BRUSH_UM / sx, max(info.size) / 4096)
        labels = rasterize(mask or TissueMask((), info.size, "edited"), downsample).astype(np.uint8)
        self._layers.remove(self.brush, self.shapes)
        self._heatmaps.hide()
        self.brush = self._layers.add(
            Labels(
                labels,
                name=BRUSH,
                opacity=0.35,
                scale=(downsample * sy, downsample * sx),
                translate=((downsample - 1) / 2 * sy, (downsample - 1) / 2 * sx),
                colormap=DirectLabelColormap(color_dict={None: (0, 0, 0, 0), 1: OUTLINE_COLOR}),
                units=units_of(opened.slide.info),
                axis_labels=("y", "x"),
                metadata={"downsample": downsample},
            )
        )
        self.brush.brush_size = 25
        self.brush.selected_label = 1
        self.brush.mode = "paint"
        self.viewer.layers.selection.active = self.brush
        return True

    def edited_tissue(self) -> TissueMask | None:
        """Return what was drawn: the brush layer when there is one, else the outlines; None when nothing is left."""
        opened = self.session.opened
        if opened is None:
            return None
        info = opened.slide.info
        if self.brush is not None:
            polygons = mask_polygons(
                np.asarray(self.brush.data) > 0, float(self.brush.metadata["downsample"]), info.size
            )
        elif self.shapes is not None:
            sx, sy = um_per_px(info)
            rings = [
                np.stack([ring[:, -1] / sx + 0.5, ring[:, -2] / sy + 0.5], 1).clip(0, info.size)
                for ring in (np.asarray(r, float) for r in self.shapes.data)
            ]
            flags = [bool(h) for h in self.shapes.features["hole"].fillna(False)]
            polygons = _with_holes(rings, flags)
        else:
            return None
        return TissueMask(polygons, info.size, "edited") if polygons else None


def _with_holes(rings: list[NDArray[np.float64]], hole: list[bool]) -> tuple[Polygon, ...]:
    """Cut the holes out of the outlines; what was drawn across itself is mended first."""
    drawn = [(Polygon(ring), h) for ring, h in zip(rings, hole, strict=True) if len(ring) >= 3]
    outlines = [part for polygon, is_hole in drawn if not is_hole for part in mended(polygon)]
    return cut_out(outlines, [polygon for polygon, is_hole in drawn if is_hole])
