"""Core callables on threads, as Qt objects: progress, result, one clear error, cancel.

Signals arrive on the thread of their receiver; nothing else crosses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_survpgc.core.errors import CancelledError
from napari_survpgc.core.types import ProgressCallback

_SECONDS_BETWEEN = 0.05
_BEGIN_SECONDS = 0.003


class Job(QObject):
    """One long piece of work.

    Parameters
    ----------
    function : called as ``function(progress)`` on a thread of its own; ``progress`` raises CancelledError once
        :meth:`cancel` was called.
    """

    progressed = Signal(str, int, int)
    succeeded = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    ended = Signal()

    def __init__(self, function: Callable[[ProgressCallback], Any], name: str) -> None:
        super().__init__()
        self.name = name
        self.of_slide = False  # ends when its slide is closed
        self.apart = False  # not ended by Cancel
        self._function = function
        self._stop = threading.Event()
        self._over = threading.Event()
        self._last = ("", 0.0)
        # Not a daemon: a feature file that is being written is finished or cleaned up before the program ends.
        self._thread = threading.Thread(target=self._run, name=f"survpgc {name}")

    def start(self) -> Job:
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ask the work to stop at its next step; what it has finished is kept."""
        self._stop.set()

    @property
    def running(self) -> bool:
        """From the moment it is made until its outcome is known."""
        return not self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end (only while closing); True when it has come."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _progress(self, stage: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise CancelledError
        now = time.monotonic()
        # A signal a batch would keep the window busy with nothing but progress.
        if stage != self._last[0] or done >= total or now - self._last[1] >= _SECONDS_BETWEEN:
            self._last = (stage, now)
            self.progressed.emit(stage, done, total)

    def _run(self) -> None:
        outcome = self.succeeded
        value: tuple[Any, ...] = ()
        try:
            result = self._function(self._progress)
            if self._stop.is_set():
                outcome = self.cancelled
            else:
                value = (result,)
        except CancelledError:
            outcome = self.cancelled
        except Exception as error:  # noqa: BLE001  shown to the user with its details
            outcome, value = self.failed, (error,)
        self._over.set()
        try:
            outcome.emit(*value)
            self.ended.emit()
        except RuntimeError:
            return  # the window, and this object with it, is gone


class Latest(QObject):
    """Runs the newest request only: what came while another was running and is outdated is never computed.

    For what follows a slider: requests arrive faster than they can be answered.
    """

    answered = Signal(object)
    failed = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._condition = threading.Condition()
        self._next: Callable[[], Any] | None = None
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, function: Callable[[], Any]) -> None:
        """Ask for ``function()``; an earlier request that has not begun is forgotten."""
        with self._condition:
            if self._closed:
                return
            self._next = function
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"survpgc {self._name}", daemon=True)
                self._thread.start()
            self._condition.notify()
            # Qt keeps the interpreter to itself while it paints the window; until the thread has begun it waits here.
            self._condition.wait_for(self._has_begun, _BEGIN_SECONDS)

    def _has_begun(self) -> bool:
        return self._next is None or self._busy

    def clear(self) -> None:
        """Forget a request that has not begun."""
        with self._condition:
            self._next = None

    @property
    def busy(self) -> bool:
        with self._condition:
            return self._busy or self._next is not None

    def close(self) -> None:
        """End the thread after what it is doing."""
        with self._condition:
            self._closed, self._next = True, None
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._next is None and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                function, self._next, self._busy = self._next, None, True
                self._condition.notify_all()
            result: Any = None
            assert function is not None
            try:
                try:
                    result = function()
                except Exception as error:  # noqa: BLE001  shown to the user
                    self.failed.emit(error)
                else:
                    self.answered.emit(result)
            except RuntimeError:
                return  # the window is gone
            finally:
                function = result = None  # nothing of a case outlives it here
                with self._condition:
                    self._busy = False
