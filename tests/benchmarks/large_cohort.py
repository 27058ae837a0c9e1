"""20,000 patients in the cohort panel: shown, sorted, a step of the threshold, and how long the window is kept.

xvfb-run -a python -m tests.benchmarks.large_cohort [patients] [picture.png]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("NAPARI_ASYNC", "1")

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.cohort.cohort_panel import CohortPanel
from napari_survpgc.core.jobs.results_folder import CaseResult
from napari_survpgc.core.types import ClinicalRecord

PATIENTS = 20_000


def patients(count: int) -> tuple[CaseResult, ...]:
    rng = np.random.default_rng(0)
    risk = rng.normal(-2, 0.4, count)
    months = np.round(rng.exponential(60 * np.exp(-risk - 2)), 2)
    rank = risk.argsort().argsort() / count
    stages = ("Stage I", "Stage II", "Stage III", "Stage IV", None)
    return tuple(
        CaseResult(
            f"CASE-{rng.integers(1 << 40):012x}", float(risk[i]), float(100 * rank[i]),
            ("low", "intermediate", "high")[min(2, int(3 * rank[i]))],
            ClinicalRecord(age=float(rng.integers(30, 90)), sex=("female", "male")[i % 2], stage=stages[i % 5]),
            float(months[i]), int(rng.integers(0, 2)),
        )
        for i in range(count)
    )  # fmt: skip


class Turns:
    """How long the event loop was kept, measured by the processor's time of the thread: others may use the machine."""

    def __init__(self, app: QApplication) -> None:
        self.app = app
        self.wall = self.cpu = self.worst = 0.0

    def of(self, action: Callable[[], object], settled: Callable[[], bool] = lambda: True) -> Turns:
        """Do it, then let the window work until it has settled; each turn counts on its own."""
        begin = time.perf_counter()
        self.cpu = self.worst = 0.0
        self._turn(action)
        self._turn(self.app.processEvents)
        self.wall = time.perf_counter() - begin
        until = time.perf_counter() + 60
        while not settled() and time.perf_counter() < until:
            time.sleep(0.002)
            self._turn(self.app.processEvents)
        return self

    def _turn(self, action: Callable[[], object]) -> None:
        before = time.thread_time()
        action()
        spent = time.thread_time() - before
        self.cpu += spent
        self.worst = max(self.worst, spent)

    def __str__(self) -> str:
        return f"{1e3 * self.wall:7.0f} ms until seen, GUI thread {1e3 * self.cpu:6.0f} ms, longest turn {1e3 * self.worst:5.0f} ms"


def measure(count: int = PATIENTS, picture: Path | None = None) -> dict[str, Turns]:
    """Return the turns of each action."""
    app = QApplication.instance() or QApplication([])
    panel = CohortPanel(Session(), lambda *_: None)
    panel.resize(560, 1150)
    panel.show()
    app.processEvents()
    cases = patients(count)
    drawn: list[bool] = []
    panel.km.drawn.connect(lambda: drawn.append(True))

    def settled() -> bool:
        return not panel.km._drawer.busy and not panel.session.busy

    view, found = panel.view, {}
    found["shown"] = Turns(app).of(lambda: panel.patients._take(Path("cohort"), cases, None), settled)
    for column in (0, 1, 8, 3):
        for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
            key = f"sorted by column {column} {'up' if order == Qt.SortOrder.AscendingOrder else 'down'}"
            found[key] = Turns(app).of(lambda c=column, o=order: view.sortByColumn(c, o), settled)
    found["filtered"] = Turns(app).of(lambda: panel.filter.setText("stage iii"), settled)
    found["filtered more"] = Turns(app).of(lambda: panel.filter.setText("stage iii high"), settled)
    found["all again"] = Turns(app).of(lambda: panel.filter.setText(""), settled)
    for number, step in enumerate((480, 481, 482, 520, 700)):
        found[f"threshold, step {number}"] = Turns(app).of(
            lambda s=step: panel.threshold.setValue(s), settled
        )
    for cut in ("Median", "Thirds"):
        found[f"cut {cut}"] = Turns(app).of(lambda c=cut: panel.cut.setCurrentText(c), settled)
    if picture is not None:
        app.processEvents()
        panel.grab().save(str(picture))
    assert drawn
    panel.end()
    return found


if __name__ == "__main__":
    given = sys.argv[1:]
    results = measure(int(given[0]) if given else PATIENTS, Path(given[1]) if len(given) > 1 else None)
    for name, turns in results.items():
        print(f"{name:24s} {turns}")
