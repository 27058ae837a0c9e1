"""The dock "SurvPGC": the panels in the order of the work, the shortcuts, and what ends when the window closes."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import napari
import pint
from napari.settings import get_settings
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QShortcut,
    QSizePolicy,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.core.attention.maps import DIFFERENCE
from napari_survpgc.core.jobs.results_folder import CaseResult
from napari_survpgc.core.notice import RESEARCH_NOTICE
from napari_survpgc.core.types import ProgressCallback

from .canvas.case_layers import CaseLayers
from .later import later
from .session.session import Session
from .views.cohort.cohort_panel import CohortPanel
from .views.cohort.compare import Side, load_side, open_comparison
from .views.patient.case_panel import CasePanel
from .views.patient.gallery_panel import GalleryPanel
from .views.patient.maps_panel import MapsPanel
from .views.patient.model_panel import ModelPanel
from .views.patient.patient_panel import PatientPanel
from .views.patient.programmes_panel import ProgrammesPanel
from .views.patient.result_panel import ResultPanel
from .views.patient.run_panel import RunPanel
from .views.patient.slide_panel import POWERS, SlidePanel
from .views.patient.summary_bar import SummaryBar
from .views.widgets.message_bar import MessageBar
from .views.widgets.parts import Section, note, title_overlap
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

    Parameters
    ----------
    napari_viewer : the viewer (napari gives it by this name).
    load_model : read the demonstration model at once.
    """

    def __init__(self, napari_viewer: napari.Viewer, *, load_model: bool = True) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.setObjectName("SurvPGC")
        keep_triton_out()
        _slice_in_background()
        prefer_for_slides()
        self.session = Session()
        self.layers = CaseLayers(napari_viewer, self.session)
        self.slide = SlidePanel(self.session, self.layers)
        self.patient = PatientPanel(self.session)
        self.model = ModelPanel(self.session)
        self.run = RunPanel(self.session)
        self.result = ResultPanel(self.session)
        self.maps = MapsPanel(self.session, self.layers)
        self.gallery = GalleryPanel(self.session, self.layers)
        self.programmes = ProgrammesPanel(self.session)
        self.case = CasePanel(self.session)
        self.cohort = CohortPanel(self.session, self.compare)
        self.messages = MessageBar(self.session)

        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(2, 2, 6, 2)
        column.setSpacing(4)
        self.sections: dict[str, Section] = {}
        self.signposts: dict[str, QToolButton] = {}
        for title, widget, open_ in (
            ("Slide", self.slide, True),
            ("Patient", self.patient, True),
            ("Model", self.model, False),
            ("Run", self.run, True),
            ("Result", self.result, True),
            ("Maps", self.maps, False),  # unfolded by the first result
            ("Patches", self.gallery, False),
            ("What if: gene programmes", self.programmes, False),
            ("Case", self.case, True),
            ("Shortcuts", note(shortcut_text()), False),
        ):
            self.sections[title] = Section(title, widget, open_=open_)
            column.addWidget(self.sections[title])
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
        self._late = QTimer(self)
        self._late.setSingleShot(True)
        self._late.setInterval(_LATE_MS)
        self._late.timeout.connect(self._scroll_again)
        self._guard = _CloseGuard(self)
        self._shortcuts = self._make_shortcuts()
        self._figures = [*self.result.views.values(), self.cohort.km]
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
        for title in self.sections:
            button = QToolButton()
            button.setText({"Shortcuts": "Keys"}.get(title, title.split(":")[0]))
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
        for title in ("Result", "Maps", "Patches"):
            self.sections[title].expand()
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

    # --- shortcuts -----------------------------------------------------------------------------------------

    def _make_shortcuts(self) -> list[QShortcut]:
        actions: dict[str, Callable[[], object]] = {
            "Ctrl+Return": self._run,
            "Ctrl+.": self.session.cancel,
            "Alt+C": lambda: self.maps.toggle("clinic"),
            "Alt+G": lambda: self.maps.toggle("genomic"),
            "Alt+D": lambda: self.maps.toggle(DIFFERENCE),
            "Alt+T": lambda: self.slide.show_tissue.toggle(),
            "Alt+Right": lambda: self.gallery.step(1),
            "Alt+Left": lambda: self.gallery.step(-1),
            "Alt+0": self.layers.camera.fit,
            "Alt+R": self.session.reset_what_if,
        }
        for number, power in enumerate(POWERS, start=1):
            actions[f"Alt+{number}"] = lambda p=power: self._magnify(p)  # type: ignore[misc]
        made = []
        for keys, action in actions.items():
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(action)
            made.append(shortcut)
        return made

    def _run(self) -> None:
        if self.run.run_button.isEnabled():
            self.session.run()

    def _magnify(self, power: float) -> None:
        if self.session.opened is not None and self.session.opened.slide.info.mpp is not None:
            self.layers.camera.magnify(power)

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
            self.maps.disconnect_viewer,
            self.slide.disconnect_viewer,
            self.layers.close,
            self.gallery.close_images,
            *(figure.close_thread for figure in self._figures),
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


def shortcut_text() -> str:
    """Return the shortcuts as they are listed in the dock."""
    powers = ", ".join(f"{n}: {p:g}x" for n, p in enumerate(POWERS, start=1))
    rows = [
        ("Ctrl+Enter", "Run"),
        ("Ctrl+.", "Cancel"),
        ("Alt+C, Alt+G, Alt+D", "show or hide the clinic, genomic, difference map"),
        ("Alt+T", "show or hide the tissue outline"),
        ("Alt+→, Alt+←", "next, previous patch of the gallery"),
        ("Alt+0", "whole slide"),
        (f"Alt+1 … Alt+{len(POWERS)}", f"magnification ({powers})"),
        ("Alt+R", "reset what-if"),
        ("Tab, Space, arrows", "reach and use every control"),
    ]
    return (
        "<table>"
        + "".join(f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{w}</td></tr>" for k, w in rows)
        + "</table>"
    )


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


def sample_folder() -> Path:
    """Return where simulated patients are kept."""
    from napari_survpgc.core.user_folder import user_folder

    return user_folder() / "samples"
