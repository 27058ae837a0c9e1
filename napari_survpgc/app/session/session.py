"""What views see: the open case, the work on it, and what can be asked for.

Each noun has an object of its own: the state of the case (:mod:`.open_case`), the work on threads (:mod:`.job_board`),
Run (:mod:`.running`), what-if and contributions (:mod:`.asking`), case files (:mod:`.saved`). All work happens on
threads; the state changes on the GUI thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_survpgc.app.workers import Job
from napari_survpgc.core.bundle.bundle import Bundle, load_bundle
from napari_survpgc.core.clinical.record_file import RecordFile
from napari_survpgc.core.errors import SeveralSlidesError
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.genomics.units import parse_unit
from napari_survpgc.core.predict.cache import PredictorCache
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.types import (
    Case,
    ClinicalRecord,
    PatchFeatures,
    ProgressCallback,
    TissueMask,
)
from napari_survpgc.core.user_folder import remember_mpp
from napari_survpgc.resources import resource_path

from .asking import Questions
from .job_board import JobBoard
from .open_case import OpenCase
from .running import Running
from .saved import CaseFiles
from .state import ExpressionState, GivenFeatures, OpenedSlide, Result, open_with_tiles


class Session:
    """See the module's docstring. Views use this class only; what they read here they do not change.

    Signals
    -------
    slide_choice(SeveralSlidesError, take) : one of several slides has to be chosen, see :class:`OpenCase`.
    slide_changed : a slide was opened, closed or given its pixel size.
    tissue_changed, patient_changed, bundle_changed, features_changed.
    job_started(Job), job_ended.   result_changed : new result, what-if or none.   stale_changed.
    stain_doubted(StainError) : Run waits for an answer, see :meth:`Running.run_any_stain`.
    attribution_changed : the contributions of a what-if have come, see :meth:`Questions.explain`.
    patch_selected(int) : index, -1 for none.   message(Message).
    slide_missing(Path) : the slide of this case file is not where it should be.
    """

    def __init__(self) -> None:
        self.case = case = OpenCase()
        self.jobs = jobs = JobBoard()
        self.questions = questions = Questions(case, jobs)
        self._running = running = Running(case, jobs, questions)
        files = CaseFiles(case, jobs, questions)
        case.slide_leaves.connect(jobs.cancel_of_slide)

        self.slide_choice = case.slide_choice
        self.slide_changed, self.tissue_changed = case.slide_changed, case.tissue_changed
        self.patient_changed, self.bundle_changed = case.patient_changed, case.bundle_changed
        self.features_changed, self.patch_selected = case.features_changed, case.patch_selected
        self.result_changed, self.stale_changed = case.result_changed, case.stale_changed
        self.attribution_changed, self.slide_missing = case.attribution_changed, case.slide_missing
        self.stain_doubted = case.stain_doubted
        self.job_started, self.job_ended, self.message = jobs.job_started, jobs.job_ended, jobs.message

        self.adopt, self.close_slide, self.set_tissue = case.adopt, case.close_slide, case.set_tissue
        self.set_record, self.set_profile = case.set_record, case.set_profile
        self.set_bundle, self.set_device = case.set_bundle, case.set_device
        self.select_patch, self.changes = case.select_patch, case.changes
        self.start, self.cancel, self.report, self.say = jobs.start, jobs.cancel, jobs.report, jobs.say
        self.set_fields, self.set_programme = questions.set_fields, questions.set_programme
        self.reset_what_if, self.explain = questions.reset, questions.explain
        self.show_anyway = case.show_anyway
        self.missing, self.use_features, self.run = running.missing, running.use_features, running.run
        self.run_any_stain = running.run_any_stain
        self.save_case, self.open_case, self.export = files.save, files.open, files.export

    # --- state ---------------------------------------------------------------------------------------------

    @property
    def opened(self) -> OpenedSlide | None:
        return self.case.opened

    @property
    def case_name(self) -> str:
        return self.case.name

    @property
    def tissue(self) -> TissueMask | None:
        return self.case.tissue

    @property
    def record(self) -> ClinicalRecord:
        return self.case.record

    @property
    def expression(self) -> ExpressionState | None:
        return self.case.expression

    @property
    def bundle(self) -> Bundle | None:
        return self.case.bundle

    @property
    def device(self) -> str:
        return self.case.device

    @property
    def given_features(self) -> GivenFeatures | None:
        return self.case.given_features

    @property
    def predictors(self) -> PredictorCache:
        return self.case.predictors

    @property
    def features(self) -> PatchFeatures | None:
        return self.case.features

    @property
    def result(self) -> Result | None:
        return self.case.result

    @property
    def stale(self) -> bool:
        """The result was made from something else than what is entered now."""
        return self.case.stale

    @property
    def stain_doubt(self) -> str:
        """Why the open slide is hardly an H&E slide, in one sentence, or ""."""
        opened = self.opened
        if opened is None or opened.stain.is_he:
            return ""
        return f"This does not look like an H&E slide: {opened.stain.sentence}."

    @property
    def programme_shifts(self) -> dict[str, float]:
        return self.case.programme_shifts

    @property
    def patch(self) -> int:
        return self.case.patch

    @property
    def view_settings(self) -> dict[str, Any]:
        """How the maps are shown; kept in the case file."""
        return self.case.view_settings

    @view_settings.setter
    def view_settings(self, settings: dict[str, Any]) -> None:
        self.case.view_settings = settings

    @property
    def busy(self) -> bool:
        return self.jobs.busy

    @property
    def can_ask(self) -> bool:
        return self.questions.possible

    @property
    def asking(self) -> bool:
        """A "what if" is being answered: ``result_changed`` follows."""
        return self.questions.waiting

    # --- what is read on a thread --------------------------------------------------------------------------

    def open_slide(self, path: Path, mpp: float | None = None, then: Callable[[], None] | None = None) -> Job:
        """Open a slide on a thread and show it."""

        def done(opened: OpenedSlide) -> None:
            self.adopt(opened)
            if then is not None:
                then()

        def failed(error: Exception) -> None:
            if isinstance(error, SeveralSlidesError):
                self.slide_choice.emit(error, lambda chosen: self.open_slide(chosen, mpp, then))
            else:
                self.report(error)

        return self.start(
            lambda progress: open_with_tiles(path, mpp), "open slide", done, failed, shown=False
        )

    def set_mpp(self, mpp: float) -> None:
        """Give the pixel size of the slide (µm per level-0 px); it is remembered for this slide."""
        if self.opened is None:
            return
        path, fingerprint = self.opened.slide.info.path, self.opened.slide.info.fingerprint

        def reopen(progress: ProgressCallback) -> OpenedSlide:
            opened = open_with_tiles(path, mpp)
            remember_mpp(fingerprint, mpp)
            return opened

        self.start(reopen, "pixel size", self.adopt, shown=False)

    def find_tissue(self) -> None:
        """Outline the tissue again, automatically."""
        if self.opened is None:
            return
        slide, stain = self.opened.slide, self.opened.stain
        self.start(
            lambda progress: find_tissue(slide, stain=stain, progress=progress),
            "tissue",
            self.set_tissue,
            of_slide=True,
        )

    def load_record(self, path: Path, case: str | None = None) -> None:
        """Read the record from JSON or CSV on a thread."""

        def read(progress: ProgressCallback) -> tuple[ClinicalRecord, tuple[str, ...]]:
            file = RecordFile(path)
            return file.record(case), file.notes

        def taken(found: tuple[ClinicalRecord, tuple[str, ...]]) -> None:
            record, notes = found
            self.set_record(record)
            if notes:
                self.say(" ".join(notes))

        self.start(read, "record", taken, shown=False)

    def load_expression(
        self,
        path: Path,
        sample: str | None = None,
        unit: str | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Job:
        """Read an expression file on a thread."""
        chosen = parse_unit(unit) if unit else None
        return self.start(
            lambda progress: read_expression(path, sample=sample, unit=chosen),
            "expression",
            self.set_profile,
            failed,
            shown=False,
        )

    def load_bundle(self, folder: Path | None = None) -> Job:
        """Read a bundle on a thread; None for the demonstration model."""
        place = folder or resource_path("demo_bundle")
        return self.start(lambda progress: load_bundle(place), "model", self.set_bundle, shown=False)

    def open_patient(self, case: Case) -> None:
        """Open a patient of a cohort: the first slide, record and expression; with its features also the result."""

        def then() -> None:
            self.case.take_patient(case.record, case.profile)
            if case.features:
                self._running.run_from(case.features[0])

        self.open_slide(case.slides[0], then=then)

    def close(self) -> None:
        """End all work and release the slide; called when the window closes."""
        if self.jobs.closed:
            return
        self.jobs.close()
        self.questions.close()
        self.jobs.wait()
        self.case.close()
