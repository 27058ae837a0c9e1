"""The dock "SurvPGC": the panels in the order of the work, and what ends when the window closes."""

from __future__ import annotations

import gc
import os
from contextlib import suppress

import napari
import pint
from napari.settings import get_settings
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.core import log
from napari_survpgc.core.jobs.results_folder import CaseResult
from napari_survpgc.core.notice import RESEARCH_NOTICE
from napari_survpgc.core.types import ProgressCallback

from .canvas.case_layers import CaseLayers
from .later import delayed, later
from .session.session import Session
from .views.cohort.cohort_panel import CohortPanel
from .views.cohort.compare import Side, load_side, open_comparison
from .views.panels import PANELS
from .views.patient.gallery_panel import GalleryPanel
from .views.patient.maps_panel import MapsPanel
from .views.patient.run_panel import RunPanel
from .views.patient.shortcuts import make_shortcuts
from .views.patient.slide_panel import SlidePanel
from .views.patient.summary_bar import SummaryBar
from .views.widgets.message_bar import MessageBar
from .views.widgets.parts import Section, title_overlap
from .window.drop import DropTarget, prefer_for_slides
from .window.native_libraries import keep_triton_out

WIDTH, NARROWEST = 430, 400
_LATE_MS = 60
_SIGNPOST = (
    "QToolButton { border: none; padding: 3px 0px; background: transparent; font-size: 8pt; }"
    "QToolButton:hover { background: rgba(128, 128, 128, 80); border-radius: 3px; }"
    "QToolButton:focus { border-bottom: 2px solid #56b4e9; }"
)


class SurvPGCDock(QWidget):
    """Everything of one viewer. ``session`` is the open case, ``layers`` what the canvas shows of it.

    Each panel is an attribute by the name that :data:`PANELS` gives it; those that the dock itself uses are declared.

    Parameters
    ----------
    napari_viewer : the viewer (napari gives it by this name).
    load_model : read the demonstration model at once.
    """

    slide: SlidePanel
    run: RunPanel
    maps: MapsPanel
    gallery: GalleryPanel

    def __init__(self, napari_viewer: napari.Viewer, *, load_model: bool = True) -> None:
        super().__init__()
        self.viewer = napari_viewer
        log.start("window", apart=True)
        self.setObjectName("SurvPGC")
        keep_triton_out()
        _slice_in_background()
        prefer_for_slides()
        self.session = Session()
        self.layers = CaseLayers(napari_viewer, self.session)

        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(2, 2, 6, 2)
        column.setSpacing(4)
        self.panels: list[QWidget] = []
        self.sections: dict[str, Section] = {}
        self.signposts: dict[str, QToolButton] = {}
        for entry in PANELS:
            widget = entry.make(self.session, self.layers)
            self.panels.append(widget)
            setattr(self, entry.name, widget)
            self.sections[entry.title] = Section(entry.title, widget, open_=entry.is_open)
            column.addWidget(self.sections[entry.title])
        self.cohort = CohortPanel(self.session, self.compare)
        self.messages = MessageBar(self.session)
        column.addStretch()
        self.scroll = _scroll(content)
        cohort = QWidget()
        inner = QVBoxLayout(cohort)
        inner.setContentsMargins(2, 2, 6, 2)
        inner.addWidget(self.cohort)
        inner.addStretch()
        one = QWidget()
        inner = QVBoxLayout(one)
        inner.setContentsMargins(0, 2, 0, 0)
        inner.setSpacing(2)
        self.summary = SummaryBar(self.session, lambda: self.show_section("Result"))
        inner.addWidget(self._signposts())
        inner.addWidget(self.scroll)
        inner.addWidget(self.summary)
        self.tabs = QTabWidget()
        self.tabs.addTab(one, "Patient")
        self.tabs.addTab(_scroll(cohort), "Cohort")
        self.tabs.setTabToolTip(0, "One patient: slide, record, result")
        self.tabs.setTabToolTip(1, "Many patients: table, survival curves, comparison")

        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2 + title_overlap(self), 2, 2)
        banner = QLabel(RESEARCH_NOTICE)
        banner.setAlignment(Qt.AlignmentFlag.AlignCenter)
        banner.setStyleSheet("background: #7a5b00; color: white; padding: 3px; border-radius: 3px;")
        banner.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        layout.addWidget(banner)
        layout.addWidget(self.messages)
        layout.addWidget(self.tabs)
        self.setMinimumWidth(NARROWEST)
        self._ended = False
        self._wanted = ("", 0)  # the section that was asked for, and where that scrolled to
        self._late = delayed(self, _LATE_MS, self._scroll_again)
        self._guard = _CloseGuard(self)
        self._shortcuts = make_shortcuts(
            self,
            self.session,
            self.layers,
            slide=self.slide,
            run=self.run,
            maps=self.maps,
            gallery=self.gallery,
        )
        self._comparisons: list[napari.Viewer] = []
        self._had_result = False
        self._frozen_with_encoders = False
        self.session.result_changed.connect(self._first_result)
        self.session.bundle_changed.connect(self._hints)
        later(self, 0, self._watch_window)
        # pint makes its registry at the first use, which no two threads may do at once: here, before there are any.
        _ = pint.get_application_registry().micrometer
        self.session.start(lambda progress: warm_up(), "warm-up", lambda _: self._freeze(), shown=False)
        if load_model:
            self.session.load_bundle(None)
        self._adopt_open_slide()
        later(self, 0, self.layers.spare.prepare)

    def _signposts(self) -> QWidget:
        """One small button a section: the dock is longer than any screen."""
        box = QWidget()
        line = QHBoxLayout(box)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(0)
        for entry in PANELS:
            title = entry.title
            button = QToolButton()
            button.setText(entry.signpost or title)
            button.setAccessibleName(f"Go to {title}")
            button.setToolTip(f"Go to {title}")
            button.setStyleSheet(_SIGNPOST)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _=False, t=title: self.show_section(t))
            line.addWidget(button)
            self.signposts[title] = button
        return box

    def _hints(self) -> None:
        bundle = self.session.bundle
        self.sections["Model"].set_hint(bundle.config.name if bundle else "")

    def _adopt_open_slide(self) -> None:
        """Take a slide that was opened before the dock."""
        for layer in reversed(self.viewer.layers):
            self.layers.adopt_layer(layer)
            if self.session.opened is not None:
                return

    # --- flow ----------------------------------------------------------------------------------------------

    def _first_result(self) -> None:
        """Bring the result into view when it comes, not on every what-if."""
        has = self.session.result is not None
        if has and not self._frozen_with_encoders:
            self._frozen_with_encoders = True
            self._freeze()
        if has and not self._had_result:
            self.tabs.setCurrentIndex(0)
            later(self, 0, self._unfold)  # not in the turn in which all panels take the result
        self._had_result = has

    def _unfold(self) -> None:
        for entry in PANELS:
            if entry.with_result:
                self.sections[entry.title].expand()
        later(self, 50, self._show_result)

    def _show_result(self) -> None:
        self.show_section("Result")

    def show_section(self, title: str) -> None:
        """Scroll so that a section begins at the top."""
        self.tabs.setCurrentIndex(0)
        self.sections[title].expand()
        self._scroll_to(title)
        # Texts that wrap get their height late; who scrolls meanwhile is left in peace.
        self._wanted = (title, self.scroll.verticalScrollBar().value())
        self._late.start()

    def _scroll_again(self) -> None:
        title, place = self._wanted
        if self.scroll.verticalScrollBar().value() == place:
            self._scroll_to(title)

    def _scroll_to(self, title: str) -> None:
        content = self.scroll.widget()
        assert content is not None
        layout = content.layout()
        assert layout is not None
        layout.activate()
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        box = self.sections[title]
        self.scroll.verticalScrollBar().setValue(box.mapTo(content, box.rect().topLeft()).y())

    def compare(self, one: CaseResult, other: CaseResult) -> None:
        """Open two patients side by side; the slides are opened on a thread."""
        predict = self.cohort.patients.predict_case()

        def work(progress: ProgressCallback) -> tuple[Side, Side]:
            progress("results", 0, 2)
            first = load_side(one, predict)
            progress("results", 1, 2)
            return first, load_side(other, predict)

        self.session.start(work, "compare", self._show_comparison)

    def _show_comparison(self, sides: tuple[Side, Side]) -> None:
        viewer = open_comparison(sides, closed=lambda: self._comparisons.remove(viewer))
        self._comparisons.append(viewer)

    @property
    def comparisons(self) -> list[napari.Viewer]:
        return self._comparisons

    def _freeze(self) -> None:
        """Take what was imported by now out of the garbage collector's sight: after the warm-up, and after a run.

        napari collects everything whenever a layer is removed (``VispyCanvas._clean_and_update_scenegraph``), which
        froze the window for half a second.
        """
        if not self._ended:
            gc.freeze()

    # --- end -----------------------------------------------------------------------------------------------

    def _watch_window(self) -> None:
        if not self._ended:
            self.window().installEventFilter(self._guard)
            self.drops = DropTarget(self.session, self.window())

    def end(self) -> None:
        """Stop all work and let go of the viewer; safe to call twice."""
        if self._ended:
            return
        self._ended = True
        for step in (
            *(panel.end for panel in (*self.panels, self.cohort) if hasattr(panel, "end")),
            self.layers.close,
            self.session.close,
        ):
            with suppress(RuntimeError):  # what it is about has gone before it
                step()
        gc.unfreeze()  # the viewer is to be collected


class _CloseGuard(QObject):
    """Ends the dock's work when its window closes, or when napari destroys the dock."""

    def __init__(self, dock: SurvPGCDock) -> None:
        super().__init__(dock)
        self._dock = dock
        # napari deletes its window while closing it. The dock's own C++ part is gone when this fires; its Python part
        # can still stop threads and let go of the viewer.
        dock.destroyed.connect(self._gone)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802  Qt's name
        if event.type() == QEvent.Type.Close and watched is self._dock.window():
            later(self, 0, self._after_close)
        return False

    def _after_close(self) -> None:
        """napari asks before it closes; end only what has really gone."""
        try:
            gone = not self._dock.window().isVisible()
        except RuntimeError:
            gone = True
        if gone:
            self._dock.end()

    def _gone(self) -> None:
        self._dock.end()


def _scroll(content: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(content)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    return area


def warm_up() -> None:
    """Pay on a thread what the first use of a library costs: figures and their fonts, survival curves."""
    import lifelines  # noqa: F401  seconds to import
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    figure.add_subplot().set_title("Survival")
    FigureCanvasAgg(figure).draw()


def _slice_in_background() -> None:
    """Let napari read slides on its thread, in this session only: otherwise every pan reads on the GUI thread.

    The user's saved preferences are not changed.
    """
    settings = get_settings()
    if "NAPARI_ASYNC" in os.environ or settings.experimental.async_:
        return
    saving = settings._save_on_change
    settings._save_on_change = False
    try:
        settings.experimental.async_ = True
    finally:
        settings._save_on_change = saving


def dock_of(viewer: napari.Viewer) -> SurvPGCDock:
    """Return the dock of a viewer, opened if it is not."""
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, SurvPGCDock):
            return widget
    _, widget = viewer.window.add_plugin_dock_widget("napari-survpgc", "SurvPGC")
    assert isinstance(widget, SurvPGCDock)
    return widget
