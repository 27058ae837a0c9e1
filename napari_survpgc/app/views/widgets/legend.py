"""The color bar of a map."""

from __future__ import annotations

import matplotlib
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget


class Legend(QWidget):
    """A colour bar with its limits; what lies below the threshold is hatched out."""

    def __init__(self) -> None:
        super().__init__()
        self._image: QImage | None = None
        self._texts = ("", "", "")
        self._cut = 0.0
        self._shown: tuple[object, ...] = ()
        self.setFixedHeight(34)
        self.setAccessibleName("Legend of the map")

    def clear(self) -> None:
        self._image = None
        self.update()

    def set(self, colormap: str, low: float, high: float, threshold: float, words: str) -> None:
        wanted = (colormap, low, high, threshold, words)
        if self._image is not None and wanted == self._shown:
            return
        self._shown = wanted
        colors = (matplotlib.colormaps[colormap](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)
        data = np.ascontiguousarray(colors[None])
        self._image = QImage(data.tobytes(), 256, 1, 768, QImage.Format.Format_RGB888).copy()
        self._texts = (f"{low:.3g}", words, f"{high:.3g}")
        self._cut = min(1.0, max(0.0, (threshold - low) / (high - low) if high > low else 0.0))
        self.update()

    @property
    def texts(self) -> tuple[str, str, str]:
        return self._texts if self._image is not None else ("", "", "")

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802  Qt's name
        if self._image is None:
            return
        painter = QPainter(self)
        bar = self.rect().adjusted(2, 0, -2, -18)
        painter.drawImage(bar, self._image)
        if self._cut > 0:
            hidden = bar.adjusted(0, 0, round((self._cut - 1) * bar.width()), 0)
            painter.fillRect(hidden, self.palette().window())
            painter.drawRect(hidden.adjusted(0, 0, -1, -1))
        painter.setPen(self.palette().windowText().color())
        text = self.rect().adjusted(2, bar.height(), -2, 0)
        for words, side in zip(
            self._texts,
            (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignHCenter, Qt.AlignmentFlag.AlignRight),
            strict=True,
        ):
            painter.drawText(text, int(side | Qt.AlignmentFlag.AlignVCenter), words)
