"""The answer in one line, always in sight: risk group, place among the reference patients, what was changed."""

from __future__ import annotations

import html
from collections.abc import Callable

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QFrame, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import group_color, note, push, row
from napari_survpgc.core.bundle.answer import OUTSIDE, answer_of
from napari_survpgc.core.groups import risk_percentile
from napari_survpgc.core.output.plots import GROUPS

_BAR_PX, _MARK_PX = 8, 7


class SummaryBar(QFrame):
    """See the module's docstring. While a field or a slider is moved, the result itself may be far up or down the dock.

    Parameters
    ----------
    show_result : called when the line is clicked.
    """

    def __init__(self, session: Session, show_result: Callable[[], object]) -> None:
        super().__init__()
        self.session = session
        self.setToolTip("The result in one line; a click shows all of it")
        self.setStyleSheet("SummaryBar { border-top: 1px solid rgba(128, 128, 128, 120); }")
        self.headline = QLabel("")
        self.headline.setTextFormat(Qt.TextFormat.RichText)
        self.headline.setWordWrap(True)
        self.place = PlaceBar()
        self.place.clicked.connect(show_result)
        self.changes = note()
        self.reset_button = push(
            "Reset",
            "Return to the patient as entered when Run was pressed (Alt+R)",
            session.reset_what_if,
            "reset_summary",
        )
        self.reset_button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.changes_box = QWidget()
        line = row(self.changes, self.reset_button)
        line.setStretch(0, 1)
        self.changes_box.setLayout(line)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 2)
        layout.setSpacing(2)
        layout.addWidget(self.headline)
        layout.addWidget(self.place)
        layout.addWidget(self.changes_box)
        session.result_changed.connect(self.refresh)
        session.stale_changed.connect(self.refresh)
        session.patient_changed.connect(self._patient_changed)
        session.bundle_changed.connect(self._cuts)
        self._cuts()

    def _cuts(self) -> None:
        bundle = self.session.bundle
        if bundle is not None and len(bundle.reference):
            reference = bundle.reference["risk"].to_numpy(float)
            low, high = (risk_percentile(cut, reference) for cut in bundle.risk_cuts)
            self.place.set_cuts(low, high)
        self.refresh()

    def _patient_changed(self) -> None:
        # An answer that is on its way changes all of it: painted twice, the window takes twice as long.
        if not self.session.asking:
            self.refresh()

    def refresh(self) -> None:
        result = self.session.result
        self.setVisible(result is not None)
        if result is None:
            return
        shown, original = result.shown, result.original
        color = group_color(shown.risk_group, self.palette())
        before = (
            f", as entered {original.risk_percentile:.0f} %" if result.changed else " of reference patients"
        )
        found = answer_of(shown)
        outside = "" if found is None or found.answered else f" ({OUTSIDE.lower()})"
        late = "; <b>out of date: press Run</b>" if self.session.stale else ""
        self.place.setVisible(not result.withheld)
        if result.withheld:
            self.headline.setText(f"<b>{OUTSIDE}</b>{late}")
        else:
            self.headline.setText(
                f"<span style='color:{color}'>●</span> <b>{shown.risk_group.capitalize()} risk</b>{outside}, higher than"
                f" <b>{shown.risk_percentile:.0f} %</b>{before}{late}"
            )
        self.place.set_place(
            shown.risk_percentile,
            original.risk_percentile if result.changed else None,
            faded=self.session.stale,
        )
        changes = self.session.changes()
        self.changes_box.setVisible(bool(changes) and self.session.can_ask)
        self.changes.setText(f"<b>What if</b> {html.escape('; '.join(changes))}?")


class PlaceBar(QWidget):
    """The reference patients from lowest to highest risk in the colors of the groups, and the patient among them."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._cuts = (100 / 3, 200 / 3)
        self.place: float | None = None
        self.ghost: float | None = None
        self._faded = False
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_BAR_PX + 2 * _MARK_PX)
        self.setAccessibleName("Place among the reference patients")
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        return QSize(200, self.height())

    def set_cuts(self, low: float, high: float) -> None:
        """Where the groups end, in percent of the reference patients."""
        self._cuts = (low, high)
        self.update()

    def set_place(self, place: float, ghost: float | None, *, faded: bool = False) -> None:
        """Mark the patient, and as a ghost the patient as entered, in percent of the reference patients."""
        self.place, self.ghost, self._faded = place, ghost, faded
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self.clicked.emit()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setOpacity(0.4 if self._faded else 1.0)
        left, width, top = _MARK_PX, self.width() - 2 * _MARK_PX, _MARK_PX
        edges = (0.0, *self._cuts, 100.0)
        for color, low, high in zip(GROUPS.values(), edges, edges[1:], strict=False):
            part = QRectF(left + width * low / 100, top, width * (high - low) / 100 - 1, _BAR_PX)
            fill = QColor(color)
            fill.setAlpha(150)
            painter.fillRect(part, fill)
        text = self.palette().windowText().color()
        if self.ghost is not None:
            x = left + width * self.ghost / 100
            painter.setPen(QPen(text, 2, Qt.PenStyle.DotLine))
            painter.drawLine(QPointF(x, 1), QPointF(x, self.height() - 1))
        if self.place is not None:
            x = left + width * self.place / 100
            painter.setPen(QPen(text, 1))
            painter.setBrush(text)
            painter.drawPolygon(
                QPolygonF([QPointF(x, top + 2), QPointF(x - 5, top - 6), QPointF(x + 5, top - 6)])
            )
            painter.setPen(QPen(text, 2))
            painter.drawLine(QPointF(x, top), QPointF(x, top + _BAR_PX + 3))
