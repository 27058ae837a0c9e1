"""How long the GUI thread is kept by the project's code, apart from napari's and from waiting for a processor."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


def _folder(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent) + os.sep


OURS, THEIRS = "ours", "napari's"


@dataclass(frozen=True)
class Turn:
    """One callback of the event loop, in ms: what our code took, what napari took when our code called it.

    ``cpu`` is the processor's share of ours: the rest is waiting, for a file, a lock or another thread.
    """

    name: str
    ours: float
    theirs: float
    cpu: float


class GuiTime:
    """Watches the thread that enters it; ``turns`` are the callbacks in which our code took part.

    Where the kernel tells (Linux), time in which the thread was ready to run but had no processor does not count:
    that belongs to whatever else the machine does.
    """

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self._kinds = {_folder("napari_survpgc"): OURS, _folder("napari"): THEIRS, _folder("vispy"): THEIRS}
        self._of_file: dict[str, str] = {}
        self._stack: list[tuple[FrameType, str]] = []
        self._spent = {OURS: 0.0, THEIRS: 0.0}
        self._since = 0.0
        self._cpu, self._cpu_since = 0.0, 0.0
        self._name = ""

    def __enter__(self) -> GuiTime:
        try:
            self._waits = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        except OSError:
            self._waits = -1
        sys.setprofile(self._follow)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        if self._waits >= 0:
            os.close(self._waits)

    def _now(self) -> float:
        while True:
            before = self._waited()
            now = time.perf_counter()
            if self._waited() == before:  # not interrupted in between
                return 1e3 * now - 1e-6 * before

    def _waited(self) -> int:
        """Return the ns in which this thread has waited for a processor."""
        return int(os.pread(self._waits, 100, 0).split()[1]) if self._waits >= 0 else 0

    def _kind(self, file: str) -> str:
        if file not in self._of_file:
            found = (kind for folder, kind in self._kinds.items() if file.startswith(folder))
            self._of_file[file] = next(found, "")
        return self._of_file[file]

    def _follow(self, frame: FrameType, event: str, value: Any) -> None:
        if event == "call":
            kind = self._kind(frame.f_code.co_filename)
            if not kind or (self._stack and self._stack[-1][1] == kind):
                return
            now = self._now()
            if self._stack:
                self._count(self._stack[-1][1], now)
            if kind == OURS and not self._name:
                self._name = frame.f_code.co_qualname
                self._spent[THEIRS] = 0.0  # napari's before it called us is its own
            self._since, self._cpu_since = now, 1e3 * time.thread_time()
            self._stack.append((frame, kind))
        elif event == "return" and self._stack and self._stack[-1][0] is frame:
            now = self._now()
            self._count(self._stack.pop()[1], now)
            self._since, self._cpu_since = now, 1e3 * time.thread_time()
            if not self._stack:
                if self._name:
                    self.turns.append(Turn(self._name, self._spent[OURS], self._spent[THEIRS], self._cpu))
                self._spent, self._name, self._cpu = {OURS: 0.0, THEIRS: 0.0}, "", 0.0

    def _count(self, kind: str, now: float) -> None:
        self._spent[kind] += now - self._since
        if kind == OURS:
            self._cpu += 1e3 * time.thread_time() - self._cpu_since

    def worst(self, count: int = 8) -> list[Turn]:
        """Return the turns in which our code took longest, longest first."""
        return sorted(self.turns, key=lambda turn: -turn.ours)[:count]
