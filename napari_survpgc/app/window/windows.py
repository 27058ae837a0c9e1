"""Arranging napari's own window for people who look at slides."""

from __future__ import annotations

import weakref

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QWidget


def arrange(window: QWidget) -> None:
    """Put napari's layer panels away (the View menu brings them back) and close its notice about PyQt5.

    The notice comes at every start and offers a pathologist nothing to do; the README says what it says.
    """
    for panel in window.findChildren(QDockWidget):
        if panel.objectName() in ("layer controls", "layer list"):
            panel.hide()
    known = weakref.ref(window)  # a window that is closed before then is let go
    QTimer.singleShot(1500, lambda: _close_notice(known()))


def _close_notice(window: QWidget | None) -> None:
    if window is None:
        return
    try:
        found = [w for w in window.findChildren(QWidget) if type(w).__name__ == "NapariQtNotification"]
    except RuntimeError:
        return  # the window is gone
    for notice in found:
        if any("PyQt5 backend" in part.toolTip() + _text(part) for part in notice.findChildren(QWidget)):
            notice.close()


def _text(widget: QWidget) -> str:
    text = getattr(widget, "text", None)
    return str(text()) if callable(text) else ""
