"""The whole slide, small, with the part that the canvas shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap
from qtpy.QtWidgets import QWidget

MINIMAP_PX = 170


class Minimap(QWidget):
    """The whole slide with the visible part framed; a click goes there."""

    went_to = Signal(float, float)

    def __init__(self) -> None:
        super().__init__()
        self._pixmap: QPixmap | None = None
        self._view = QRectF()
        self.setFixedSize(MINIMAP_PX, round(0.7 * MINIMAP_PX))
        self.setToolTip("The whole slide; click to go there")
        self.setAccessibleName("Overview of the slide")

    def set_image(self, pixels: NDArray[np.uint8] | None) -> None:
        if pixels is None:
            self._pixmap = None
        else:
            data = np.ascontiguousarray(pixels)
            height, width = data.shape[:2]
            image = QImage(data.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
            scaled = image.scaled(
                QSize(MINIMAP_PX, MINIMAP_PX),
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
            self._pixmap = QPixmap.fromImage(scaled)
        self.setFixedSize(self._pixmap.size() if self._pixmap else QSize(MINIMAP_PX, round(0.7 * MINIMAP_PX)))
        self.update()

    def set_view(self, view: QRectF) -> None:
        """Frame this part, in shares of the slide's size."""
        self._view = view
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        if self._pixmap is None:
            painter.setPen(QPen(QColor("#888888")))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
            painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter), "overview")
            return
        painter.drawPixmap(0, 0, self._pixmap)
        width, height = self.width(), self.height()
        frame = QRectF(
            self._view.x() * width,
            self._view.y() * height,
            self._view.width() * width,
            self._view.height() * height,
        )
        # A dot of a view would be lost: the frame is at least a few pixels wide.
        if frame.width() < 6:
            frame = QRectF(frame.center() - QPointF(3, 3), frame.center() + QPointF(3, 3))
        painter.setPen(QPen(QColor("#d81b8c"), 2))
        painter.drawRect(frame.intersected(QRectF(1, 1, width - 2, height - 2)))

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._go(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._go(event)

    def _go(self, event: QMouseEvent) -> None:
        position = event.position() if hasattr(event, "position") else event.localPos()
        if self._pixmap is not None:
            self.went_to.emit(position.x() / self.width(), position.y() / self.height())
