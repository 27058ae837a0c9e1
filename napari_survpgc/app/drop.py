"""Slides and cases that are dropped onto the canvas open at once, without napari's question which plugin shall read them.

napari's own reader claims almost every ending, so that napari asks for each of ours.
"""

from __future__ import annotations

from pathlib import Path

from napari.settings import get_settings
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QDropEvent, QGuiApplication
from qtpy.QtWidgets import QWidget

from napari_survpgc.core.case_file import SUFFIX
from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.feature_file import summarize_features
from napari_survpgc.core.slide_backends import is_slide

from .session import Session

SLIDE_ENDINGS = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu")
"""Endings that only scanners write; a .tif may be anything."""
_PLUGIN = "napari-survpgc"


class DropTarget(QObject):
    """Takes the slides and cases among what is dropped onto napari's canvas; the rest is napari's.

    With Alt or Shift held down napari does what it says in its status bar.
    """

    def __init__(self, session: Session, window: QWidget) -> None:
        super().__init__(window)
        self.session = session
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
        if len(paths) != 1 or not self.open(paths[0]):
            return False
        event.acceptProposedAction()
        return True

    def open(self, path: Path) -> bool:
        """Open a slide or a case, or take features for the open slide; False for anything else."""
        ending = path.suffix.lower()
        if ending == SUFFIX:
            self.session.open_case(path)
        elif ending in SLIDE_ENDINGS or _is_slide(path):
            self.session.open_slide(path)
        elif self.session.opened is not None and _has_features(path):
            self.session.use_features(path)
        else:
            return False
        return True


def _is_slide(path: Path) -> bool:
    return any(path.glob("*.dcm")) if path.is_dir() else is_slide(path)


def _has_features(path: Path) -> bool:
    """Whether a file holds patch features; another HDF5 file is left to others, and a pickle is not opened to look."""
    if path.suffix.lower() not in (".h5", ".hdf5"):
        return False
    try:
        summarize_features(path)
    except FeatureError:
        return False
    return True


def prefer_for_slides() -> None:
    """Let File > Open take this plugin for the endings of slides, in this session, where the user has chosen none."""
    settings = get_settings()
    chosen = dict(settings.plugins.extension2reader)
    missing = [f"*{e}" for e in (*SLIDE_ENDINGS, SUFFIX) if f"*{e}" not in chosen]
    if not missing:
        return
    saving = settings._save_on_change
    settings._save_on_change = False
    try:
        settings.plugins.extension2reader = {**chosen, **dict.fromkeys(missing, _PLUGIN)}
    finally:
        settings._save_on_change = saving
