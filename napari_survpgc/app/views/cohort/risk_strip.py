"""The risks of all patients on a line, with the cut between the groups; the cut is dragged, or moved by arrow keys."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QSlider

from napari_survpgc.core.output.plots import GROUPS

STEPS = 1000


@functools.cache
def _brush(group: str) -> QColor:
    return QColor(GROUPS.get(group, "#888888"))


_HEIGHT, _MARGIN, _DOT = 44, 8, 3.0


class RiskStrip(QSlider):
    """See the module's docstring. Its value, 0 to STEPS, lies between the lowest and the highest risk."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setRange(0, STEPS)
        self.setValue(STEPS // 2)
        self.setPageStep(STEPS // 20)
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.SplitHCursor)
        self._risks: NDArray[np.float64] = np.empty(0)
        self._groups: Sequence[str] = ()
        self._cuts: tuple[float, ...] = ()

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        return QSize(300, _HEIGHT)

    def show_risks(self, risks: NDArray[np.float64], groups: Sequence[str], cuts: Sequence[float]) -> None:
        """Show these patients; ``cuts`` are the risks above which the next group begins."""
        self._risks, self._groups, self._cuts = risks, groups, tuple(cuts)
        self.update()

    @property
    def risk(self) -> float:
        """The risk at the handle."""
        low, high = self._span()
        return low + (high - low) * self.value() / STEPS

    def set_risk(self, risk: float) -> None:
        """Put the handle there without telling anybody."""
        low, high = self._span()
        self.blockSignals(True)
        self.setValue(round(STEPS * (risk - low) / (high - low)) if high > low else STEPS // 2)
        self.blockSignals(False)

    def _span(self) -> tuple[float, float]:
        if not len(self._risks):
            return 0.0, 1.0
        return float(self._risks.min()), float(self._risks.max())

    def _x(self, risk: float) -> float:
        low, high = self._span()
        share = (risk - low) / (high - low) if high > low else 0.5
        return _MARGIN + share * (self.width() - 2 * _MARGIN)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self.setSliderDown(True)
        self._follow(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if self.isSliderDown():
            self._follow(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self.setSliderDown(False)

    def _follow(self, event: QMouseEvent) -> None:
        position = event.position() if hasattr(event, "position") else event.localPos()
        width = max(1, self.width() - 2 * _MARGIN)
        self.setValue(round(STEPS * (position.x() - _MARGIN) / width))

    def _dots(self, base: int) -> list[tuple[float, float, str]]:
        """Return place and group of the dots that are seen.

        Patients of nearly the same risk stand above each other, and where the strip is full before each other: of those
        on one pixel the last.
        """
        low, high = self._span()
        width = self.width() - 2 * _MARGIN
        share = (self._risks - low) / (high - low) if high > low else np.full(len(self._risks), 0.5)
        x = _MARGIN + share * width
        place = np.rint(x / (2 * _DOT)).astype(np.int64)
        order = np.argsort(place, kind="stable")
        sorted_place = place[order]
        first = np.searchsorted(sorted_place, sorted_place)
        level = np.empty(len(x), np.int64)
        level[order] = np.arange(len(x)) - first
        y = np.maximum(_DOT, base - _DOT - 1 - 2 * _DOT * level)
        key = np.rint(x).astype(np.int64) * (self.height() + 1) + np.rint(y).astype(np.int64)
        last = len(x) - 1 - np.unique(key[::-1], return_index=True)[1]
        return [(float(x[i]), float(y[i]), self._groups[i]) for i in np.sort(last).tolist()]

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        base = self.height() - 16
        painter.setOpacity(1.0 if self.isEnabled() else 0.4)
        painter.setPen(QPen(text, 1))
        painter.drawLine(QPointF(_MARGIN, base), QPointF(self.width() - _MARGIN, base))
        if not len(self._risks):
            return
        painter.setPen(Qt.PenStyle.NoPen)
        for x, y, group in self._dots(base):
            painter.setBrush(_brush(group))
            painter.drawEllipse(QPointF(x, y), _DOT, _DOT)
        for cut in self._cuts:
            x = self._x(cut)
            painter.setPen(QPen(text, 3 if self.hasFocus() else 2))
            painter.drawLine(QPointF(x, 1), QPointF(x, base + 3))
        painter.setPen(QPen(text, 1))
        below = QRectF(_MARGIN, base + 1, self.width() - 2 * _MARGIN, 15)
        low, high = self._span()
        for words, side in (
            (f"{low:.2f}", Qt.AlignmentFlag.AlignLeft),
            ("risk score", Qt.AlignmentFlag.AlignHCenter),
            (f"{high:.2f}", Qt.AlignmentFlag.AlignRight),
        ):
            painter.drawText(below, int(side | Qt.AlignmentFlag.AlignVCenter), words.replace("-", "\u2212"))
