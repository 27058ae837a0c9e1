"""The attention maps over the slide: which are shown, painted in which scale, colors and opacity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_survpgc.app.session.session import Session
from napari_survpgc.core.attention.maps import DIFFERENCE

from .layer_data import NOTHING, MapView, map_place, overlay_colormap
from .repaint import ListEntries, at_once, set_pixels
from .spare_layers import SpareLayers

_DIVERGING = "PuOr_r"


class Heatmaps:
    """Keeps the maps in step with the session's result.

    Attributes
    ----------
    maps : name -> layer, while there is a result; always the same dictionary.
    view : how they are looked at; :meth:`paint` after a change.
    changed : called when a map was shown, hidden or painted.
    """

    def __init__(self, session: Session, layers: SpareLayers) -> None:
        self.session, self._layers = session, layers
        self.view = MapView()
        self.maps: dict[str, Image] = {}
        self.changed: list[Callable[[], None]] = []
        self._entries = ListEntries()
        self._hidden: list[str] = []  # while the outline is edited
        session.result_changed.connect(self._show_result)

    def close(self) -> None:
        self._entries.stop()

    def forget(self, layer: Layer) -> None:
        """The user has removed a layer."""
        for name in [name for name, kept in self.maps.items() if kept is layer]:
            del self.maps[name]

    def put_back(self, names: Iterable[str] | None = None) -> None:
        """Hide these maps, or all, until the next result."""
        for name in tuple(self.maps if names is None else names):
            self.maps.pop(name).events.visible.disconnect(self._tell)
            self._layers.put_back(name)

    def _show_result(self) -> None:
        result = self.session.result
        if result is None:
            self.put_back()
            return
        names = [*result.maps.names, *([DIFFERENCE] if len(result.maps.names) == 2 else [])]
        first = not self.maps
        self.put_back([name for name in self.maps if name not in names])
        for name in names:
            if name not in self.maps:
                visible = first and name == names[0]
                self._layers.queue(lambda n=name, v=visible: self._add_map(n, visible=v))  # type: ignore[misc]
        self.paint()

    def _add_map(self, name: str, *, visible: bool) -> None:
        result, opened = self.session.result, self.session.opened
        if result is None or opened is None or name in self.maps:
            return
        layer = self._layers.take(name)
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

    def show(self, name: str, visible: bool) -> None:
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

    def topmost(self) -> str | None:
        """Return the topmost map that is shown."""
        shown = [name for name, layer in self.maps.items() if layer.visible]
        return shown[-1] if shown else None

    def _tell(self, event: Any = None) -> None:
        if event is not None:
            # Shown by napari's own eye button: it may be of an earlier prediction.
            name = next((n for n, layer in self.maps.items() if layer is event.source), None)
            if name is not None and self.maps[name].visible:
                self._paint(name, self.maps[name])
        for listener in self.changed:
            listener()

    def hide(self) -> None:
        """Show the tissue as it is while its outline is edited."""
        shown = [name for name, layer in self.maps.items() if layer.visible]
        self._hidden += [name for name in shown if name not in self._hidden]
        for name in shown:
            self.show(name, False)

    def show_hidden(self) -> None:
        """Show again what :meth:`hide` has hidden."""
        hidden, self._hidden = self._hidden, []
        for name in hidden:
            self.show(name, True)
