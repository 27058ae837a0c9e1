"""Something to do on a later turn of the event loop, forgotten when its owner goes first."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

from qtpy.QtCore import QObject, QTimer

T = TypeVar("T")
_waiting: dict[QTimer, Callable[[], object]] = {}


def delayed(owner: QObject, milliseconds: int, action: Callable[[], object]) -> QTimer:
    """Return a timer that calls ``action`` once, that long after it was started last."""
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(action)
    return timer


def later(owner: QObject, milliseconds: int, action: Callable[[], object]) -> None:
    """Call ``action`` once; neither it nor what it holds outlives ``owner``, unlike with QTimer.singleShot.

    Until then something other than Qt has to hold it: an owner without a parent that holds it itself is a circle, which
    Python clears while Qt's timer still runs, and the call of a cleared function ends the process.
    """
    timer = delayed(owner, milliseconds, lambda: None)
    timer.destroyed.connect(lambda *_: _waiting.pop(timer, None))
    _waiting[timer] = action
    timer.timeout.connect(lambda *_: _act(timer))
    timer.start()


def _act(timer: QTimer) -> None:
    timer.deleteLater()
    _waiting[timer]()


def soon(thing: T, action: Callable[[T], object]) -> None:
    """Call ``action(thing)`` on the next turn, unless nobody else keeps ``thing`` until then."""
    known = weakref.ref(thing)

    def act() -> None:
        found = known()
        if found is not None:
            action(found)

    QTimer.singleShot(0, act)
