"""A case on disk: saved, opened again, exported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from napari_survpgc.app.later import later
from napari_survpgc.app.workers import Job
from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.errors import SlideError
from napari_survpgc.core.output.case_file import (
    MissingSlideError,
    SavedCase,
    find_case_slide,
    load_case,
    save_case,
)
from napari_survpgc.core.output.folder import write_outputs
from napari_survpgc.core.output.report import ReportFacts
from napari_survpgc.core.predict.predictor import Predictor, state_of
from napari_survpgc.core.predict.what_if import for_slide
from napari_survpgc.core.types import MppSource, PatchFeatures, Prediction, ProgressCallback, SlideInfo

from .asking import Questions
from .job_board import JobBoard
from .open_case import OpenCase
from .state import OpenedSlide, Result, Severity, bundle_of, open_with_tiles


class CaseFiles:
    """See the module's docstring."""

    def __init__(self, case: OpenCase, jobs: JobBoard, questions: Questions) -> None:
        self._case, self._jobs, self._questions = case, jobs, questions

    def save(self, path: Path) -> Job | None:
        """Save the case on a thread; reopening it computes nothing."""
        case, jobs = self._case, self._jobs
        if case.result is None or case.opened is None or case.bundle is None:
            jobs.say("There is no result to save yet: press Run first.", Severity.ERROR)
            return None
        info = case.opened.slide.info
        saved = SavedCase(
            slide=info.path.resolve(),
            fingerprint=info.fingerprint,
            mpp=info.mpp if info.mpp_source is MppSource.USER else None,
            record=case.record_of_result or case.record,
            profile=case.profile,
            bundle=case.bundle.path.resolve(),
            bundle_fingerprint=case.bundle.fingerprint,
            tissue=case.tissue,
            features=case.features,
            prediction=case.result.original,
            name=case.name,
            settings=dict(case.view_settings),
        )
        return jobs.start(
            lambda progress: save_case(saved, path),
            "save",
            lambda _: jobs.say(f"Saved as {path.name}.", Severity.DONE),
            shown=False,
        )

    def open(self, path: Path, slide: Path | None = None) -> Job:
        """Open a case file: everything is shown as it was, then the model is made ready for what-if.

        Parameters
        ----------
        slide : where the slide is now, when it has moved.
        """

        def work(progress: ProgressCallback) -> tuple[SavedCase, OpenedSlide, Bundle | None]:
            saved = load_case(path)
            place = slide or find_case_slide(saved, path)
            opened = open_with_tiles(place, saved.mpp)
            if opened.slide.info.fingerprint != saved.fingerprint:
                opened.close()
                raise SlideError(
                    f"{place.name} is not the slide of the case {path.name}",
                    "Choose the slide that it was made from",
                )
            return saved, opened, bundle_of(saved)

        def failed(error: Exception) -> None:
            self._jobs.report(error)
            if isinstance(error, MissingSlideError):
                self._case.slide_missing.emit(path)

        return self._jobs.start(
            work, "open case", lambda found: self._show_slide(*found), failed, shown=False
        )

    def _show_slide(self, saved: SavedCase, opened: OpenedSlide, bundle: Bundle | None) -> None:
        self._case.adopt(opened)
        # napari has just spent its time on the slide's layer: a turn of the event loop comes between.
        later(self._case, 0, lambda: self._show_saved(saved, opened, bundle))

    def _show_saved(self, saved: SavedCase, opened: OpenedSlide, bundle: Bundle | None) -> None:
        case = self._case
        if case.opened is not opened:
            return  # another slide was opened, or the window closed
        case.name = saved.name or case.name
        # Without its own model none is chosen: another one's reference patients are not this result's.
        case.set_bundle(bundle)
        case.take_patient(saved.record, saved.profile)
        case.tissue = saved.tissue
        case.tissue_changed.emit()
        case.view_settings = dict(saved.settings)
        case.take_result(saved.prediction, AttentionMaps(saved.prediction), saved.record, saved.features)
        if bundle is None:
            self._jobs.say(
                f"The model of this case ({saved.bundle.name}) is not at its place or was changed: the results can be"
                " looked at, but not asked 'what if'."
            )
        elif saved.features is None:
            self._jobs.say("The features of this case were moved away: press Run before asking 'what if'.")
        else:
            self._prepare_model(saved, saved.features, opened.slide.info, bundle)

    def _prepare_model(
        self, saved: SavedCase, features: PatchFeatures, info: SlideInfo, bundle: Bundle
    ) -> None:
        """Predict again on a thread, for what a what-if starts from; the saved result stays what is shown."""
        case, prediction, device = self._case, saved.prediction, self._case.device

        predictors = case.predictors

        def ready(progress: ProgressCallback) -> tuple[Predictor, Prediction]:
            predictor = predictors.get(bundle, device)
            patient = predictor.prepare_patient(saved.record, saved.profile)
            again = predictor.predict(patient, features, info, attribution=False, trust=False)
            return predictor, for_slide(again, info)

        def made(found: tuple[Predictor, Prediction]) -> None:
            predictor, again = found
            if case.result is None or case.result.original is not prediction:
                return
            case.awaiting_model = False
            case.predictor = predictor
            if abs(again.risk - prediction.risk) > 1e-4:
                self._jobs.say(
                    "This version of the program computes another risk for this case than the one that was saved"
                    f" ({again.risk:.4f}, saved {prediction.risk:.4f}): press Run to renew it."
                )
                return
            live = dataclasses.replace(prediction, state=state_of(again))
            case.show(Result(live, live, case.result.maps, case.result.anyway))
            self._questions.begin()

        def failed(error: Exception) -> None:
            if case.result is not None and case.result.original is prediction:
                case.awaiting_model = False
                if case.record != case.record_of_result:
                    case.mark_stale()
            self._jobs.report(error)

        case.awaiting_model = True
        self._jobs.start(ready, "model", made, failed, shown=False)

    def export(self, folder: Path) -> Job | None:
        """Write everything that 'survpgc predict' writes into a folder."""
        case, jobs = self._case, self._jobs
        if case.result is None or case.opened is None or case.bundle is None:
            jobs.say("There is no result to export yet: press Run first.", Severity.ERROR)
            return None
        prediction, slide, record = case.result.shown, case.opened.slide, case.record
        reference = case.bundle.reference
        state = state_of(prediction)
        sentences = state.patient.sentences if state is not None else ()
        notes = state.patient.notes if state is not None else ()
        if case.result.changed:
            notes = (*notes, f"What-if, not the patient's own record: {'; '.join(case.changes())}.")

        def work(progress: ProgressCallback) -> None:
            facts = ReportFacts(record, sentences, notes, reference)
            write_outputs(prediction, slide, folder, facts, progress=progress)

        return jobs.start(
            work, "export", lambda _: jobs.say(f"Results and report.html are in {folder}.", Severity.DONE)
        )
