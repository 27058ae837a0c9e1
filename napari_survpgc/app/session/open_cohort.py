"""The open folder of patients: a cohort is read once, and whoever asks about its patients shares the same models.

All work happens on threads; the state changes on the GUI thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.app.workers import Job
from napari_survpgc.core.cohort.cohort import Cohort, is_cohort_folder
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.jobs.batch import BatchReport, predict_batch, read_batch
from napari_survpgc.core.jobs.cohort_risks import cohort_patient, cohort_results, predict_slide_of
from napari_survpgc.core.jobs.results_folder import CaseResult, keep_follow_up, results_in
from napari_survpgc.core.jobs.thumbnails import PredictCase, thumbnail_of
from napari_survpgc.core.types import JobOptions, ProgressCallback

from .session import Session
from .state import Message, Severity


class OpenCohort:
    """See the module's docstring.

    Attributes
    ----------
    folder : None before one was opened.   cases : its patients.
    cohort : as it was read when the folder was opened; None for a folder of results.
    """

    def __init__(self, session: Session, opened: Callable[[], None]) -> None:
        self.session, self._opened = session, opened
        self.folder: Path | None = None
        self.cases: tuple[CaseResult, ...] = ()
        self.cohort: Cohort | None = None

    def open(
        self,
        folder: Path,
        *,
        long_follow_up: bool = False,
        failed: Callable[[Exception], None] | None = None,
    ) -> Job:
        """Read results, or predict the patients of a cohort folder from their features.

        ``failed`` gets a LongFollowUpError and any other; ``long_follow_up`` says that a person has confirmed the months.

        A folder that is opened again is read again: its files may have changed.
        """
        bundle, device, predictors = self.session.bundle, self.session.device, self.session.predictors

        def work(
            progress: ProgressCallback,
        ) -> tuple[tuple[CaseResult, ...], Cohort | None, tuple[str, ...], tuple[str, ...]]:
            if bundle is None or not is_cohort_folder(folder):
                results = results_in(folder)
                return results.cases, None, results.damaged, ()
            cohort = read_cohort(folder, long_follow_up=long_follow_up)
            found = cohort_results(cohort, predictors.get(bundle, device), progress)
            return found.cases, cohort, found.damaged, (*found.notes, *cohort.notes)

        return self.session.start(work, "cohort", lambda found: self._take(folder, *found), failed)

    def _take(
        self,
        folder: Path,
        cases: tuple[CaseResult, ...],
        cohort: Cohort | None,
        damaged: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.cases, self.cohort = folder, cases, cohort
        self._opened()
        if damaged:
            more = f" and {len(damaged) - 1} more, see Details" if len(damaged) > 1 else ""
            text = f"{len(cases)} patients are shown; not among them: {damaged[0].rstrip('.')}{more}."
            self.session.message.emit(Message(text, Severity.ERROR, "\n".join(damaged)))
        if notes:
            self.session.say(" ".join(notes))

    def predict_case(self) -> PredictCase | None:
        """Return what predicts a patient of the cohort with the model of now, for a thread; None where nothing can."""
        cohort, bundle = self.cohort, self.session.bundle
        device, predictors = self.session.device, self.session.predictors
        if cohort is None or bundle is None:
            return None
        return lambda case, slide: predict_slide_of(
            cohort, case.case_id, slide, predictors.get(bundle, device)
        )

    def make_thumbnails(
        self,
        cases: Sequence[CaseResult],
        max_px: int,
        made: Callable[[dict[str, NDArray[np.uint8]]], None],
    ) -> Job:
        """Make small pictures (h, w, 3) of patients, by case id; one of whom there is nothing to see is left out."""
        predict = self.predict_case()

        def work(progress: ProgressCallback) -> dict[str, NDArray[np.uint8]]:
            found: dict[str, NDArray[np.uint8]] = {}
            for case in cases:
                progress("thumbnails", len(found), len(cases))
                if case.case_id not in found:
                    pixels = thumbnail_of(case, max_px, predict)
                    if pixels is not None:
                        found[case.case_id] = pixels
            return found

        return self.session.start(work, "thumbnails", made, shown=False)

    def open_patient(self, case: CaseResult, slide: Path) -> None:
        """Open a slide of a patient of the cohort with record, expression and features."""
        cohort = self.cohort
        if cohort is None:
            return
        self.session.start(
            lambda progress: cohort_patient(cohort, case.case_id, slide),
            "patient",
            self.session.open_patient,
            shown=False,
        )

    def run_batch(self, patients: Path, slides: Path, expression: Path | None, out: Path) -> None:
        """Run a list of patients, then open the results; those who fail are named, the others go on."""
        bundle, device = self.session.bundle, self.session.device
        if bundle is None:
            self.session.say("Choose a model first.", Severity.ERROR)
            return

        def work(progress: ProgressCallback) -> tuple[BatchReport, tuple[CaseResult, ...]]:
            items, problems = read_batch(patients, slides, expression)
            report = predict_batch(items, bundle, out, options=JobOptions(device, 1), progress=progress)
            failed = (*problems, *report.failed)
            if report.done:
                keep_follow_up(patients, out, report.done)
            results = results_in(out).cases if report.done else ()
            return BatchReport(report.done, failed, report.notes), results

        def done(found: tuple[BatchReport, tuple[CaseResult, ...]]) -> None:
            report, cases = found
            if cases:
                self._take(out, cases, None)
            each = [f"{case}: {reason}" for case, reason in (*report.failed, *report.notes)]
            if each:
                more = " Details names the others." if len(each) > 1 else ""
                missed = f", {len(report.failed)} are not" if report.failed else ""
                text = f"{len(report.done)} patients are done{missed}. {each[0]}{more}"
                severity = Severity.ERROR if report.failed else Severity.NOTE
                self.session.message.emit(Message(text, severity, "\n".join(each)))
            else:
                self.session.say(
                    f"{len(report.done)} patients are done; results are in {out}.", Severity.DONE
                )

        self.session.start(work, "batch", done)
