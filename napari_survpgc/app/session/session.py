"""The open case: slide, tissue, patient, model, result. Views read it, ask it for work and follow its signals.

All work happens on threads (:mod:`napari_survpgc.app.workers`); the state changes on the GUI thread only.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_survpgc.app.later import later
from napari_survpgc.app.workers import Job, Latest
from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.bundle.bundle import Bundle, load_bundle
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.clinical.record_file import read_record
from napari_survpgc.core.errors import CancelledError, ExpressionError, SlideError, SurvPGCError
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.genomics.normalize import normalize_profile
from napari_survpgc.core.genomics.units import parse_unit
from napari_survpgc.core.jobs.analysis import Analysis, Analyzer, features_of_slide
from napari_survpgc.core.output.case_file import SavedCase, find_case_slide, load_case, save_case
from napari_survpgc.core.output.folder import write_outputs
from napari_survpgc.core.predict.cache import PredictorCache
from napari_survpgc.core.predict.predictor import Predictor, state_of
from napari_survpgc.core.predict.what_if import attribute, for_slide, what_if
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.types import (
    Attribution,
    ClinicalRecord,
    ExpressionProfile,
    MppSource,
    PatchFeatures,
    Prediction,
    ProgressCallback,
    TissueMask,
)
from napari_survpgc.core.user_folder import remember_mpp
from napari_survpgc.resources import resource_path

from .state import (
    ExpressionState,
    GivenFeatures,
    Message,
    OpenedSlide,
    Result,
    Severity,
    bundle_of,
    open_with_tiles,
    word,
)

_POLL_SECONDS = 0.02


class Session(QObject):
    """See the module's docstring.

    Signals
    -------
    slide_changed : a slide was opened, closed or given its pixel size.
    tissue_changed, patient_changed, bundle_changed, features_changed.
    job_started(Job), job_ended.   result_changed : new result, what-if or none.   stale_changed.
    attribution_changed : the contributions of a what-if have come, see :meth:`explain`.
    patch_selected(int) : index, -1 for none.   message(Message).
    """

    slide_changed = Signal()
    tissue_changed = Signal()
    patient_changed = Signal()
    bundle_changed = Signal()
    features_changed = Signal()
    job_started = Signal(object)
    job_ended = Signal()
    result_changed = Signal()
    stale_changed = Signal()
    attribution_changed = Signal()
    patch_selected = Signal(int)
    message = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.opened: OpenedSlide | None = None
        self.tissue: TissueMask | None = None
        self.record = ClinicalRecord()
        self.expression: ExpressionState | None = None
        self.bundle: Bundle | None = None
        self.device = "auto"
        self.result: Result | None = None
        self.features: PatchFeatures | None = None
        self.given_features: GivenFeatures | None = None
        self.patch = -1
        self.stale = False
        self.case_name = ""
        self.view_settings: dict[str, Any] = {}
        self.programme_shifts: dict[str, float] = {}
        self.predictors = PredictorCache()
        self._predictor: Predictor | None = None  # of the result that is shown
        self._record_of_result: ClinicalRecord | None = None
        self._awaiting_model = False  # a reopened case whose model is not ready yet
        self._jobs: list[Job] = []
        self._what_if = Latest("what-if")
        self._what_if.answered.connect(self._show_changed)
        self._what_if.failed.connect(self._cannot_answer)
        self._explain = Latest("attribution")
        self._explain.answered.connect(self._show_explained)
        self._explain.failed.connect(self.report)
        self._foresight = Latest("foresight")
        self._foresight.failed.connect(self.report)
        self._closed = False

    # --- work ----------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return any(job.running for job in self._jobs)

    def start(
        self,
        function: Callable[[ProgressCallback], Any],
        name: str,
        succeeded: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        *,
        shown: bool = True,
        of_slide: bool = False,
        apart: bool = False,
    ) -> Job:
        """Run ``function(progress)`` on a thread; its outcome arrives here, on the GUI thread.

        Parameters
        ----------
        shown : announce it (progress bar, Cancel); False for what takes a moment.
        of_slide : it reads the open slide and ends with it; other work (a record, a batch) goes on.
        apart : no work on a case: Cancel leaves it alone.
        """
        job = Job(function, name)
        job.of_slide, job.apart = of_slide, apart
        self._jobs.append(job)
        if succeeded is not None:
            job.succeeded.connect(succeeded)
        job.failed.connect(failed or self.report)
        job.ended.connect(self._job_over)
        if shown:
            job.cancelled.connect(self._say_cancelled)
            self.job_started.emit(job)
        job.start()
        return job

    def _job_over(self) -> None:
        # The sender's thread may just be ending: keep it until it has, its object must not die on that thread.
        self._jobs = [job for job in self._jobs if job.running or not job.wait(0)]
        if not self._closed:
            self.job_ended.emit()

    def _say_cancelled(self) -> None:
        self.say("Stopped. What was finished is kept; press Run to go on.")

    def cancel(self) -> None:
        """Stop the work on cases; what is finished is kept. A download, which has its own Stop, goes on."""
        for job in self._jobs:
            if not job.apart:
                job.cancel()

    def _cancel_slide_work(self) -> None:
        for job in self._jobs:
            if job.of_slide:
                job.cancel()

    def report(self, error: Exception) -> None:
        """Show an error as one sentence; a traceback only behind Details, and only for what is our fault."""
        import traceback

        details = "".join(traceback.format_exception(error))
        if isinstance(error, SurvPGCError):
            self.message.emit(Message(str(error), Severity.ERROR, details))
        else:
            text = (
                f"Something went wrong that should not have ({type(error).__name__}). Save your case, try again, and"
                " send the details to the developers if it comes back."
            )
            self.message.emit(Message(text, Severity.ERROR, details))

    def say(self, text: str, severity: Severity = Severity.NOTE) -> None:
        self.message.emit(Message(text, severity))

    def close(self) -> None:
        """End all work and release the slide; called when the window closes."""
        if self._closed:
            return
        self._closed = True
        for job in self._jobs:
            job.cancel()
        self._what_if.close()
        self._explain.close()
        self._foresight.close()
        for job in self._jobs:
            job.wait(10)
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    # --- slide ---------------------------------------------------------------------------------------------

    def open_slide(self, path: Path, mpp: float | None = None, then: Callable[[], None] | None = None) -> Job:
        """Open a slide on a thread and show it."""

        def done(opened: OpenedSlide) -> None:
            self.adopt(opened)
            if then is not None:
                then()

        return self.start(lambda progress: open_with_tiles(path, mpp), "open slide", done, shown=False)

    def adopt(self, opened: OpenedSlide) -> None:
        """Take over an open slide as the case's slide; results of another slide go."""
        if self._closed:
            opened.close()
            return
        before = self.opened
        if before is not None and before is not opened:
            if self.result is not None and before.slide.info.fingerprint != opened.slide.info.fingerprint:
                # Another slide is another patient: nobody's fields may slip into somebody else's result.
                self.record, self.expression = ClinicalRecord(), None
                self.patient_changed.emit()
            before.close()
        self._cancel_slide_work()
        self.opened = opened
        self.tissue = None
        self.case_name = opened.slide.info.path.stem
        self._take_features(None)
        self._drop_result()
        self.slide_changed.emit()
        self.tissue_changed.emit()

    def close_slide(self) -> None:
        """Release the slide, e.g. because its layer was deleted."""
        if self.opened is None:
            return
        opened, self.opened = self.opened, None
        self._cancel_slide_work()
        opened.close()
        self.tissue = None
        self._take_features(None)
        self._drop_result()
        self.slide_changed.emit()
        self.tissue_changed.emit()

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

    # --- tissue --------------------------------------------------------------------------------------------

    def find_tissue(self) -> None:
        """Outline the tissue again, automatically."""
        if self.opened is None:
            return
        slide = self.opened.slide
        self.start(
            lambda progress: find_tissue(slide, progress=progress), "tissue", self.set_tissue, of_slide=True
        )

    def set_tissue(self, mask: TissueMask) -> None:
        """Use these outlines from now on; a result made with others is out of date."""
        self.tissue = mask
        self.tissue_changed.emit()
        self._mark_stale()

    # --- patient -------------------------------------------------------------------------------------------

    def set_fields(self, fields: Mapping[str, object]) -> None:
        """Change clinical fields. After a run this asks "what if" at once.

        Raises
        ------
        ClinicalError : a value makes no sense; nothing is changed.
        """
        record = parse_record({**dataclasses.asdict(self.record), **fields})
        if record == self.record:
            return
        self.record = record
        self._ask_what_if()  # first: the model computes while the panels follow
        self.patient_changed.emit()

    def set_record(self, record: ClinicalRecord) -> None:
        """Replace the record, e.g. from a file: another patient, so an earlier result is out of date."""
        self.record = record
        self.patient_changed.emit()
        self._mark_stale()

    def load_record(self, path: Path, case: str | None = None) -> None:
        """Read the record from JSON or CSV on a thread."""
        self.start(lambda progress: read_record(path, case), "record", self.set_record, shown=False)

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

    def set_profile(self, profile: ExpressionProfile | None) -> None:
        """Use this expression; None for a patient without."""
        self.expression = self._examine(profile) if profile is not None else None
        self.patient_changed.emit()
        self._mark_stale()

    def _examine(self, profile: ExpressionProfile) -> ExpressionState:
        reference = self.bundle.gene_reference if self.bundle else None
        if reference is None:
            return ExpressionState(profile, None, f"{len(profile.values)} genes, {profile.unit}")
        try:
            found = normalize_profile(profile, reference)
        except ExpressionError as error:
            return ExpressionState(profile, None, "", str(error))
        note = f"{len(found.found)} of the model's {len(reference.genes)} genes; unit {profile.unit}"
        return ExpressionState(profile, found.overlap, note)

    # --- model ---------------------------------------------------------------------------------------------

    def load_bundle(self, folder: Path | None = None) -> Job:
        """Read a bundle on a thread; None for the demonstration model."""
        place = folder or resource_path("demo_bundle")
        return self.start(lambda progress: load_bundle(place), "model", self.set_bundle, shown=False)

    def set_bundle(self, bundle: Bundle | None) -> None:
        self.bundle = bundle
        self._predictor = None
        if self.expression is not None:
            self.expression = self._examine(self.expression.profile)
        self.bundle_changed.emit()
        self.patient_changed.emit()
        self._mark_stale()

    def set_device(self, device: str) -> None:
        if device != self.device:
            self.device = device
            self._predictor = None

    # --- run -----------------------------------------------------------------------------------------------

    def missing(self) -> str:
        """Return what is still needed before Run, in one sentence, or ""."""
        if self.opened is None:
            return "Open a slide first."
        if self.opened.slide.info.mpp is None:
            return "Enter the pixel size of the slide first."
        if self.bundle is None:
            return "Choose a model first."
        if self.expression is not None and self.expression.problem:
            return self.expression.problem
        return ""

    def use_features(self, path: Path | None) -> Job | None:
        """Take the features of the open slide from a file of ours, CLAM, TRIDENT or STAMP; None: compute them again."""
        if path is None or self.opened is None:
            if path is not None:
                self.say("Open the slide of these features first.", Severity.ERROR)
            self._take_features(None)
            return None
        opened = self.opened

        def look(progress: ProgressCallback) -> GivenFeatures:
            found = features_of_slide(path, opened.slide.info)
            return GivenFeatures(path, len(found.grid), found.encoder or "")

        def taken(found: GivenFeatures) -> None:
            if self.opened is opened:
                self._take_features(found)

        return self.start(look, "features file", taken, shown=False, of_slide=True)

    def _take_features(self, given: GivenFeatures | None) -> None:
        if given != self.given_features:
            self.given_features = given
            self.features_changed.emit()
            self._mark_stale()

    def run(self) -> Job | None:
        """Tissue, patches, features, prediction; each step that was done before is taken from there."""
        problem = self.missing()
        if problem:
            self.message.emit(Message(problem, Severity.ERROR))
            return None
        assert self.opened is not None
        assert self.bundle is not None
        if self.given_features is not None:
            return self._run_from(self.given_features.path)
        opened, bundle, tissue = self.opened, self.bundle, self.tissue
        analyzer = Analyzer(bundle, self.device, self.predictors)
        record, profile = self.record, self._profile
        # Kept between sessions; one processor is left to the window.
        workers = max(1, (os.cpu_count() or 2) - 1)

        def work(progress: ProgressCallback) -> Analysis:
            return analyzer.run(
                opened.slide, record, profile, tissue=tissue, workers=workers, progress=progress
            )

        return self._analyze(work, opened)

    @property
    def _profile(self) -> ExpressionProfile | None:
        return self.expression.profile if self.expression else None

    def _analyze(self, work: Callable[[ProgressCallback], Analysis], opened: OpenedSlide) -> Job:
        """Run ``work`` on a thread; what was changed while it ran makes its result out of date."""
        bundle, tissue, profile = self.bundle, self.tissue, self._profile

        def finished(found: Analysis) -> None:
            if self.opened is not opened:
                return  # another slide was opened meanwhile
            edited = self.tissue is not tissue
            if not edited and found.tissue is not None and self.tissue is not found.tissue:
                self.tissue = found.tissue
                self.tissue_changed.emit()
            self.features, self._record_of_result = found.features, found.record
            self.programme_shifts = {}
            self._set_result(Result(found.prediction, found.prediction, found.maps))
            if edited or self.bundle is not bundle or self._profile is not profile:
                self._mark_stale()
                return
            self._predictor = found.predictor
            self._foresee(found.predictor, found.record)
            if self.record != found.record:
                self._ask_what_if()

        return self.start(work, "run", finished, of_slide=True)

    def _set_result(self, result: Result | None) -> None:
        self.result = result
        self.stale = False
        self.result_changed.emit()
        self.stale_changed.emit()

    def _drop_result(self) -> None:
        self._what_if.clear()
        self._explain.clear()
        self.features = self._record_of_result = None
        self._awaiting_model = False
        self.programme_shifts = {}
        self.patch = -1
        self._set_result(None)
        self.patch_selected.emit(-1)

    def _mark_stale(self) -> None:
        if self.result is not None and not self.stale:
            self.stale = True
            self.stale_changed.emit()

    # --- what if -------------------------------------------------------------------------------------------

    @property
    def can_ask(self) -> bool:
        return self.result is not None and self.result.original.state is not None and not self.stale

    @property
    def asking(self) -> bool:
        """A "what if" is being answered: ``result_changed`` follows."""
        return self._what_if.busy

    def set_programme(self, name: str, shift: float) -> None:
        """Shift all genes of a programme by standard deviations, relative to the patient."""
        shifts = {**self.programme_shifts, name: float(shift)}
        self.programme_shifts = {key: value for key, value in shifts.items() if value != 0}
        self._ask_what_if()

    def _ask_what_if(self) -> None:
        if self._awaiting_model:
            return  # asked when the model is ready
        if not self.can_ask:
            self._mark_stale()
            return
        assert self.result is not None
        result, original = self.result, self.result.original
        fields = dataclasses.asdict(self.record)
        shifts = dict(self.programme_shifts)
        if self.record == self._record_of_result and not shifts:
            self._what_if.submit(lambda: (original, original, AttentionMaps(original, result.maps).ranked()))
            return

        def answer() -> tuple[Prediction, Prediction, AttentionMaps]:
            prediction = what_if(original, fields, gene_sets=shifts, latest=result.shown)
            return original, prediction, AttentionMaps(prediction, result.maps).ranked()

        self._what_if.submit(answer)

    def _foresee(self, predictor: Predictor, record: ClinicalRecord) -> None:
        """Encode the values that may be chosen next, while nobody waits for anything."""

        def work() -> None:
            for _ in predictor.inputs.foresee(record):
                while (self.asking or self.busy) and not self._closed:
                    time.sleep(_POLL_SECONDS)
                if self._closed or self._predictor is not predictor:
                    return

        self._foresight.submit(work)

    def _cannot_answer(self, error: Exception) -> None:
        self.report(error)
        self.patient_changed.emit()

    def _show_changed(self, answer: tuple[Prediction, Prediction, AttentionMaps]) -> None:
        original, prediction, maps = answer
        if self.result is None or self.result.original is not original:
            return  # the answer belongs to an earlier case
        self.result = Result(original, prediction, maps)
        self.result_changed.emit()

    def explain(self) -> None:
        """Compute the contributions for what is shown, on a thread: seconds, so only when somebody looks at them."""
        if self.result is None or self.result.shown.attribution is not None or not self.can_ask:
            return
        shown = self.result.shown

        def still_wanted(stage: str, done: int, total: int) -> None:
            if self._closed or self.result is None or self.result.shown is not shown:
                raise CancelledError

        def work() -> tuple[Prediction, Attribution] | None:
            try:
                return shown, attribute(shown, still_wanted)
            except CancelledError:
                return None

        self._explain.submit(work)

    def _show_explained(self, answer: tuple[Prediction, Attribution] | None) -> None:
        if answer is None:
            return
        prediction, attribution = answer
        if self.result is not None and self.result.shown is prediction:
            explained = dataclasses.replace(prediction, attribution=attribution)
            self.result = dataclasses.replace(self.result, shown=explained)
            self.attribution_changed.emit()

    def reset_what_if(self) -> None:
        """Return to the patient as entered at Run."""
        if self.result is None or self._record_of_result is None:
            return
        self.record = self._record_of_result
        self.programme_shifts = {}
        self._ask_what_if()
        self.patient_changed.emit()

    def changes(self) -> tuple[str, ...]:
        """Return what differs from the patient at Run, in words."""
        if self._record_of_result is None:
            return ()
        before, now = dataclasses.asdict(self._record_of_result), dataclasses.asdict(self.record)
        words = [
            f"{name.replace('_', ' ')}: {word(before[name])} → {word(now[name])}"
            for name in before
            if before[name] != now[name]
        ]
        words += [
            f"{name.replace('_', ' ')} {shift:+.1f} SD" for name, shift in self.programme_shifts.items()
        ]
        return tuple(words)

    # --- patches -------------------------------------------------------------------------------------------

    def select_patch(self, index: int) -> None:
        """Select a patch (-1: none)."""
        self.patch = index
        self.patch_selected.emit(index)

    # --- case files ----------------------------------------------------------------------------------------

    def save_case(self, path: Path) -> Job | None:
        """Save the case on a thread; reopening it computes nothing."""
        if self.result is None or self.opened is None or self.bundle is None:
            self.say("There is no result to save yet: press Run first.", Severity.ERROR)
            return None
        info = self.opened.slide.info
        case = SavedCase(
            slide=info.path.resolve(),
            fingerprint=info.fingerprint,
            mpp=info.mpp if info.mpp_source is MppSource.USER else None,
            record=self._record_of_result or self.record,
            profile=self._profile,
            bundle=self.bundle.path.resolve(),
            bundle_fingerprint=self.bundle.fingerprint,
            tissue=self.tissue,
            features=self.features,
            prediction=self.result.original,
            name=self.case_name,
            settings=dict(self.view_settings),
        )
        return self.start(
            lambda progress: save_case(case, path),
            "save",
            lambda _: self.say(f"Saved as {path.name}.", Severity.DONE),
            shown=False,
        )

    def open_case(self, path: Path, slide: Path | None = None) -> Job:
        """Open a case file: everything is shown as it was, then the model is made ready for what-if.

        Parameters
        ----------
        slide : where the slide is now, when it has moved.
        """

        def work(progress: ProgressCallback) -> tuple[SavedCase, OpenedSlide, Bundle | None]:
            case = load_case(path)
            place = slide or find_case_slide(case, path)
            opened = open_with_tiles(place, case.mpp)
            if opened.slide.info.fingerprint != case.fingerprint:
                opened.close()
                raise SlideError(
                    f"{place.name} is not the slide of the case {path.name}",
                    "Choose the slide that it was made from",
                )
            return case, opened, bundle_of(case)

        return self.start(work, "open case", lambda found: self._show_case(*found), shown=False)

    def _show_case(self, case: SavedCase, opened: OpenedSlide, bundle: Bundle | None) -> None:
        self.adopt(opened)
        # napari has just spent its time on the slide's layer: a turn of the event loop comes between.
        later(self, 0, lambda: self._show_saved(case, opened, bundle))

    def _show_saved(self, case: SavedCase, opened: OpenedSlide, bundle: Bundle | None) -> None:
        if self.opened is not opened:
            return  # another slide was opened, or the window closed
        self.case_name = case.name or self.case_name
        # Without its own model none is chosen: another one's reference patients are not this result's.
        self.set_bundle(bundle)
        self.record = case.record
        self.expression = self._examine(case.profile) if case.profile else None
        self.patient_changed.emit()
        self.tissue = case.tissue
        self.tissue_changed.emit()
        self.view_settings = dict(case.settings)
        self.features, self._record_of_result = case.features, case.record
        prediction = case.prediction
        self._set_result(Result(prediction, prediction, AttentionMaps(prediction)))
        if bundle is None:
            self.say(
                f"The model of this case ({case.bundle.name}) is not at its place or was changed: the results can be looked"
                " at, but not asked 'what if'."
            )
            return
        if case.features is None:
            self.say("The features of this case were moved away: press Run before asking 'what if'.")
            return
        features, profile, device = case.features, case.profile, self.device
        predictors = self.predictors
        info = opened.slide.info

        def ready(progress: ProgressCallback) -> tuple[Predictor, Prediction]:
            predictor = predictors.get(bundle, device)
            patient = predictor.prepare_patient(case.record, profile)
            again = predictor.predict(patient, features, info, attribution=False)
            return predictor, for_slide(again, info)

        def made(found: tuple[Predictor, Prediction]) -> None:
            predictor, again = found
            if self.result is None or self.result.original is not prediction:
                return
            self._awaiting_model = False
            self._predictor = predictor
            if abs(again.risk - prediction.risk) > 1e-4:
                self.say(
                    "This version of the program computes another risk for this case than the one that was saved"
                    f" ({again.risk:.4f}, saved {prediction.risk:.4f}): press Run to renew it."
                )
                return
            live = dataclasses.replace(prediction, state=again.state)
            self.result = Result(live, live, self.result.maps)
            self.result_changed.emit()
            self._foresee(predictor, case.record)
            if self.record != self._record_of_result:
                self._ask_what_if()

        def failed(error: Exception) -> None:
            if self.result is not None and self.result.original is prediction:
                self._awaiting_model = False
                if self.record != self._record_of_result:
                    self._mark_stale()
            self.report(error)

        self._awaiting_model = True
        self.start(ready, "model", made, failed, shown=False)

    def open_patient(
        self,
        slide: Path,
        record: ClinicalRecord,
        profile: ExpressionProfile | None,
        features: Path | None = None,
    ) -> None:
        """Open a patient of a cohort: slide, record and expression; with features also the result."""

        def then() -> None:
            self.record = record
            self.expression = self._examine(profile) if profile else None
            self.patient_changed.emit()
            if features is not None:
                self._run_from(features)

        self.open_slide(slide, then=then)

    def _run_from(self, features: Path) -> Job | None:
        if self.opened is None or self.bundle is None or self.missing():
            return None
        opened, record, profile = self.opened, self.record, self._profile
        analyzer = Analyzer(self.bundle, self.device, self.predictors)
        return self._analyze(
            lambda progress: analyzer.predict(opened.slide, record, profile, features, progress=progress),
            opened,
        )

    def export(self, folder: Path) -> Job | None:
        """Write everything that 'survpgc predict' writes into a folder."""
        if self.result is None or self.opened is None or self.bundle is None:
            self.say("There is no result to export yet: press Run first.", Severity.ERROR)
            return None
        prediction, slide, bundle = self.result.shown, self.opened.slide, self.bundle
        record = self.record
        state = state_of(prediction)
        sentences = state.patient.sentences if state is not None else ()
        notes = state.patient.notes if state is not None else ()
        if self.result.changed:
            notes = (*notes, f"What-if, not the patient's own record: {'; '.join(self.changes())}.")

        def work(progress: ProgressCallback) -> Path:
            write_outputs(
                prediction,
                slide,
                folder,
                record=record,
                sentences=sentences,
                reference=bundle.reference,
                genomics_notes=notes,
                progress=progress,
            )
            return folder

        return self.start(
            work, "export", lambda path: self.say(f"Results and report.html are in {path}.", Severity.DONE)
        )
