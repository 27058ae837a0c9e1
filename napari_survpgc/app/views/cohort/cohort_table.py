"""The patients of a cohort as a table that sorts and filters, and as a strip of thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, QSortFilterProxyModel, Qt
from qtpy.QtGui import QColor, QImage, QKeyEvent, QPainter, QPalette, QPixmap
from qtpy.QtWidgets import QListWidget, QTableView

from napari_survpgc.app.views.widgets.parts import group_color
from napari_survpgc.core.jobs.results_folder import CaseResult

_COLUMNS = (
    "Patient",
    "Risk",
    "Percentile",
    "Group",
    "Months",
    "Event",
    "Age",
    "Sex",
    "Stage",
    "Edition",
    "Subtype",
    "Race",
)
THUMB_PX = 104


class PatientTable(QAbstractTableModel):
    """``palette`` returns the colors that the table is shown in."""

    def __init__(self, palette: Callable[[], QPalette]) -> None:
        super().__init__()
        self.palette = palette
        self.rows: Sequence[CaseResult] = ()
        self.groups: Sequence[str] = ()

    def set_rows(self, rows: Sequence[CaseResult], groups: Sequence[str]) -> None:
        self.beginResetModel()
        self.rows, self.groups = rows, groups
        self.endResetModel()

    def set_groups(self, groups: Sequence[str]) -> None:
        self.groups = groups
        if self.rows:
            self.dataChanged.emit(self.index(0, 3), self.index(len(self.rows) - 1, 3))

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return _COLUMNS[section]
        return None

    def value(self, line: int, column: int) -> Any:
        """Return what sorts a cell."""
        case = self.rows[line]
        record = case.record
        return (
            case.case_id, case.risk, case.risk_percentile, self.groups[line], case.months, case.event, record.age,
            record.sex, record.stage, record.staging_edition, record.subtype, record.race,
        )[column]  # fmt: skip

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        if not index.isValid():
            return None
        value = self.value(index.row(), index.column())
        if role == Qt.ItemDataRole.DisplayRole:
            if value is None:
                return ""
            if index.column() == 5:
                return "death" if value else "censored"
            if isinstance(value, float):
                return (
                    f"{value:.3f}"
                    if index.column() == 1
                    else f"{value:.0f}"
                    if index.column() != 4
                    else f"{value:.1f}"
                )
            return str(value)
        if role == Qt.ItemDataRole.UserRole:
            return value
        if role == Qt.ItemDataRole.TextAlignmentRole and isinstance(value, float):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.ForegroundRole and index.column() == 3:
            return QColor(group_color(str(value), self.palette()))
        return None


class SortedPatients(QSortFilterProxyModel):
    """Sorts by value, unknown last; filters by words in any column."""

    def __init__(self) -> None:
        super().__init__()
        self._words: list[str] = []

    def set_words(self, text: str) -> None:
        self._words = text.lower().split()
        self.invalidate()

    def filterAcceptsRow(self, line: int, parent: QModelIndex) -> bool:  # noqa: N802
        model = self.sourceModel()
        text = " ".join(str(model.data(model.index(line, c))) for c in range(len(_COLUMNS))).lower()
        return all(word in text for word in self._words)

    def lessThan(self, left: QModelIndex, right: QModelIndex) -> bool:  # noqa: N802
        model = self.sourceModel()
        one, other = (model.value(i.row(), i.column()) for i in (left, right))
        if one is None or other is None:
            last = self.sortOrder() == Qt.SortOrder.AscendingOrder
            return (other is None) if last else (one is None and other is not None)
        return bool(one < other)


class PatientView(QTableView):
    """Return opens the current patient, as a double click does."""

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802  Qt's name
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.doubleClicked.emit(self.currentIndex())
        else:
            super().keyPressEvent(event)


class ThumbnailStrip(QListWidget):
    """Thumbnails side by side; Return opens the current one."""

    def __init__(self) -> None:
        super().__init__()
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setFlow(QListWidget.Flow.LeftToRight)
        self.setWrapping(False)
        self.setMovement(QListWidget.Movement.Static)
        self.setIconSize(QSize(THUMB_PX, THUMB_PX))
        words = 2 * self.fontMetrics().height()
        self.setGridSize(QSize(THUMB_PX + 10, THUMB_PX + words + 10))
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setFixedHeight(THUMB_PX + words + 10 + self.horizontalScrollBar().sizeHint().height() + 6)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        item = self.currentItem()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and item is not None:
            self.itemDoubleClicked.emit(item)
        else:
            super().keyPressEvent(event)


def square(pixels: NDArray[np.uint8]) -> QPixmap:
    """Return the picture in the middle of a transparent square, so that all stand in line."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).tobytes()
    image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
    side = max(width, height)
    square = QPixmap(side, side)
    square.fill(Qt.GlobalColor.transparent)
    painter = QPainter(square)
    painter.drawImage((side - width) // 2, (side - height) // 2, image)
    painter.end()
    return square
