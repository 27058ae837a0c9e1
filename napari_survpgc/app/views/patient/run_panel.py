"""Run: one button, progress by stage, remaining time, Cancel."""

from __future__ import annotations

import time

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QMessageBox, QProgressBar, QWidget

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import note, panel, primary, push, row
from napari_survpgc.app.workers import Job
from napari_survpgc.core.tissue.stain import StainError

from .features_view import FeaturesView

_STAGES = {
    "model": "Loading the model",
    "tissue": "Finding tissue",
    "patches": "Laying out patches",
    "features": "Looking at patches",
    "genes": "Reading the genes",
    "prediction": "Predicting",
    "results": "Writing results",
    "patients": "Predicting patients",
}
_TITLES = ("Tissue", "Patches", "Features", "Prediction")
_STAGE_OF = {"model": 0, "tissue": 0, "patches": 1, "features": 2, "genes": 3, "prediction": 3}


class RunPanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._job: Job | None = None
        self._stage = ""
        self._began, self._first = 0.0, 0
        layout = panel(self)
        self.run_button = push(
            "Run", "Find tissue, look at every patch and predict (Ctrl+Enter)", session.run, "run"
        )
        primary(self.run_button)
        self.run_button.setMinimumHeight(30)
        self.cancel_button = push(
            "Cancel",
            "Stop; what was finished is kept, and Run goes on from there (Ctrl+.)",
            session.cancel,
            "cancel",
        )
        self.cancel_button.setMinimumHeight(30)
        self.hint = note()
        self.features = FeaturesView(session)
        layout.addWidget(self.features)
        layout.addLayout(row(self.run_button, self.cancel_button))
        layout.addWidget(self.hint)
        self.stages = QLabel("")
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress")
        self.remaining = QLabel("")
        layout.addWidget(self.stages)
        layout.addWidget(self.bar)
        layout.addWidget(self.remaining)
        session.job_started.connect(self._started)
        session.job_ended.connect(self.refresh)
        session.stain_doubted.connect(self.ask_stain)
        for signal in (
            session.slide_changed, session.bundle_changed, session.patient_changed, session.stale_changed,
            session.result_changed,
        ):  # fmt: skip
            signal.connect(self.refresh)
        self.refresh()

    def _started(self, job: Job) -> None:
        self._job = job
        self._stage = ""
        job.progressed.connect(self._progressed)
        self.bar.setRange(0, 0)
        self.stages.setText("")
        self.remaining.setText("")
        self.refresh()

    def _progressed(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._first = stage, now, done
            current = _STAGE_OF.get(stage)
            words = [
                f"<b>{title}</b>" if number == current else title for number, title in enumerate(_TITLES)
            ]
            self.stages.setText("  ›  ".join(words) if current is not None else "")
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(done)
        text = _STAGES.get(stage, stage)
        if stage == "features":
            text += f": {done} of {total}"
        elapsed, made = now - self._began, done - self._first
        if made > 0 and elapsed > 2 and done < total:
            text += f", about {_duration(elapsed * (total - done) / made)} left"
        self.remaining.setText(text)

    def ask_stain(self, error: StainError) -> QMessageBox:
        """Ask whether to go on with a slide that is no H&E; nothing has been made of it yet."""
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("Is this an H&E slide?")
        box.setText(f"{error.problem}.")
        box.setInformativeText(
            "The model was trained on H&E only: risk and maps of another stain may mean nothing. Run all the same? The"
            " result will say so."
        )
        box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
        box.setDefaultButton(QMessageBox.StandardButton.No)
        box.button(QMessageBox.StandardButton.Yes).clicked.connect(self.session.run_any_stain)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()
        return box

    def refresh(self) -> None:
        running = self._job is not None and self._job.running
        if not running:
            self._job = None
        for widget in (self.stages, self.bar, self.remaining):
            widget.setVisible(running)
        self.cancel_button.setEnabled(running)
        missing = self.session.missing()
        self.run_button.setEnabled(not running and not missing)
        if missing:
            self.hint.setText(missing)
        elif stain := self.session.stain_doubt:
            self.hint.setText(stain)
        elif self.session.stale:
            self.hint.setText("The result below is of the earlier patient or outline: press Run to renew it.")
        else:
            self.hint.setText("")
        self.hint.setVisible(bool(self.hint.text()) and not running)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
