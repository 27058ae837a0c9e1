"""Slides and cases that are dropped onto the canvas open at once, without napari's question which plugin shall read them.

napari's own reader claims almost every ending, so that napari asks for each of ours.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from napari.settings import get_settings
from qtpy.QtCore import QEvent, QMimeData, QObject, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent, QGuiApplication
from qtpy.QtWidgets import QWidget

from napari_survpgc.app.later import later
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.workers import Job
from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.features.feature_file import summarize_features
from napari_survpgc.core.output.case_file import SUFFIX
from napari_survpgc.core.slide.backends import is_slide
from napari_survpgc.core.slide.dicom_folder import holds_dicom
from napari_survpgc.core.slide.formats import SCANNER_SUFFIXES
from napari_survpgc.core.slide.not_read import SCANNERS_NOT_READ

_PLUGIN = "napari-survpgc"
_PATIENCE_MS = 300


class DropTarget(QObject):
    """Takes the slides, cases and features among what is dropped onto napari's canvas; the rest is napari's.

    What only its content tells is looked at on a thread, since a network drive may take seconds to give a header; what
    turns out to be none of these is dropped onto napari then. With Alt or Shift held down napari does what it says in
    its status bar.
    """

    def __init__(self, session: Session, window: QWidget) -> None:
        super().__init__(window)
        self.session = session
        self._looking: Job | None = None
        for widget in window.findChildren(QWidget):
            if type(widget).__name__ == "QtViewer":
                widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802  Qt's name
        if event.type() != QEvent.Type.Drop or not isinstance(event, QDropEvent):
            return False
        held = QGuiApplication.keyboardModifiers()
        if held & (Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.ShiftModifier):
            return False
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if len(paths) != 1:
            return False
        known = weakref.ref(watched)
        self.open(paths[0], lambda: _drop_on_napari(known(), paths[0]))
        event.acceptProposedAction()
        return True

    def open(self, path: Path, otherwise: Callable[[], object]) -> None:
        """Open a slide or a case, or take features for the open slide; ``otherwise`` is called for anything else."""
        if self._looking is not None:
            self._looking.cancel()  # the file that was dropped last is the one that is wanted
        ending = path.suffix.lower()
        if ending == SUFFIX:
            self.session.open_case(path)
        elif ending in SCANNER_SUFFIXES or ending in SCANNERS_NOT_READ:
            self.session.open_slide(path)
        else:
            opened = self.session.opened

            def take(content: Content) -> None:
                if content is Content.SLIDE:
                    self.session.open_slide(path)
                elif content is Content.FEATURES and self.session.opened is opened:
                    self.session.use_features(path)
                elif content is Content.OTHER:
                    otherwise()

            job = self._looking = self.session.start(
                lambda progress: content_of(path, features=opened is not None),
                "dropped file",
                take,
                shown=False,
            )
            later(self, _PATIENCE_MS, lambda: self._say_looking(job, path))

    def _say_looking(self, job: Job, path: Path) -> None:
        if job.running and job is self._looking:
            self.session.say(f"Looking at {path.name}…")


class Content(StrEnum):
    """What a file or folder holds."""

    SLIDE = "slide"
    FEATURES = "features"
    OTHER = "other"


def content_of(path: Path, *, features: bool) -> Content:
    """Read as much of a file as tells what it is; ``features``: a feature file is looked for, too."""
    if (path.is_dir() and holds_dicom(path)) or is_slide(path):
        return Content.SLIDE
    # Another HDF5 file is left to others, and a pickle is not opened to look.
    if features and path.suffix.lower() in (".h5", ".hdf5"):
        try:
            summarize_features(path)
        except FeatureError:
            return Content.OTHER
        return Content.FEATURES
    return Content.OTHER


def _drop_on_napari(canvas: QObject | None, path: Path) -> None:
    """Drop a file as if it had not been caught; the event that was caught is gone by now."""
    if canvas is None:
        return
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(
        QPointF(0, 0),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    canvas.dropEvent(event)


def prefer_for_slides() -> None:
    """Let File > Open take this plugin for the endings of slides, in this session, where the user has chosen none."""
    settings = get_settings()
    chosen = dict(settings.plugins.extension2reader)
    missing = [f"*{e}" for e in (*SCANNER_SUFFIXES, SUFFIX) if f"*{e}" not in chosen]
    if not missing:
        return
    saving = settings._save_on_change
    settings._save_on_change = False
    try:
        settings.plugins.extension2reader = {**chosen, **dict.fromkeys(missing, _PLUGIN)}
    finally:
        settings._save_on_change = saving
