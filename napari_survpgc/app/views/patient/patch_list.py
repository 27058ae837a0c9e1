"""A gallery's list of patches: model, delegate and grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QPainter, QPen, QResizeEvent
from qtpy.QtWidgets import (
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from .patch_images import PatchImages

SHOWN_PX = 76


_OVERLAP = QColor("#009e73")


_SELECTED = QColor("#d81b8c")


@dataclass(frozen=True)
class GalleryPatch:
    """One patch of a gallery."""

    index: int
    rank: int
    score: float
    percentile: float
    overlap: bool


class PatchModel(QAbstractListModel):
    repainted = Signal()

    def __init__(self, images: PatchImages) -> None:
        super().__init__()
        self.images = images
        self.patches: list[GalleryPatch] = []

    def set_patches(self, patches: list[GalleryPatch]) -> None:
        """Show other patches; as many as before need no new layout, which would come a painting later."""
        if len(patches) == len(self.patches):
            self.patches = patches
            self.repainted.emit()
            return
        self.beginResetModel()
        self.patches = patches
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        return len(self.patches)

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        if not index.isValid():
            return None
        patch = self.patches[index.row()]
        if role == Qt.ItemDataRole.ToolTipRole:
            both = ". Also among the patches of the other path" if patch.overlap else ""
            return f"Rank {patch.rank}, score {patch.score:+.2f}, {patch.percentile:.1f}th percentile{both}"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"Patch of rank {patch.rank}"
        return None

    def redraw(self) -> None:
        self.repainted.emit()  # dataChanged would lay all of them out again


class PatchDelegate(QStyledItemDelegate):
    """Paints a patch with rank and score; ``side`` px wide."""

    side = SHOWN_PX

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802
        return QSize(self.side + 6, self.side + 6)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        model = index.model()
        assert isinstance(model, PatchModel)
        patch = model.patches[index.row()]
        box = QRect(option.rect.x() + 3, option.rect.y() + 3, self.side, self.side)
        pixmap = model.images.get(patch.index)
        painter.save()
        if pixmap is not None:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawPixmap(box, pixmap)
        else:
            painter.fillRect(box, QColor("#777777"))
        font = QFont(painter.font())
        font.setPixelSize(11)
        font.setBold(True)
        painter.setFont(font)
        for text, side in (
            (str(patch.rank), Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft),
            (f"{patch.score:+.2f}", Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignRight),
        ):
            place = painter.boundingRect(box, int(side), text)
            painter.fillRect(place.adjusted(-2, 0, 2, 0), QColor(255, 255, 255, 210))
            painter.setPen(QColor("#111111"))
            painter.drawText(box, int(side), text)
        if patch.overlap:
            painter.setPen(QPen(_OVERLAP, 3))
            painter.drawRect(box.adjusted(1, 1, -2, -2))
        if option.state & QStyle.StateFlag.State_Selected:
            painter.setPen(QPen(_SELECTED, 4))
            painter.drawRect(box.adjusted(-1, -1, 0, 0))
        painter.restore()


class PatchGridView(QListView):
    """Patches in as many columns as fit, each as wide as fits; Return flies to the current one again."""

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        super().resizeEvent(event)
        width = self.viewport().width() - 2
        columns = max(1, width // (SHOWN_PX + 6))
        delegate = self.itemDelegate()
        if isinstance(delegate, PatchDelegate):
            delegate.side = width // columns - 6
            self.scheduleDelayedItemsLayout()
