"""A matplotlib figure in a panel: follows napari's theme, copies and saves. Drawn on a thread, shown as an image.

matplotlib needs 50 to 100 ms for a figure, too long for the GUI thread while a slider moves. Figures that change often
have a key; while it stays the same only their artists with the gid "live" are drawn, over the kept background. That
takes about 10 ms and is done at once, so that a curve moves in the same painting of the window as what belongs to it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from qtpy.QtCore import QEvent, QRect, QSize, Signal
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QPalette, QResizeEvent
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.app.later import later
from napari_survpgc.app.workers import Job, Latest
from napari_survpgc.core.files import write_bytes
from napari_survpgc.core.output.plots import recolor, suit
from napari_survpgc.core.types import ProgressCallback

FORMATS = "PNG image (*.png);;SVG drawing (*.svg);;PDF document (*.pdf)"
# matplotlib's caches (fonts, ticks) are not made for several threads.
_DRAWING = threading.Lock()
_DPI = 96
_LIVE = ("live", "neutral")


@dataclass(frozen=True)
class _Look:
    """What a drawing depends on besides the data."""

    width: int
    height: int
    ratio: float
    foreground: str
    background: str


@dataclass(frozen=True)
class _Background:
    look: _Look
    figure: Figure
    region: Any
    positions: tuple[Any, ...]


class FigureView(QWidget):
    """Shows a Figure in the colors of the window; what is saved or copied is dark on white."""

    failed = Signal(object)
    drawn = Signal()

    def __init__(self, name: str, height: int = 220) -> None:
        super().__init__()
        self.setObjectName(name)
        self._make: Callable[[], Figure] | None = None
        self._key: object = None
        self._move: Callable[[Axes], None] | None = None
        self._kept: dict[object, _Background] = {}
        self._ahead: tuple[Callable[[], Figure], object] | None = None
        self._asked = 0  # number of the newest drawing
        self._shown = 0  # of the one that is seen: an older one that comes later is not
        self._drawer = Latest(f"figure {name}")
        self._drawer.answered.connect(self._show)
        self._drawer.failed.connect(self.failed)
        self._jobs: list[Job] = []
        self.canvas = _Canvas(height)
        self.canvas.resized.connect(self._draw)
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
        layout.addWidget(self.canvas)
        layout.addLayout(buttons)
        # The C++ part may go at any time; the drawing thread ends with it.
        self.destroyed.connect(self._drawer.close)

    def _button(self, text: str, tip: str, action: Callable[[], object]) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda: action())
        return button

    def show_figure(
        self, make: Callable[[], Figure], key: object = None, move: Callable[[Axes], None] | None = None
    ) -> None:
        """Draw the figure that ``make`` returns; called on a thread.

        Parameters
        ----------
        key : figures of the same key differ only in their "live" artists; None draws all of it.
        move : adds these artists to the axes of an earlier figure of the key, where it is at hand.
        """
        self._make, self._key, self._move, self._ahead = make, key, move, None
        self._draw()

    def prepare(self, make: Callable[[], Figure], key: object) -> None:
        """Draw the background of a figure that will come next, once the present one is shown."""
        self._ahead = (make, key)

    def _prepare(self) -> None:
        if self._ahead is None:
            return
        (make, key), look, self._ahead = self._ahead, self._look(), None

        def work() -> None:
            with _DRAWING:
                self._pixels(make(), key, look)

        self._drawer.submit(work)

    def _look(self) -> _Look:
        palette = self.palette()
        return _Look(
            max(120, self.canvas.width()),
            max(80, self.canvas.height()),
            self.devicePixelRatioF(),
            palette.color(QPalette.ColorRole.WindowText).name(),
            palette.color(QPalette.ColorRole.Window).name(),
        )

    def _draw(self) -> None:
        if self._make is None:
            return
        make, key, look = self._make, self._key, self._look()
        self._asked += 1
        number = self._asked
        if self._draw_at_once(make, key, look):
            return

        def work() -> tuple[int, bytes, _Look]:
            with _DRAWING:
                return number, self._pixels(make(), key, look), look

        self._drawer.submit(work)

    def _draw_at_once(self, make: Callable[[], Figure], key: object, look: _Look) -> bool:
        """Draw over a kept background; False when there is none, or a thread is drawing."""
        kept = self._kept.get(key)
        if key is None or kept is None or kept.look != look or not _DRAWING.acquire(blocking=False):
            return False
        try:
            pixels = self._pixels(self._moved(kept.figure) or make(), key, look)
        except Exception as error:  # noqa: BLE001  shown to the user, as one of the thread is
            self.failed.emit(error)
            return True
        finally:
            _DRAWING.release()
        self._drawer.clear()
        self._show((self._asked, pixels, look))
        return True

    def _moved(self, figure: Figure) -> Figure | None:
        """Put the new live artists in the place of the old ones; None where they come with a figure of their own.

        Axes with their ticks and labels take longer to make than to draw.
        """
        if self._move is None or len(figure.axes) != 1:
            return None
        (axes,) = figure.axes
        for artist in axes.get_children():
            if artist.get_gid() in _LIVE:
                artist.remove()
        axes.set_prop_cycle(None)
        self._move(axes)
        return figure

    def _pixels(self, figure: Figure, key: object, look: _Look) -> bytes:
        """Draw on the drawing thread; RGBA rows."""
        figure.set_dpi(_DPI * look.ratio)
        figure.set_size_inches(look.width / _DPI, look.height / _DPI)
        canvas = FigureCanvasAgg(figure)
        live = [a for axes in figure.axes for a in axes.get_children() if a.get_gid() in _LIVE]
        kept = self._kept.get(key)
        if kept is None or key is None or kept.look != look:
            recolor(figure, look.foreground, look.background)
            for artist in live:
                artist.set_animated(key is not None)
            canvas.draw()
            if key is None:
                return bytes(canvas.buffer_rgba())
            kept = _Background(
                look,
                figure,
                canvas.copy_from_bbox(figure.bbox),
                tuple(axes.get_position() for axes in figure.axes),
            )
            others = [(k, b) for k, b in self._kept.items() if k != key and b.look == look]
            self._kept = dict([*others[-1:], (key, kept)])
        else:
            figure.set_layout_engine("none")
            for axes, position in zip(figure.axes, kept.positions, strict=True):
                axes.set_position(position)
            canvas.get_renderer()
        canvas.restore_region(kept.region)
        for axes in figure.axes:
            for artist in axes.get_children():
                if artist in live:
                    if artist.get_gid() == "neutral" and hasattr(artist, "set_color"):
                        artist.set_color(look.foreground)
                    suit(artist, look.background)
                    axes.draw_artist(artist)
        return bytes(canvas.buffer_rgba())

    def _show(self, answer: tuple[int, bytes, _Look] | None) -> None:
        if answer is None:
            return  # prepared
        number, pixels, look = answer
        if number < self._shown:
            return
        self._shown = number
        width, height = round(look.width * look.ratio), round(look.height * look.ratio)
        width = len(pixels) // 4 // height if height else width
        image = QImage(pixels, width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()
        image.setDevicePixelRatio(look.ratio)
        self.canvas.set_image(image)
        self.drawn.emit()
        self._prepare()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802  Qt's name
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            later(self, 0, self._draw)

    def close_thread(self) -> None:
        self._drawer.close()

    # --- copy and save -------------------------------------------------------------------------------------

    def _encoded(self, kind: str) -> bytes:
        assert self._make is not None
        with _DRAWING:
            figure = self._make()
            recolor(figure, "#000000", "#ffffff")
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, dpi=200)
        return stream.getvalue()

    def _start(self, work: Callable[[ProgressCallback], Any], done: Callable[[Any], None]) -> Job:
        job = Job(work, "figure")
        job.succeeded.connect(done)
        job.failed.connect(self.failed)
        self._jobs = [*(j for j in self._jobs if j.running), job]
        return job.start()

    def copy(self) -> Job | None:
        """Put the figure on the clipboard as an image."""
        if self._make is None:
            return None

        def done(content: bytes) -> None:
            QApplication.clipboard().setImage(QImage.fromData(content, "PNG"))

        return self._start(lambda progress: self._encoded("png"), done)

    def save(self, path: Path) -> Job | None:
        """Save as PNG, SVG or PDF by the ending of the name, on a thread."""
        if self._make is None:
            return None
        if path.suffix.lower() not in (".png", ".svg", ".pdf"):
            path = path.with_name(path.name + ".png")

        def work(progress: ProgressCallback) -> None:
            content = self._encoded(path.suffix[1:].lower())
            write_bytes(path, content)

        return self._start(work, lambda _: None)

    def _ask_and_save(self) -> None:
        if self._make is None:
            return
        name, _ = QFileDialog.getSaveFileName(self, "Save figure", f"{self.objectName()}.png", FORMATS)
        if name:
            self.save(Path(name))


class _Canvas(QWidget):
    """The drawn image."""

    resized = Signal()

    def __init__(self, height: int) -> None:
        super().__init__()
        self._image: QImage | None = None
        self._height = height
        self.setMinimumWidth(200)
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_image(self, image: QImage) -> None:
        self._image = image
        self.update()

    @property
    def image(self) -> QImage | None:
        return self._image

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name
        return QSize(360, self._height)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if self._image is not None:
            painter = QPainter(self)
            ratio = self._image.devicePixelRatio()
            size = QSize(round(self._image.width() / ratio), round(self._image.height() / ratio))
            painter.drawImage(QRect(0, 0, size.width(), size.height()), self._image)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        if event.oldSize().width() != event.size().width():
            self.resized.emit()
