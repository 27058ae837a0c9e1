"""Run: from the open slide, the patient and the model to a result."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from napari_survpgc.app.workers import Job
from napari_survpgc.core.jobs.analysis import Analysis, Analyzer, features_of_slide
from napari_survpgc.core.tissue.stain import StainError
from napari_survpgc.core.types import Case, JobOptions, ProgressCallback

from .asking import Questions
from .job_board import JobBoard
from .open_case import OpenCase
from .state import GivenFeatures, OpenedSlide, Severity


class Running:
    """See the module's docstring."""

    def __init__(self, case: OpenCase, jobs: JobBoard, questions: Questions) -> None:
        self._case, self._jobs, self._questions = case, jobs, questions

    def missing(self) -> str:
        """Return what is still needed before Run, in one sentence, or ""."""
        case = self._case
        if case.opened is None:
            return "Open a slide first."
        if case.opened.slide.info.mpp is None:
            return "Enter the pixel size of the slide first."
        if case.bundle is None:
            return "Choose a model first."
        if case.expression is not None and case.expression.problem:
            return case.expression.problem
        return ""

    def use_features(self, path: Path | None) -> Job | None:
        """Take the features of the open slide from a file of ours, CLAM, TRIDENT or STAMP; None: compute them again."""
        case, opened = self._case, self._case.opened
        if path is None or opened is None:
            if path is not None:
                self._jobs.say("Open the slide of these features first.", Severity.ERROR)
            case.take_features(None)
            return None

        def look(progress: ProgressCallback) -> GivenFeatures:
            found = features_of_slide(path, opened.slide.info)
            return GivenFeatures(path, len(found.grid), found.encoder or "")

        def taken(found: GivenFeatures) -> None:
            if case.opened is opened:
                case.take_features(found)

        return self._jobs.start(look, "features file", taken, shown=False, of_slide=True)

    def run(self) -> Job | None:
        """Tissue, patches, features, prediction; each step that was done before is taken from there."""
        problem = self.missing()
        if problem:
            self._jobs.say(problem, Severity.ERROR)
            return None
        case = self._case
        if case.given_features is not None:
            return self.run_from(case.given_features.path)
        assert case.opened is not None
        assert case.bundle is not None
        opened = case.opened
        if not (opened.stain.is_he or case.any_stain):
            case.stain_doubted.emit(StainError(opened.slide.info.path.name, opened.stain))
            return None
        # Kept between sessions; one processor is left to the window.
        workers = max(1, (os.cpu_count() or 2) - 1)
        options = JobOptions(case.device, workers, any_stain=case.any_stain)
        analyzer = Analyzer(case.bundle, options, case.predictors)
        patient = Case(record=case.record, profile=case.profile, tissue=case.tissue)
        return self._analyze(lambda progress: analyzer.run(opened.slide, patient, progress), opened)

    def run_from(self, features: Path) -> Job | None:
        """Predict from features that were made before; nothing happens while something is missing."""
        case = self._case
        if case.opened is None or case.bundle is None or self.missing():
            return None
        opened = case.opened
        analyzer = Analyzer(case.bundle, JobOptions(case.device), case.predictors)
        patient = Case(record=case.record, profile=case.profile, features=(features,))
        return self._analyze(lambda progress: analyzer.run(opened.slide, patient, progress), opened)

    def _analyze(self, work: Callable[[ProgressCallback], Analysis], opened: OpenedSlide) -> Job:
        """Run ``work`` on a thread; what was changed while it ran makes its result out of date."""
        case = self._case
        bundle, tissue, profile = case.bundle, case.tissue, case.profile

        def finished(found: Analysis) -> None:
            if case.opened is not opened:
                return  # another slide was opened meanwhile
            edited = case.tissue is not tissue
            if not edited and found.tissue is not None and case.tissue is not found.tissue:
                case.tissue = found.tissue
                case.tissue_changed.emit()
            case.take_result(found.prediction, found.maps, found.record, found.features)
            if edited or case.bundle is not bundle or case.profile is not profile:
                case.mark_stale()
                return
            case.predictor = found.predictor
            self._questions.begin()

        def failed(error: Exception) -> None:
            if isinstance(error, StainError) and case.opened is opened:
                case.stain_doubted.emit(error)  # finer than what was looked at on opening
            else:
                self._jobs.report(error)

        return self._jobs.start(work, "run", finished, failed, of_slide=True)

    def run_any_stain(self) -> Job | None:
        """Run although the slide is no H&E: the answer of a person to ``stain_doubted``; it holds for this slide."""
        self._case.any_stain = True
        return self.run()
