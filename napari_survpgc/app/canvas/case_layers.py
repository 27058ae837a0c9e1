"""The open case as napari layers: slide, heatmaps, tissue, the selected patch. All in micrometres."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import napari
import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_survpgc.app.canvas.layer_data import PATCH, TISSUE
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import OpenedSlide
from napari_survpgc.core.attention.maps import DIFFERENCE
from napari_survpgc.core.tissue.outlines import outline_image
from napari_survpgc.core.types import TissueMask

from .layer_data import (
    FRAME_PX,
    KEY,
    MAPS,
    NOTHING,
    MapView,
    empty_layer,
    map_place,
    overlay_colormap,
    patch_frames,
    show_scale_bar,
    slide_layer,
    um_per_px,
    units_of,
)
from .outline_tools import OutlineTools
from .repaint import ListEntries, at_once, set_pixels

INVITATION = (
    "Drop a slide here, or press Open slide at the right.\n\nNo slide at hand? File > Open Sample > SurvPGC"
)
_BETWEEN_MS = 20
_DIVERGING = "PuOr_r"


class CaseLayers:
    """Keeps a viewer's layers in step with a session. Lives on the GUI thread."""

    def __init__(self, viewer: napari.Viewer, session: Session) -> None:
        self.viewer, self.session = viewer, session
        self.view = MapView()
        self.slide: Image | None = None
        self.maps: dict[str, Image] = {}
        self.tools = OutlineTools(self)
        self.outline: Image | None = None
        self._spare: dict[str, Layer] = {}  # name -> hidden layer without a case
        self._waiting: deque[Callable[[], object]] = deque()
        self._turn = QTimer()
        self._turn.setSingleShot(True)
        self._turn.timeout.connect(self._next)
        self._entries = ListEntries()
        self.patch: Image | None = None
        self._hidden: list[str] = []  # maps, while the outline is edited
        self.show_tissue = True
        self.map_changed: list[Callable[[], None]] = []
        self._inserting = False
        self._closed = False
        session.slide_changed.connect(self._show_slide)
        session.tissue_changed.connect(self._show_tissue)
        session.result_changed.connect(self._show_result)
        session.patch_selected.connect(self._show_patch)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.canvas.events.size.connect(self._refit)
        viewer.layers.events.inserted.connect(self._invite)
        viewer.layers.events.removed.connect(self._invite)
        self._invite()
        self._fitted: tuple[float, ...] | None = None

    def _invite(self, event: Any = None) -> None:
        """Say on the empty canvas how to begin: napari's own welcome goes with the first layer, even a hidden one."""
        text = self.viewer.canvas.overlays.text
        empty = self.slide is None and not any(layer.visible for layer in self.viewer.layers)
        if empty:
            text.text, text.font_size, text.position = INVITATION, 13, "middle_center"
        if text.text == INVITATION and text.visible != empty:
            text.visible = empty

    def close(self) -> None:
        self._closed = True
        self.viewer.layers.events.inserted.disconnect(self._invite)
        self.viewer.layers.events.removed.disconnect(self._invite)
        self._waiting.clear()
        self._turn.stop()
        self._turn.timeout.disconnect(self._next)
        self._entries.stop()
        self.viewer.canvas.events.size.disconnect(self._refit)
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_removed)

    # --- slide ---------------------------------------------------------------------------------------------

    def _show_slide(self) -> None:
        opened = self.session.opened
        if self.slide is not None and self.slide.metadata.get(KEY) is opened and opened is not None:
            return  # a layer that the reader made
        self._empty()
        self.remove(self.slide)
        self.slide = None
        if opened is None:
            self._invite()
            return
        levels, attributes, _ = slide_layer(opened)
        slide = Image(levels, **attributes)
        self._one_unit(slide.units)
        self.slide = self.add(slide, at=0)
        self._invite()
        self.fit()
        self._scale_bar()

    def _one_unit(self, units: tuple[Any, ...]) -> None:
        """Give the waiting layers the slide's unit, before it is drawn: napari drops all units when they differ."""
        for layer in self._spare.values():
            if layer.units != units:
                layer.units = units

    def _scale_bar(self) -> None:
        opened = self.session.opened
        show_scale_bar(self.viewer, known=opened is not None and opened.slide.info.mpp is not None)

    def fit(self) -> None:
        """Show the whole slide."""
        if self.slide is None or self.session.opened is None:
            return
        info = self.session.opened.slide.info
        x, y, width, height = info.bounds
        sx, sy = um_per_px(info)
        self.viewer.scene.camera.center = (0, (y + height / 2) * sy, (x + width / 2) * sx)
        canvas = self.viewer.canvas.size
        self.viewer.scene.camera.zoom = 0.95 * min(canvas[0] / (height * sy), canvas[1] / (width * sx))
        self._fitted = self._camera()

    def _camera(self) -> tuple[float, ...]:
        camera = self.viewer.scene.camera
        return (*camera.center, camera.zoom)

    def _refit(self, event: Any = None) -> None:
        """Keep showing the whole slide while the window takes its size, until the user moves."""
        if self._fitted is not None and self._fitted == self._camera():
            self.fit()

    def magnify(self, power: float) -> None:
        """Show the slide as an objective of that power does: 40x is 0.25 µm a screen px."""
        self.viewer.scene.camera.zoom = power / 10.0

    @property
    def magnification(self) -> float:
        return float(self.viewer.scene.camera.zoom) * 10.0

    def _on_inserted(self, event: Any) -> None:
        if not self._inserting:
            self.adopt_layer(event.value)

    def adopt_layer(self, layer: Layer) -> None:
        """Make a slide that was opened by File > Open or drag and drop the case; other layers are left alone."""
        opened = layer.metadata.get(KEY)
        if not isinstance(opened, OpenedSlide):
            return
        old, self.slide = self.slide, layer
        self._invite()
        self._empty()
        self.remove(old)
        self.viewer.layers.move(self.viewer.layers.index(layer), 0)
        self.session.adopt(opened)
        self._one_unit(layer.units)
        self._scale_bar()
        self.fit()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        self.tools.forget(layer)
        if self._inserting:
            return
        if layer is self.slide:
            self.slide = None
            self._invite()
            self.session.close_slide()
        elif layer is self.outline:
            self.outline = None
        elif layer is self.patch:
            self.patch = None
        else:
            self.maps = {name: kept for name, kept in self.maps.items() if kept is not layer}
            self._spare = {name: kept for name, kept in self._spare.items() if kept is not layer}

    def add(self, layer: Layer, at: int | None = None) -> Any:
        self._inserting = True
        try:
            if at is None:
                self.viewer.add_layer(layer)
            else:
                self.viewer.layers.insert(at, layer)
        finally:
            self._inserting = False
        return layer

    def remove(self, *layers: Layer | None) -> None:
        self._inserting = True
        try:
            for layer in layers:
                if layer is not None and layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        finally:
            self._inserting = False

    # --- layers that outlive a case ------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the layers of a result before there is one: napari blocks the window for 0.1-0.3 s for each."""
        for name in (TISSUE, *MAPS, PATCH):
            if name not in self._spare:
                self._queue(lambda n=name: self._keep(n))  # type: ignore[misc]

    def _keep(self, name: str) -> None:
        if name in self._spare or self._in_use(name):
            return
        units = self.slide.units if self.slide is not None else ("um", "um")
        self._spare[name] = self.add(empty_layer(name, units))
        self._back_to_slide()

    def _in_use(self, name: str) -> bool:
        return (
            name in self.maps
            or (name == TISSUE and self.outline is not None)
            or (name == PATCH and self.patch is not None)
        )

    def _take(self, name: str) -> Any:
        """Return a layer for this use: a spare one, or a new one when the user has deleted it."""
        if name not in self._spare:
            self._keep(name)
        return self._spare.pop(name)

    def _put_back(self, name: str, layer: Layer | None) -> None:
        if layer is None:
            return
        layer.visible = False
        if name in MAPS or name == TISSUE:
            layer.data = NOTHING
        self._spare[name] = layer

    def _empty(self) -> None:
        """Hide what belongs to a case."""
        self._put_back_maps(self.maps)
        self._put_back(TISSUE, self.outline)
        self._put_back(PATCH, self.patch)
        self.outline = self.patch = None
        self.tools.put_away()

    def _put_back_maps(self, names: Iterable[str]) -> None:
        for name in tuple(names):
            layer = self.maps.pop(name)
            layer.events.visible.disconnect(self._tell)
            self._put_back(name, layer)

    # --- heatmaps ------------------------------------------------------------------------------------------

    def _show_result(self) -> None:
        result = self.session.result
        if result is None:
            self._put_back_maps(self.maps)
            self._hide_patch()
            return
        names = [*result.maps.names, *([DIFFERENCE] if len(result.maps.names) == 2 else [])]
        first = not self.maps
        self._put_back_maps([name for name in self.maps if name not in names])
        for name in names:
            if name not in self.maps:
                visible = first and name == names[0]
                self._queue(lambda n=name, v=visible: self._add_map(n, visible=v))  # type: ignore[misc]
        self.paint()

    def _queue(self, step: Callable[[], object]) -> None:
        """Do this on a later turn of the event loop, with time between the steps for what the user does."""
        self._waiting.append(step)
        if len(self._waiting) == 1:
            self._turn.start(0)

    def _next(self) -> None:
        if self._closed or not self._waiting:
            return
        try:
            self._waiting[0]()
        finally:
            if self._waiting:
                self._waiting.popleft()
            if self._waiting:
                self._turn.start(_BETWEEN_MS)

    def _add_map(self, name: str, *, visible: bool) -> None:
        result, opened = self.session.result, self.session.opened
        if result is None or opened is None or name in self.maps:
            return
        layer = self._take(name)
        place = map_place(result.maps.cells, opened.slide.info)
        layer.units, layer.scale, layer.translate = place["units"], place["scale"], place["translate"]
        self.maps[name] = layer
        if visible:
            self._paint(name, layer)
            self._set_visible(layer, True)
        layer.events.visible.connect(self._tell)
        self._tell()

    def paint(self, only: str | None = None) -> None:
        """Paint the visible maps anew, or one of them; hidden ones when they are shown."""
        for name, layer in self.maps.items():
            if layer.visible and only in (None, name):
                self._paint(name, layer)
        self._tell()

    def _paint(self, name: str, layer: Image) -> None:
        with at_once(layer):
            self._paint_now(name, layer)
        self._entries.expect(layer)

    def _paint_now(self, name: str, layer: Image) -> None:
        result, opened = self.session.result, self.session.opened
        if result is None or opened is None:
            return
        found = result.maps.values(name, self.view.rows.get(name), self.view.scale)
        span = found.high - found.low
        outside = found.low - span  # below every threshold: painted with low_color, fully transparent
        image = result.maps.cells.image(found.values, outside)
        lower = found.low + self.view.threshold * span
        limits = (min(lower, found.high - 1e-3 * span), found.high)
        if layer.data is not NOTHING and layer.data.shape == image.shape:
            # The same patches: napari need not ask for extent, dims and sliders again.
            set_pixels(layer, image)
        else:
            layer.data = image
            layer.set_view_slice()
            layer.events.set_data()
        place = map_place(result.maps.cells, opened.slide.info)
        if not np.allclose(layer.translate, place["translate"]) or not np.allclose(
            layer.scale, place["scale"]
        ):
            # Other patches: a run with another outline.
            layer.scale, layer.translate = place["scale"], place["translate"]
        # Each of these tells napari's own panels; say only what is new.
        if tuple(layer.contrast_limits_range) != (outside, found.high):
            layer.contrast_limits_range = (outside, found.high)
        if tuple(layer.contrast_limits) != limits:
            layer.contrast_limits = limits
        wanted = _DIVERGING if name == DIFFERENCE else self.view.colormap
        if layer.colormap.name != f"survpgc {wanted}":
            layer.colormap = overlay_colormap(wanted)
        if layer.opacity != self.view.opacity:
            layer.opacity = self.view.opacity

    def set_opacity(self, opacity: float) -> None:
        """How much of the slide the maps cover, 0-1."""
        self.view.opacity = opacity
        for layer in self.maps.values():
            with at_once(layer):
                layer.opacity = opacity
            self._entries.expect(layer)

    def show_map(self, name: str, visible: bool) -> None:
        """Show or hide one map."""
        if name in self.maps:
            layer = self.maps[name]
            if layer.visible == visible:
                return
            if visible:
                self._paint(name, layer)
            self._set_visible(layer, visible)

    def _set_visible(self, layer: Image, visible: bool) -> None:
        with at_once(layer):
            layer.visible = visible
        self._entries.expect(layer)

    def visible_map(self) -> str | None:
        """Return the topmost map that is shown."""
        shown = [name for name, layer in self.maps.items() if layer.visible]
        return shown[-1] if shown else None

    def _tell(self, event: Any = None) -> None:
        if event is not None:
            # Shown by napari's own eye button: it may be of an earlier prediction.
            name = next((n for n, layer in self.maps.items() if layer is event.source), None)
            if name is not None and self.maps[name].visible:
                self._paint(name, self.maps[name])
        for listener in self.map_changed:
            listener()

    # --- patches -------------------------------------------------------------------------------------------

    def _show_patch(self, index: int) -> None:
        result, opened = self.session.result, self.session.opened
        if index < 0 or result is None or opened is None:
            self._hide_patch()
            return
        cells = result.maps.cells
        side = cells.side
        sx, sy = um_per_px(opened.slide.info)
        new = self.patch is None
        layer = self._take(PATCH) if self.patch is None else self.patch
        self.patch = layer
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

    def _hide_patch(self) -> None:
        self._put_back(PATCH, self.patch)
        self.patch = None

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

    def patch_at(self, world: tuple[float, ...]) -> int | None:
        """Return the patch under a point of the canvas (y, x in world units), or None."""
        result, opened = self.session.result, self.session.opened
        if result is None or opened is None:
            return None
        sx, sy = um_per_px(opened.slide.info)
        return result.maps.cells.at(world[-1] / sx + 0.5, world[-2] / sy + 0.5)

    # --- tissue --------------------------------------------------------------------------------------------

    def _show_tissue(self) -> None:
        self.stop_editing()
        self._put_back(TISSUE, self.outline)
        self.outline = None
        mask, opened = self.session.tissue, self.session.opened
        if mask is None or opened is None:
            return

        def show(drawn: tuple[NDArray[np.uint8], float]) -> None:
            if self.session.tissue is mask and self.session.opened is opened and self.outline is None:
                self._queue(lambda: self._add_outline(mask, *drawn))

        # Shapes of thousands of corners take napari seconds (napari issue 8399): shapes only for editing.
        self.session.start(lambda progress: outline_image(mask), "outline", show, shown=False, of_slide=True)

    def _add_outline(self, mask: TissueMask, pixels: NDArray[np.uint8], downsample: float) -> None:
        opened = self.session.opened
        if opened is None or self.session.tissue is not mask:
            return
        sx, sy = um_per_px(opened.slide.info)
        self.outline = layer = self._take(TISSUE)
        layer.data = pixels
        layer.units = units_of(opened.slide.info)
        layer.scale = (downsample * sy, downsample * sx)
        layer.translate = ((downsample - 1) / 2 * sy, (downsample - 1) / 2 * sx)
        layer.visible = self.show_tissue

    def _back_to_slide(self) -> None:
        """Select the slide: the next drag in the canvas pans and edits nothing."""
        if self.slide is not None and self.slide in self.viewer.layers:
            self.viewer.layers.selection.active = self.slide

    def set_tissue_visible(self, visible: bool) -> None:
        self.show_tissue = visible
        if self.outline is not None:
            self.outline.visible = visible

    def hide_maps(self) -> None:
        """Show the tissue as it is while its outline is edited."""
        shown = [name for name, layer in self.maps.items() if layer.visible]
        self._hidden += [name for name in shown if name not in self._hidden]
        for name in shown:
            self.show_map(name, False)

    def stop_editing(self) -> None:
        """Put the tools for editing away, and show the maps again; the tissue stays as it was."""
        self.tools.put_away()
        hidden, self._hidden = self._hidden, []
        for name in hidden:
            self.show_map(name, True)
        self._back_to_slide()
