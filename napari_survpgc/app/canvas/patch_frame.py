"""The frame around the selected patch, and which patch lies under the pointer."""

from __future__ import annotations

import numpy as np

from napari_survpgc.app.session.session import Session

from .layer_data import FRAME_PX, PATCH, patch_frames, um_per_px, units_of
from .spare_layers import SpareLayers


class PatchFrame:
    """Frames the session's selected patch, thinly its neighbors too."""

    def __init__(self, session: Session, layers: SpareLayers) -> None:
        self.session, self._layers = session, layers
        session.patch_selected.connect(self._show)
        session.result_changed.connect(self._result_changed)

    def _result_changed(self) -> None:
        if self.session.result is None:
            self._layers.put_back(PATCH)

    def _show(self, index: int) -> None:
        result, opened = self.session.result, self.session.opened
        if index < 0 or result is None or opened is None:
            self._layers.put_back(PATCH)
            return
        cells = result.maps.cells
        side = cells.side
        sx, sy = um_per_px(opened.slide.info)
        new = PATCH not in self._layers.used
        layer = self._layers.take(PATCH) if new else self._layers.used[PATCH]
        frames = patch_frames(
            {
                (int(cells.rows[n] - cells.rows[index]), int(cells.columns[n] - cells.columns[index]))
                for n in cells.neighbors(index)
            }
        )
        if frames.shape != layer.data.shape or not np.array_equal(frames, layer.data):
            layer.data = frames
        pixel = side / FRAME_PX
        x, y = result.shown.coords[index]
        if new:
            layer.units, layer.scale = units_of(opened.slide.info), (pixel * sy, pixel * sx)
        layer.translate = ((y - side + (pixel - 1) / 2) * sy, (x - side + (pixel - 1) / 2) * sx)
        if new:
            layer.visible = True

    def patch_at(self, world: tuple[float, ...]) -> int | None:
        """Return the patch under a point of the canvas (y, x in world units), or None."""
        result, opened = self.session.result, self.session.opened
        if result is None or opened is None:
            return None
        sx, sy = um_per_px(opened.slide.info)
        return result.maps.cells.at(world[-1] / sx + 0.5, world[-2] / sy + 0.5)
