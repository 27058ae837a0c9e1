"""Where the canvas looks: the whole slide, one patch, a magnification."""

from __future__ import annotations

from typing import Any

import napari

from napari_survpgc.app.session.session import Session

from .layer_data import um_per_px


class Camera:
    """Moves a viewer's camera over the open slide."""

    def __init__(self, viewer: napari.Viewer, session: Session) -> None:
        self.viewer, self.session = viewer, session
        self._fitted: tuple[float, ...] | None = None
        viewer.canvas.events.size.connect(self._refit)

    def close(self) -> None:
        self.viewer.canvas.events.size.disconnect(self._refit)

    def fit(self) -> None:
        """Show the whole slide."""
        if self.session.opened is None:
            return
        info = self.session.opened.slide.info
        x, y, width, height = info.bounds
        sx, sy = um_per_px(info)
        self.viewer.scene.camera.center = (0, (y + height / 2) * sy, (x + width / 2) * sx)
        canvas = self.viewer.canvas.size
        self.viewer.scene.camera.zoom = 0.95 * min(canvas[0] / (height * sy), canvas[1] / (width * sx))
        self._fitted = self._place()

    def _place(self) -> tuple[float, ...]:
        camera = self.viewer.scene.camera
        return (*camera.center, camera.zoom)

    def _refit(self, event: Any = None) -> None:
        """Keep showing the whole slide while the window takes its size, until the user moves."""
        if self._fitted is not None and self._fitted == self._place():
            self.fit()

    def magnify(self, power: float) -> None:
        """Show the slide as an objective of that power does: 40x is 0.25 µm a screen px."""
        self.viewer.scene.camera.zoom = power / 10.0

    @property
    def magnification(self) -> float:
        return float(self.viewer.scene.camera.zoom) * 10.0

    def fly_to(self, index: int, *, side_px: float = 220.0) -> None:
        """Center the camera on a patch, magnified so that it is about ``side_px`` screen px wide."""
        result, opened = self.session.result, self.session.opened
        if result is None or opened is None:
            return
        sx, sy = um_per_px(opened.slide.info)
        x, y = (float(v) for v in result.shown.coords[index])
        half = result.shown.patch_px_level0 / 2
        camera = self.viewer.scene.camera
        camera.center = (0, (y + half) * sy, (x + half) * sx)
        wanted = side_px / (2 * half * sx)
        if camera.zoom < wanted * 0.5 or camera.zoom > wanted * 3:
            camera.zoom = wanted
