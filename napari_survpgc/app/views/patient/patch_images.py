"""Patches read from the slide on threads, for the galleries."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QImage, QPixmap

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import OpenedSlide
from napari_survpgc.app.workers import Latest
from napari_survpgc.core.errors import SlideError

READ_PX = 128


_KEEP = 2000


_BETWEEN_SECONDS = 0.12


class PatchImages(QObject):
    """Small pictures of patches, read on a thread and kept."""

    arrived = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._kept: OrderedDict[int, QPixmap] = OrderedDict()
        self._read: list[tuple[int, NDArray[np.uint8]]] = []
        self._lock = threading.Lock()
        self._reader = Latest("patch images")
        self._reader.answered.connect(self._take)
        self._reader.failed.connect(session.report)
        self._generation = 0
        session.slide_changed.connect(self.clear)

    def close(self) -> None:
        self._generation += 1
        self._reader.close()

    def clear(self) -> None:
        self._generation += 1
        self._kept.clear()
        with self._lock:
            self._read.clear()

    def get(self, index: int) -> QPixmap | None:
        pixmap = self._kept.get(index)
        if pixmap is not None:
            self._kept.move_to_end(index)
        return pixmap

    def want(self, indices: list[int]) -> None:
        """Read those that are not there yet, in this order."""
        opened, result = self.session.opened, self.session.result
        missing = [i for i in indices if i not in self._kept]
        if not missing or opened is None or result is None:
            return
        coords, side = result.shown.coords, result.shown.patch_px_level0
        generation = self._generation

        def read() -> int:
            told = time.monotonic()
            for index in missing:
                if generation != self._generation:
                    break
                x, y = (int(v) for v in coords[index])
                pixels = _square(opened, x, y, side)
                with self._lock:
                    if generation == self._generation:
                        self._read.append((index, pixels))
                if time.monotonic() - told > _BETWEEN_SECONDS:
                    told = time.monotonic()
                    self._reader.answered.emit(generation)
            return generation

        self._reader.submit(read)

    def _take(self, generation: int) -> None:
        with self._lock:
            read, self._read = self._read, []
        if generation != self._generation:
            return
        for index, pixels in read:
            height, width = pixels.shape[:2]
            image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
            self._kept[index] = QPixmap.fromImage(image)
        while len(self._kept) > _KEEP:
            self._kept.popitem(last=False)
        if read:
            self.arrived.emit()


def _square(opened: OpenedSlide, x: int, y: int, side: float) -> NDArray[np.uint8]:
    try:
        return opened.slide.read_square(x, y, side, READ_PX)
    except SlideError:
        return np.full((READ_PX, READ_PX, 3), 200, np.uint8)  # damaged there, or just closed
