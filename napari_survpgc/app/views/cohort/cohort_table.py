"""The patients of a cohort as a table that sorts and filters, and as a strip of thumbnails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractProxyModel, QAbstractTableModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QColor, QImage, QKeyEvent, QPainter, QPalette, QPixmap
from qtpy.QtWidgets import QListWidget, QTableView

from napari_survpgc.app.views.widgets.parts import group_color
from napari_survpgc.core.jobs.results_folder import CaseResult
from napari_survpgc.core.types import CLINICAL_FIELDS

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
_GROUP = _COLUMNS.index("Group")
THUMB_PX = 104


def _values(rows: Sequence[CaseResult], column: int) -> list[Any]:
    fields = ("case_id", "risk", "risk_percentile", "", "months", "event")
    if column < len(fields):
        return [getattr(case, fields[column]) for case in rows]
    name = CLINICAL_FIELDS[column - len(fields)]
    return [getattr(case.record, name) for case in rows]


def _shown(column: int, value: Any) -> str:
    if value is None:
        return ""
    if column == 5:
        return "death" if value else "censored"
    if isinstance(value, float):
        return f"{value:.3f}" if column == 1 else f"{value:.1f}" if column == 4 else f"{value:.0f}"
    return str(value)


def texts_of(rows: Sequence[CaseResult]) -> list[str]:
    """Return what a filter looks into: the cells of each row but the group, as they are shown, lower case."""
    columns = [
        [_shown(column, value) for value in _values(rows, column)]
        for column in range(len(_COLUMNS))
        if column != _GROUP
    ]
    return [" ".join(cells).lower() for cells in zip(*columns, strict=True)]


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
            self.dataChanged.emit(self.index(0, _GROUP), self.index(len(self.rows) - 1, _GROUP))

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return _COLUMNS[section]
        return None

    def column(self, column: int) -> list[Any]:
        """Return what sorts the cells of a column."""
        return list(self.groups) if column == _GROUP else _values(self.rows, column)

    def order(self, column: int, descending: bool) -> NDArray[np.int64]:
        """Return the rows in the order of a column; those of one value stay as they are, those without come last."""
        values = self.column(column)
        known = np.array([value is not None for value in values], bool)
        ranks = np.zeros(len(values), np.int64)
        if known.any():
            there = [value for value in values if value is not None]
            ranks[known] = np.unique(np.array(there), return_inverse=True)[1].reshape(-1)
        ranks = -ranks if descending else ranks
        ranks[~known] = len(values)
        return np.argsort(ranks, kind="stable")

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
            return _shown(index.column(), value)
        if role == Qt.ItemDataRole.UserRole:
            return value
        if role == Qt.ItemDataRole.TextAlignmentRole and isinstance(value, float):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.ForegroundRole and index.column() == 3:
            return QColor(group_color(str(value), self.palette()))
        return None


class _Texts:
    """What a filter looks into, made on a thread while the table is looked at: 0.2 s for 20,000 patients."""

    def __init__(self, rows: Sequence[CaseResult]) -> None:
        self._rows, self._found = rows, list[str]()
        self._thread = threading.Thread(target=self._make, name="survpgc filter", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        self._found = texts_of(self._rows)

    def get(self) -> list[str]:
        self._thread.join()
        return self._found


class SortedPatients(QAbstractProxyModel):
    """Sorts by value, unknown last; filters by words in any column.

    An order of all rows at once: Qt's own proxy asks for every comparison, 8 s for 20,000 patients.
    """

    def __init__(self) -> None:
        super().__init__()
        self._words: list[str] = []
        self._by: tuple[int, bool] | None = None
        self._order: NDArray[np.int64] = np.arange(0)
        self._place: NDArray[np.int64] = np.arange(0)
        self._texts = _Texts(())

    def setSourceModel(self, model: PatientTable) -> None:  # noqa: N802  Qt's name
        super().setSourceModel(model)
        self._table = model
        model.modelAboutToBeReset.connect(self.beginResetModel)
        model.modelReset.connect(self._reset)
        model.dataChanged.connect(self._groups_changed)

    def _reset(self) -> None:
        self._texts = _Texts(self._table.rows)
        self._arrange()
        self.endResetModel()

    def _groups_changed(self) -> None:
        if self._words or (self._by is not None and self._by[0] == _GROUP):
            self._rearrange()
        elif len(self._order):
            self.dataChanged.emit(self.index(0, _GROUP), self.index(len(self._order) - 1, _GROUP))

    def set_words(self, text: str) -> None:
        self._words = text.lower().split()
        self._rearrange()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        self._by = None if column < 0 else (column, order == Qt.SortOrder.DescendingOrder)
        self._rearrange()

    def _rearrange(self) -> None:
        """Take the new order; what is selected stays selected."""
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        rows = [(int(self._order[each.row()]), each.column()) for each in before]
        self._arrange()
        after = [
            self.index(int(self._place[row]), column) if self._place[row] >= 0 else QModelIndex()
            for row, column in rows
        ]
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _arrange(self) -> None:
        count = len(self._table.rows)
        order = np.arange(count)
        if self._by is not None and count:
            order = self._table.order(*self._by)
        if self._words:
            kept = np.ones(count, bool)
            for word in self._words:
                here = {group: word in group.lower() for group in set(self._table.groups)}
                kept &= [
                    word in text or here[g]
                    for text, g in zip(self._texts.get(), self._table.groups, strict=True)
                ]
            order = order[kept[order]]
        self._order = order
        self._place = np.full(count, -1)
        self._place[order] = np.arange(len(order))

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else len(_COLUMNS)

    def index(self, row: int, column: int, parent: QModelIndex | None = None) -> QModelIndex:
        inside = 0 <= row < len(self._order) and 0 <= column < len(_COLUMNS)
        return self.createIndex(row, column) if inside else QModelIndex()

    def parent(self, child: QModelIndex | None = None) -> QModelIndex:
        return QModelIndex()

    def mapToSource(self, index: QModelIndex) -> QModelIndex:  # noqa: N802
        if not index.isValid() or index.row() >= len(self._order):
            return QModelIndex()
        return self._table.index(int(self._order[index.row()]), index.column())

    def mapFromSource(self, index: QModelIndex) -> QModelIndex:  # noqa: N802
        if not index.isValid() or index.row() >= len(self._place):
            return QModelIndex()
        return self.index(int(self._place[index.row()]), index.column())

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        return self._table.headerData(section, orientation, role)


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
