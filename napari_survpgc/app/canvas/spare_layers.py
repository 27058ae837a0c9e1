"""The layers of a case come and go as seldom as they can: napari blocks the window for 0.1-0.3 s for each new one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import napari
from napari.layers import Image, Layer
from qtpy.QtCore import QTimer

from .layer_data import MAPS, NOTHING, PATCH, TISSUE, empty_layer

_BETWEEN_MS = 20


class SpareLayers:
    """Adds and removes what a case shows, and keeps the layers that outlive it hidden in the viewer.

    Attributes
    ----------
    changing : a layer is being added or removed by the case, not by the user.
    used : name -> layer, those that were taken and not put back.

    Parameters
    ----------
    slide : returns the layer of the slide, which stays the selected one.
    """

    def __init__(self, viewer: napari.Viewer, slide: Callable[[], Image | None]) -> None:
        self.viewer, self._slide = viewer, slide
        self.changing = False
        self.used: dict[str, Any] = {}
        self._spare: dict[str, Layer] = {}
        self._waiting: deque[Callable[[], object]] = deque()
        self._turn = QTimer()
        self._turn.setSingleShot(True)
        self._turn.timeout.connect(self._next)
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._turn.stop()
        self._turn.timeout.disconnect(self._next)

    def add(self, layer: Layer, at: int | None = None) -> Any:
        self.changing = True
        try:
            if at is None:
                self.viewer.add_layer(layer)
            else:
                self.viewer.layers.insert(at, layer)
        finally:
            self.changing = False
        return layer

    def remove(self, *layers: Layer | None) -> None:
        self.changing = True
        try:
            for layer in layers:
                if layer is not None and layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        finally:
            self.changing = False

    def prepare(self) -> None:
        """Make the layers of a result before there is one."""
        for name in (TISSUE, *MAPS, PATCH):
            if name not in self._spare:
                self.queue(lambda n=name: self._make(n))  # type: ignore[misc]

    def _make(self, name: str) -> None:
        if name in self._spare or name in self.used:
            return
        slide = self._slide()
        self._spare[name] = self.add(empty_layer(name, slide.units if slide is not None else ("um", "um")))
        self.select_slide()

    def take(self, name: str) -> Any:
        """Return a layer for this use: a spare one, or a new one when the user has deleted it."""
        self._make(name)
        layer = self.used[name] = self._spare.pop(name)
        return layer

    def put_back(self, name: str) -> None:
        """Hide a layer until its next use."""
        layer = self.used.pop(name, None)
        if layer is None:
            return
        layer.visible = False
        if name != PATCH:
            layer.data = NOTHING
        self._spare[name] = layer

    def forget(self, layer: Layer) -> None:
        """The user has removed a layer."""
        for layers in (self.used, self._spare):
            for name in [name for name, kept in layers.items() if kept is layer]:
                del layers[name]

    def set_units(self, units: tuple[Any, ...]) -> None:
        """Give the waiting layers the slide's unit, before it is drawn: napari drops all units when they differ."""
        for layer in self._spare.values():
            if layer.units != units:
                layer.units = units

    def select_slide(self) -> None:
        """Select the slide: the next drag in the canvas pans and edits nothing."""
        slide = self._slide()
        if slide is not None and slide in self.viewer.layers:
            self.viewer.layers.selection.active = slide

    def queue(self, step: Callable[[], object]) -> None:
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
