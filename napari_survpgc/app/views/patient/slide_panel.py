"""Slide: open, pixel size, magnification, minimap, tissue."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QInputDialog,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.app.canvas.case_layers import CaseLayers
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.minimap import MINIMAP_PX, Minimap
from napari_survpgc.app.views.widgets.numbers import NumberField, shown_number
from napari_survpgc.app.views.widgets.parts import note, panel, push, row
from napari_survpgc.core.errors import SeveralSlidesError, SurvPGCError
from napari_survpgc.core.slide.formats import DIALOG_FILTER
from napari_survpgc.core.tissue.geojson import (
    ALL_CLASSES,
    TissueClassNeededError,
    read_geojson,
    write_geojson,
)
from napari_survpgc.core.types import MPP_RANGE, MppSource, TissueMask

from .tissue_editor import TissueEditor

POWERS = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0)


class SlidePanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session, layers: CaseLayers) -> None:
        super().__init__()
        self.session, self.layers = session, layers
        layout = panel(self)
        self.open_button = push(
            "Open slide…",
            "Open a whole-slide image (or drop the file onto the window)",
            self._ask_open,
            "open_slide",
        )
        self.folder_button = push(
            "DICOM folder…", "Open a DICOM slide, which is a folder of files", self._ask_folder, "open_dicom"
        )
        layout.addLayout(row(self.open_button, self.folder_button, None))
        self.facts = note("No slide is open.")

        self.mpp_box = QWidget()
        mpp_layout = panel(self.mpp_box)
        self.mpp_text = note()
        self.mpp = NumberField(*MPP_RANGE)
        self.mpp.setValue(0.5)
        self.mpp.returnPressed.connect(self._give_mpp)
        self.mpp_wrong = note()
        self.mpp_wrong.setStyleSheet("color: #e8590c;")
        self.mpp_wrong.hide()
        self.mpp.textEdited.connect(lambda: self.mpp_wrong.hide())
        self.mpp.setAccessibleName("Pixel size in micrometres")
        self.mpp.setToolTip(
            "Width of one pixel at full resolution: 20x scanners about 0.5 µm, 40x about 0.25 µm"
        )
        self.mpp_button = push(
            "Use", "Use this pixel size for this slide, now and next time", self._give_mpp, "use_mpp"
        )
        mpp_layout.addWidget(self.mpp_text)
        mpp_layout.addLayout(row(self.mpp, QLabel("µm per pixel"), self.mpp_button, None))
        mpp_layout.addWidget(self.mpp_wrong)
        self.minimap = Minimap()
        self.minimap.went_to.connect(self._go_to)
        self.power = QLabel("")
        self.power.setToolTip(
            "The objective that shows the slide as large as the screen does now (40x: 0.25 µm a screen pixel)"
        )
        self.power_buttons = []
        for power in POWERS:
            button = push(
                f"{power:g}x",
                f"Show the slide as a {power:g}x objective does",
                lambda p=power: layers.camera.magnify(p),  # type: ignore[misc]
                f"power_{power:g}",
            )
            button.setMinimumWidth(34)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            self.power_buttons.append(button)
        self.fit_button = push("Fit", "Show the whole slide", layers.camera.fit, "fit")
        beside = QVBoxLayout()
        beside.setContentsMargins(4, 0, 0, 0)
        beside.addWidget(self.facts)
        beside.addWidget(self.power)
        beside.addStretch()
        overview = row(self.minimap)
        overview.setAlignment(self.minimap, Qt.AlignmentFlag.AlignTop)
        overview.addLayout(beside, 1)
        layout.addLayout(overview)
        layout.addWidget(self.mpp_box)
        layout.addLayout(row(*self.power_buttons, self.fit_button))

        self.show_tissue = QCheckBox("Tissue outline")
        self.show_tissue.setToolTip("Show where patches are taken from")
        self.show_tissue.setChecked(True)
        self.show_tissue.toggled.connect(layers.set_tissue_visible)
        self.find_button = push(
            "Find tissue",
            "Outline the tissue automatically, from the start",
            session.find_tissue,
            "find_tissue",
        )
        self.outline_button = push(
            "Edit outline",
            "Draw tissue areas, cut out others, move corners",
            self._edit,
            "edit_outline",
        )
        self.brush_button = push(
            "Brush", "Paint tissue on, or erase it (pen marks, folds)", self._brush, "edit_brush"
        )
        self.import_button = push(
            "Import…", "Read outlines from GeoJSON (QuPath)", self._import, "import_outline"
        )
        self.export_button = push(
            "Export…", "Write the outlines as GeoJSON (QuPath)", self._export, "export_outline"
        )
        layout.addLayout(row(self.show_tissue, None, self.import_button, self.export_button))
        layout.addLayout(row(self.find_button, self.outline_button, self.brush_button, None))
        self.editor = TissueEditor(session, layers)
        layout.addWidget(self.editor)

        session.slide_choice.connect(self._choose_slide)
        session.slide_changed.connect(self.refresh)
        session.tissue_changed.connect(self._tissue_buttons)
        camera = layers.viewer.scene.camera
        camera.events.zoom.connect(self._view_moved)
        camera.events.center.connect(self._view_moved)
        layers.viewer.canvas.events.size.connect(self._view_moved)
        self.refresh()

    def end(self) -> None:
        camera = self.layers.viewer.scene.camera
        camera.events.zoom.disconnect(self._view_moved)
        camera.events.center.disconnect(self._view_moved)
        self.layers.viewer.canvas.events.size.disconnect(self._view_moved)

    # --- show ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        opened = self.session.opened
        self.minimap.set_image(None)
        known = opened is not None and opened.slide.info.mpp is not None
        self.mpp_box.setVisible(
            opened is not None and (not known or opened.slide.info.mpp_source is MppSource.USER)
        )
        for button in (*self.power_buttons,):
            button.setEnabled(known)
        self.fit_button.setEnabled(opened is not None)
        if opened is None:
            self.facts.setText("No slide is open. Drop one onto the window, or press Open slide.")
            self._tissue_buttons()
            return
        info = opened.slide.info
        size = f"{info.size[0]:,} x {info.size[1]:,} px".replace(",", "\u2009")
        if info.mpp is not None:
            width, height = info.size[0] * info.mpp / 1000, info.size[1] * info.mpp / 1000
            size += f", {width:.1f} x {height:.1f} mm, {info.mpp:.4g} µm/px"
            self.mpp.setValue(info.mpp)
            self.mpp_wrong.hide()
            self.mpp_text.setText("The pixel size was given by you; it is kept with the results.")
        else:
            self.mpp_text.setText(
                f"{info.path.name} does not say how large its pixels are. Enter µm per pixel (20x is about 0.5, 40x about"
                " 0.25): without it the model cannot be run."
            )
        self.facts.setText(f"<b>{html.escape(info.path.name)}</b><br>{size}, {html.escape(str(info.vendor))}")
        self._load_minimap()
        self._tissue_buttons()
        self._view_moved()

    def _load_minimap(self) -> None:
        opened = self.session.opened
        assert opened is not None
        slide = opened.slide

        def show(pixels: NDArray[np.uint8]) -> None:
            if self.session.opened is opened:
                self.minimap.set_image(pixels)
                self._view_moved()

        self.session.start(
            lambda progress: slide.thumbnail(2 * MINIMAP_PX), "minimap", show, shown=False, of_slide=True
        )

    def _tissue_buttons(self) -> None:
        opened, mask = self.session.opened is not None, self.session.tissue is not None
        self.find_button.setEnabled(opened)
        self.import_button.setEnabled(opened)
        for button in (self.outline_button, self.brush_button):
            button.setEnabled(opened)
        for button in (self.export_button, self.show_tissue):
            button.setEnabled(mask)

    def _view_moved(self, event: object = None) -> None:
        opened = self.session.opened
        if opened is None:
            self.power.setText("")
            return
        info = opened.slide.info
        if info.mpp is not None:
            self.power.setText(f"Now seen at <b>{self.layers.camera.magnification:.3g}x</b>")
        sx, sy = (info.mpp_x or 1.0, info.mpp_y or 1.0) if info.mpp else (1.0, 1.0)
        camera = self.layers.viewer.scene.camera
        canvas = self.layers.viewer.canvas.size
        width, height = canvas[1] / camera.zoom / sx, canvas[0] / camera.zoom / sy
        x, y = camera.center[-1] / sx - width / 2, camera.center[-2] / sy - height / 2
        self.minimap.set_view(
            QRectF(x / info.size[0], y / info.size[1], width / info.size[0], height / info.size[1])
        )

    def _go_to(self, x: float, y: float) -> None:
        opened = self.session.opened
        if opened is None:
            return
        info = opened.slide.info
        sx, sy = (info.mpp_x or 1.0, info.mpp_y or 1.0) if info.mpp else (1.0, 1.0)
        self.layers.viewer.scene.camera.center = (0, y * info.size[1] * sy, x * info.size[0] * sx)

    # --- actions -------------------------------------------------------------------------------------------

    def _ask_open(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open slide", "", DIALOG_FILTER)
        if name:
            self.session.open_slide(Path(name))

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open the folder of a DICOM slide")
        if name:
            self.session.open_slide(Path(name))

    def _choose_slide(self, several: SeveralSlidesError, take: Callable[[Path], object]) -> None:
        """Ask which of the slides of a folder is meant; without an answer none is opened."""
        names = {words: path for path, words in several.choices}
        name, chosen = QInputDialog.getItem(
            self,
            "Which slide?",
            f"<p>Slides in {html.escape(several.folder.name)}</p>",
            list(names),
            0,
            False,
        )
        if chosen:
            take(names[name])

    def _give_mpp(self) -> None:
        mpp = self.mpp.value()
        if mpp is None:
            self.mpp_wrong.setText(
                f"'{self.mpp.text()}' is no pixel size from {shown_number(MPP_RANGE[0])} to {shown_number(MPP_RANGE[1])} µm."
                f" Enter it again: 20x is about {shown_number(0.5)}, 40x about {shown_number(0.25)}."
            )
            self.mpp_wrong.show()
            self.mpp.selectAll()
            self.mpp.setFocus()
            return
        self.mpp_wrong.hide()
        self.session.set_mpp(mpp)

    def _edit(self) -> None:
        self.show_tissue.setChecked(True)
        self.editor.begin_outline()

    def _brush(self) -> None:
        self.editor.begin_brush()

    @property
    def apply_button(self) -> QPushButton:
        return self.editor.apply_button

    def _import(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Read outlines", "", "GeoJSON (*.geojson *.json)")
        if name:
            self.import_outlines(Path(name))

    def import_outlines(self, path: Path, classes: tuple[str, ...] = ()) -> None:
        """Take the tissue from a file of outlines; of several classes the user says which is tissue."""
        if self.session.opened is None:
            return
        size = self.session.opened.slide.info.size

        def taken(mask: TissueMask) -> None:
            self.session.set_tissue(mask)
            if mask.notes:
                self.session.say(" ".join(mask.notes))

        def failed(error: Exception) -> None:
            if not isinstance(error, TissueClassNeededError):
                self.session.report(error)
                return
            name, chosen = QInputDialog.getItem(
                self,
                "Which outlines are tissue?",
                f"Class in {path.name}",
                [*error.classes, ALL_CLASSES],
                0,
                False,
            )
            if chosen:
                self.import_outlines(path, (name,))

        self.session.start(
            lambda progress: read_geojson(path, size, classes), "outlines", taken, failed, shown=False
        )

    def _export(self) -> None:
        mask, opened = self.session.tissue, self.session.opened
        if mask is None or opened is None:
            return
        name, _ = QFileDialog.getSaveFileName(
            self, "Write outlines", f"{opened.slide.info.path.stem}.geojson", "GeoJSON (*.geojson)"
        )
        if name:
            mpp = opened.slide.info.mpp
            self.session.start(lambda progress: write_geojson(mask, Path(name), mpp), "outlines", shown=False)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802  Qt's name
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        for url in event.mimeData().urls():
            if url.isLocalFile():
                try:
                    self.session.open_slide(Path(url.toLocalFile()))
                except SurvPGCError as error:
                    self.session.report(error)
                return
