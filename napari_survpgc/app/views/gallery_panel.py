"""Patches: the best 50 of each path side by side; a click flies to the patch."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPen, QPixmap, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.app.case_state import OpenedSlide, Severity
from napari_survpgc.app.layers import CaseLayers
from napari_survpgc.app.session import Session
from napari_survpgc.app.workers import Latest
from napari_survpgc.core.attention import bottom_k, random_k, top_k
from napari_survpgc.core.errors import SlideError
from napari_survpgc.core.export import write_gallery
from napari_survpgc.core.types import ProgressCallback

from .parts import note, panel, push, row

K = 50
SHOWN_PX = 76
_READ_PX = 128
_KEEP = 2000
_BETWEEN_SECONDS = 0.12
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
        return opened.slide.read_square(x, y, side, _READ_PX)
    except SlideError:
        return np.full((_READ_PX, _READ_PX, 3), 200, np.uint8)  # damaged there, or just closed


class _Model(QAbstractListModel):
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


class _Delegate(QStyledItemDelegate):
    """Paints a patch with rank and score; ``side`` px wide."""

    side = SHOWN_PX

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802
        return QSize(self.side + 6, self.side + 6)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        model = index.model()
        assert isinstance(model, _Model)
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


class _Grid(QListView):
    """Patches in as many columns as fit, each as wide as fits; Return flies to the current one again."""

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802  Qt's name
        super().resizeEvent(event)
        width = self.viewport().width() - 2
        columns = max(1, width // (SHOWN_PX + 6))
        delegate = self.itemDelegate()
        if isinstance(delegate, _Delegate):
            delegate.side = width // columns - 6
            self.scheduleDelayedItemsLayout()


class GalleryPanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session, layers: CaseLayers) -> None:
        super().__init__()
        self.session, self.layers = session, layers
        self.images = PatchImages(session)
        layout = panel(self)
        self.kind = QComboBox()
        self.kind.addItems(["Highest", "Lowest", "Random"])
        self.kind.setToolTip(
            "Patches with the highest attention, or the lowest or random ones for comparison"
        )
        self.kind.setAccessibleName("Which patches")
        self.order = QComboBox()
        self.order.addItems(["by score", "by place"])
        self.order.setToolTip("Sort by score, or by place on the slide (top to bottom)")
        self.order.setAccessibleName("Sorting")
        self.save_button = push(
            "Save all…", "Write all shown patches as PNG with a CSV", self._ask_save, "save_patches"
        )
        self.save_one_button = push(
            "Save selected…",
            "Write the selected patches as PNG with a CSV",
            self._ask_save_selected,
            "save_selected",
        )
        self.copy_button = push(
            "Copy xy", "Copy the coordinates of the selected patches (level-0 px)", self.copy, "copy_xy"
        )
        layout.addLayout(row(self.kind, self.order, None))
        layout.addLayout(row(self.save_button, self.save_one_button, self.copy_button, None))
        columns = []
        self.lists: dict[str, QListView] = {}
        self.models: dict[str, _Model] = {}
        self.titles: dict[str, QLabel] = {}
        for name in ("clinic", "genomic"):
            column = QWidget()
            inner = QVBoxLayout(column)
            inner.setContentsMargins(0, 0, 0, 0)
            title = QLabel("")
            title.setToolTip("Green frame: among the patches of both paths")
            model = _Model(self.images)
            view = _Grid()
            view.setModel(model)
            model.repainted.connect(view.viewport().update)
            view.setItemDelegate(_Delegate(view))
            view.setVerticalScrollBarPolicy(
                Qt.ScrollBarPolicy.ScrollBarAlwaysOn
            )  # no columns that come and go
            view.setToolTip("A click, or the arrow keys, go to the patch on the slide; Ctrl+A selects all")
            view.activated.connect(lambda index, n=name: self._picked(n, index))
            view.setViewMode(QListView.ViewMode.IconMode)
            view.setMovement(QListView.Movement.Static)
            view.setResizeMode(QListView.ResizeMode.Adjust)
            view.setUniformItemSizes(True)
            view.setSpacing(0)
            view.setMinimumHeight(4 * (SHOWN_PX + 8))
            view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
            view.setAccessibleName(f"Patches of the {name} path")
            view.setObjectName(f"gallery_{name}")
            view.selectionModel().currentChanged.connect(lambda new, old, n=name: self._picked(n, new))
            view.clicked.connect(lambda index, n=name: self._picked(n, index))
            inner.addWidget(title)
            inner.addWidget(view)
            self.lists[name], self.models[name], self.titles[name] = view, model, title
            columns.append(column)
        layout.addLayout(row(*columns))
        self.info = note()
        layout.addWidget(self.info)
        self._current = "clinic"
        self.kind.currentIndexChanged.connect(self.refresh)
        self.order.currentIndexChanged.connect(self.refresh)
        self.images.arrived.connect(self._redraw)
        session.result_changed.connect(self.refresh)
        session.patch_selected.connect(self._describe)
        self.refresh()

    def close_images(self) -> None:
        self.images.close()

    # --- show ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        result = self.session.result
        if result is None:
            for name in self.lists:
                self.models[name].set_patches([])
                self.titles[name].setText(f"{name.capitalize()} path")
            self.info.setText("")
            return
        chosen: dict[str, NDArray[np.int64]] = {}
        for name in result.maps.names:
            chosen[name] = self._choose(result.maps.map(name).scores)
        common = set.intersection(*(set(c.tolist()) for c in chosen.values())) if len(chosen) == 2 else set()
        wanted: list[int] = []
        for name, view in self.lists.items():
            if name not in chosen:
                self.models[name].set_patches([])
                self.titles[name].setText(f"{name.capitalize()} path: not there")
                continue
            found = result.maps.map(name)
            patches = [
                GalleryPatch(int(i), r, float(found.scores[i]), float(found.percentiles[i]), int(i) in common)
                for r, i in enumerate(chosen[name], start=1)
            ]
            if self.order.currentIndex() == 1:
                coords = result.shown.coords
                patches.sort(key=lambda p: (int(coords[p.index][1]), int(coords[p.index][0])))
            if patches != self.models[name].patches:
                selected = {p.index for p in self.selected(name)}
                view.selectionModel().blockSignals(True)
                view.selectionModel().clear()  # the rows stay, other patches stand in them
                self.models[name].set_patches(patches)
                view.selectionModel().blockSignals(False)
                self._keep_selected(name, selected)
            self.titles[name].setText(f"<b>{name.capitalize()}</b>: {len(patches)}, {len(common)} in both")
            wanted += [p.index for p in patches]
        # First what is seen: the beginning of both, in turn.
        half = len(wanted) // 2
        self.images.want(
            [i for pair in zip(wanted[:half], wanted[half:], strict=False) for i in pair] + wanted
        )
        for button in (self.save_button, self.save_one_button, self.copy_button):
            button.setEnabled(bool(wanted))

    def _choose(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        kind = self.kind.currentIndex()
        if kind == 0:
            return top_k(scores, K)
        if kind == 1:
            return bottom_k(scores, K)
        return random_k(len(scores), K)

    def _keep_selected(self, name: str, indices: set[int]) -> None:
        if not indices:
            return
        view, model = self.lists[name], self.models[name]
        selection = view.selectionModel()
        selection.blockSignals(True)
        for place, patch in enumerate(model.patches):
            if patch.index in indices:
                selection.select(model.index(place), selection.SelectionFlag.Select)
        selection.blockSignals(False)

    def _redraw(self) -> None:
        for model in self.models.values():
            model.redraw()

    # --- select --------------------------------------------------------------------------------------------

    def _picked(self, name: str, index: QModelIndex) -> None:
        if not index.isValid():
            return
        self._current = name
        patch = self.models[name].patches[index.row()]
        if patch.index != self.session.patch:
            self.session.select_patch(patch.index)
        self.layers.fly_to(patch.index)

    def step(self, by: int) -> None:
        """Go to the next or previous patch of the gallery that was used last."""
        view, model = self.lists[self._current], self.models[self._current]
        if not model.patches:
            return
        place = view.currentIndex().row()
        view.setCurrentIndex(
            model.index(max(0, min(len(model.patches) - 1, place + by if place >= 0 else 0)))
        )

    def _describe(self, index: int) -> None:
        result = self.session.result
        if index < 0 or result is None:
            self.info.setText("")
            return
        n = len(result.shown.coords)
        words = []
        for name in result.maps.names:
            found = result.maps.map(name)
            rank = int((found.scores > found.scores[index]).sum()) + 1
            words.append(f"{name} rank {rank} of {n} ({found.percentiles[index]:.1f}th percentile)")
        neighbors = result.maps.cells.neighbors(index)
        beside = ""
        if neighbors and result.maps.names:
            name = self._current if self._current in result.maps.names else result.maps.names[0]
            high = int(sum(result.maps.map(name).percentiles[j] >= 90 for j in neighbors))
            are = "is" if high == 1 else "are"
            beside = f" Of its {len(neighbors)} neighbors {high or 'none'} {are} in the top tenth ({name})."
        x, y = result.shown.coords[index]
        self.info.setText(f"Patch at x={x}, y={y}: {'; '.join(words)}.{beside}")

    def selected(self, name: str) -> list[GalleryPatch]:
        model = self.models[name]
        rows = sorted(i.row() for i in self.lists[name].selectionModel().selectedIndexes())
        return [model.patches[r] for r in rows if r < len(model.patches)]

    # --- out -----------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """Put the coordinates of the selected patches (or the one that is outlined) on the clipboard."""
        result = self.session.result
        if result is None:
            return
        indices = [p.index for name in self.lists for p in self.selected(name)] or (
            [self.session.patch] if self.session.patch >= 0 else []
        )
        lines = ["x\ty", *(f"{x}\t{y}" for x, y in (result.shown.coords[i] for i in dict.fromkeys(indices)))]
        if len(lines) > 1:
            QApplication.clipboard().setText("\n".join(lines))
            self.session.say(f"{len(lines) - 1} coordinates copied (level-0 px).", Severity.DONE)
        else:
            self.session.say("Select patches first.", Severity.ERROR)

    def _ask_save(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the patches")
        if name:
            self.save(Path(name))

    def _ask_save_selected(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the selected patches")
        if name:
            self.save(Path(name), only_selected=True)

    def save(self, folder: Path, *, only_selected: bool = False) -> None:
        """Write the galleries into ``folder/clinic`` and ``folder/genomic`` on a thread."""
        result, opened = self.session.result, self.session.opened
        if result is None or opened is None:
            return
        prediction, slide = result.shown, opened.slide
        parts = {n: self.selected(n) if only_selected else self.models[n].patches for n in result.maps.names}
        maps = {n: result.maps.map(n) for n in parts}
        parts = {n: p for n, p in parts.items() if p}
        if not parts:
            self.session.say("Select patches first.", Severity.ERROR)
            return

        def work(progress: ProgressCallback) -> int:
            count = 0
            for number, (name, patches) in enumerate(parts.items()):
                progress("results", number, len(parts))
                indices = np.array([p.index for p in patches])
                ranks = [p.rank for p in patches]
                write_gallery(
                    folder / name,
                    prediction,
                    slide,
                    maps[name].scores,
                    maps[name].percentiles,
                    indices,
                    ranks,
                )
                count += len(patches)
            return count

        self.session.start(
            work,
            "patches",
            lambda n: self.session.say(f"{n} patches are in {folder}.", Severity.DONE),
            shown=False,
        )
