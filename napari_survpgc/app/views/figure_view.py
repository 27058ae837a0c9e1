"""A matplotlib figure in a panel: follows napari's theme, copies and saves."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QImage, QPalette
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.core.errors import SurvPGCError, writing
from napari_survpgc.core.plots import recolor

FORMATS = "PNG image (*.png);;SVG drawing (*.svg);;PDF document (*.pdf)"


class FigureView(QWidget):
    """Shows a Figure in the colors of the window; what is saved or copied is dark on white."""

    failed = Signal(object)

    def __init__(self, name: str, height: int = 220) -> None:
        super().__init__()
        self.setObjectName(name)
        self._figure: Figure | None = None
        self._canvas = FigureCanvasQTAgg(Figure(figsize=(4, 2.5)))
        self._canvas.setMinimumHeight(height)
        self._canvas.setMinimumWidth(200)
        self._canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._canvas.setFixedHeight(height)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addStretch()
        self.copy_button = self._button("Copy", "Copy the figure to the clipboard", self.copy)
        self.save_button = self._button("Save…", "Save the figure as PNG, SVG or PDF", self._ask_and_save)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._canvas)
        layout.addLayout(buttons)

    def _button(self, text: str, tip: str, action: object) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda: action())  # type: ignore[operator]
        return button

    @property
    def figure(self) -> Figure | None:
        return self._figure

    def show_figure(self, figure: Figure) -> None:
        """Replace the figure."""
        self._figure = figure
        figure.set_canvas(self._canvas)
        self._canvas.figure = figure
        ratio = self._canvas.device_pixel_ratio
        figure.set_dpi(96 * ratio)
        self._fit()
        self._retheme()
        self._canvas.draw_idle()

    def _fit(self) -> None:
        if self._figure is not None:
            width, height = max(120, self._canvas.width()), max(80, self._canvas.height())
            self._figure.set_size_inches(width / 96, height / 96, forward=False)

    def _retheme(self) -> None:
        if self._figure is not None:
            palette = self.palette()
            recolor(
                self._figure,
                palette.color(QPalette.ColorRole.WindowText).name(),
                palette.color(QPalette.ColorRole.Window).name(),
            )

    def changeEvent(self, event: object) -> None:  # noqa: N802  Qt's name
        super().changeEvent(event)
        if getattr(event, "type", lambda: None)() in (event.Type.PaletteChange, event.Type.StyleChange):  # type: ignore[attr-defined]
            self._retheme()
            self._canvas.draw_idle()

    def resizeEvent(self, event: object) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(360, self._canvas.height() + 28)

    # --- copy and save -------------------------------------------------------------------------------------

    def _bytes(self, kind: str) -> bytes:
        assert self._figure is not None
        recolor(self._figure, "#000000", "#ffffff")
        try:
            stream = io.BytesIO()
            self._figure.savefig(stream, format=kind, dpi=200)
        finally:
            self._figure.set_canvas(self._canvas)
            self._figure.set_dpi(96 * self._canvas.device_pixel_ratio)
            self._retheme()
        return stream.getvalue()

    def copy(self) -> None:
        """Put the figure on the clipboard as an image."""
        if self._figure is not None:
            QApplication.clipboard().setImage(QImage.fromData(self._bytes("png"), "PNG"))

    def save(self, path: Path) -> None:
        """Save as PNG, SVG or PDF by the ending of the name."""
        if self._figure is None:
            return
        if path.suffix.lower() not in (".png", ".svg", ".pdf"):
            path = path.with_name(path.name + ".png")
        content = self._bytes(path.suffix[1:].lower())
        with writing(path):
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(content)
            partial.replace(path)

    def _ask_and_save(self) -> None:
        if self._figure is None:
            return
        name, _ = QFileDialog.getSaveFileName(self, "Save figure", f"{self.objectName()}.png", FORMATS)
        if name:
            try:
                self.save(Path(name))
            except SurvPGCError as error:
                self.failed.emit(error)


def accent(widget: QWidget) -> None:
    """Mark a button as the main one of its panel (bold; napari's themes have no accent role for plugins)."""
    font = widget.font()
    font.setBold(True)
    widget.setFont(font)
    widget.setCursor(Qt.CursorShape.PointingHandCursor)
