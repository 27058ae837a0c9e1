"""Patches: the best 50 of each path side by side; a click flies to the patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QModelIndex, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QListView,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.app.canvas.case_layers import CaseLayers
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import Severity
from napari_survpgc.app.views.widgets.parts import note, panel, push, row
from napari_survpgc.core.attention.scores import bottom_k, random_k, rank_of, top_k
from napari_survpgc.core.output.gallery import write_gallery
from napari_survpgc.core.types import ProgressCallback

from .patch_images import PatchImages
from .patch_list import SHOWN_PX, GalleryPatch, PatchDelegate, PatchGridView, PatchModel

K = 50


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
        self.models: dict[str, PatchModel] = {}
        self.titles: dict[str, QLabel] = {}
        for name in ("clinic", "genomic"):
            column = QWidget()
            inner = QVBoxLayout(column)
            inner.setContentsMargins(0, 0, 0, 0)
            title = QLabel("")
            title.setToolTip("Green frame: among the patches of both paths")
            model = PatchModel(self.images)
            view = PatchGridView()
            view.setModel(model)
            model.repainted.connect(view.viewport().update)
            view.setItemDelegate(PatchDelegate(view))
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

    def end(self) -> None:
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
        self.layers.camera.fly_to(patch.index)

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
            words.append(
                f"{name} rank {rank_of(found.scores, index)} of {n} ({found.percentiles[index]:.1f}th percentile)"
            )
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
