"""Changes of a small image layer that reach the screen in one draw of the canvas.

With slicing in the background napari sends every change to a thread and draws when it has come back: two draws for an
array that was at hand all the time. And its list of layers is laid out and painted anew for each event of any layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakSet

import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_survpgc.app.later import delayed

_SETTLED_MS = 200


@contextmanager
def at_once(*layers: Layer) -> Iterator[None]:
    """Let changes of these layers reach the canvas and their controls only: no thread, no list of layers.

    What the list shows of them (thumbnail, eye) is to be renewed later, see :class:`ListEntries`.
    """
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(layer.events.reload.blocker())
            stack.enter_context(layer.events.blocker())  # of who listens to all events: the list
        yield


def set_pixels(layer: Image, pixels: NDArray[np.generic]) -> None:
    """Show other pixels, of the same shape as before, in the next draw of the canvas."""
    if np.array_equal(layer.data, pixels):
        return
    layer.data[...] = pixels
    layer.set_view_slice()
    layer.events.set_data()


class ListEntries(QObject):
    """Brings napari's list of layers up to date once nothing has changed for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self._late: WeakSet[Layer] = WeakSet()
        self._timer = delayed(self, _SETTLED_MS, self._renew)

    def expect(self, layer: Layer) -> None:
        """The look of this layer has changed, or it was shown or hidden."""
        self._late.add(layer)
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()
        self._late.clear()

    def _renew(self) -> None:
        for layer in tuple(self._late):
            if layer.visible:
                layer.refresh(data_displayed=False, highlight=False, extent=False)
            else:
                layer.events.thumbnail()
        self._late.clear()
