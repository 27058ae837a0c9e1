"""The patients of a cohort: all their risks, and one of them with what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.errors import CohortError, SurvPGCError
from napari_survpgc.core.features.failed import check_finished
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.groups import risk_groups, risk_percentile
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.slide.formats import find_slide
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import (
    Case,
    PatchFeatures,
    Prediction,
    ProgressCallback,
)

from .results_folder import CaseResult, FolderResults


def predict_cohort(
    cohort: Cohort, predictor: Predictor, progress: ProgressCallback | None = None
) -> tuple[CaseResult, ...]:
    """Predict every patient of a cohort who can be predicted; see :func:`cohort_results`."""
    return cohort_results(cohort, predictor, progress).cases


def cohort_results(
    cohort: Cohort, predictor: Predictor, progress: ProgressCallback | None = None
) -> FolderResults:
    """Predict every patient of a cohort that has features; several slides are one bag, as in training.

    Patients on whom the model was trained get the risk of the fold model that had not seen them, which is said: predicted
    anew they would look like new patients, and the model far better than it is.

    Those who cannot be predicted (damaged features, a record without what the model needs) are named beside the others.

    Raises
    ------
    CohortError : none of the patients can be predicted.
    """
    results: list[CaseResult] = []
    reasons: list[str] = []
    trained_on = 0
    reference = predictor.bundle.reference["risk"].to_numpy(float)
    cases = [str(case) for case in cohort.patients.index]
    months = dict(zip(cases, cohort.patients["survival_months"], strict=True))
    event = dict(zip(cases, cohort.patients["event"], strict=True))
    for number, case in enumerate(cases):
        if progress:
            progress("patients", number, len(cases))
        if not cohort.features[case]:
            reasons.append(f"{case} has no features")
            continue
        try:
            one = cohort.case(case)
            risk = predictor.bundle.held_out_risk(case)
            if risk is None:
                patient = predictor.prepare_patient(one.record, one.profile)
                risk = predictor.predict(
                    patient,
                    join_slides(*_bags(one.features)),
                    attribution=False,
                    keep_state=False,
                    trust=False,
                ).risk
            else:
                trained_on += 1
        except SurvPGCError as error:
            reasons.append(f"{case}: {error.problem}")
            continue
        found = (find_slide(cohort.path / "slides", file.stem) for file in one.features)
        slides = tuple(slide for slide in found if slide is not None)
        results.append(
            CaseResult(
                case_id=case,
                risk=risk,
                risk_percentile=risk_percentile(risk, reference),
                risk_group=str(risk_groups([risk], predictor.bundle.risk_cuts)[0]),
                record=one.record,
                months=float(months[case]),
                event=int(event[case]),
                slide=slides[0] if slides else None,
                slides=slides,
            )
        )
    if progress:
        progress("patients", len(cases), len(cases))
    if not results:
        raise CohortError(
            f"None of the {len(cases)} patients of {cohort.path.name} can be predicted ({reasons[0]})",
            "Make the features with 'survpgc features', or choose another bundle",
        )
    note = (
        f"The model was trained on {trained_on} of these {len(results)} patients: of them the held-out risks of the"
        " cross-validation are shown."
    )
    return FolderResults(
        tuple(results), tuple(f"{reason}." for reason in reasons), (note,) if trained_on else ()
    )


def _bags(files: Sequence[Path]) -> tuple[list[PatchFeatures], list[str]]:
    """Return the features of the slides of a patient, and the names of their files."""
    bags = [read_features(file) for file in files]
    for bag, file in zip(bags, files, strict=True):
        check_finished(bag, file.name)
    return bags, [file.name for file in files]


def cohort_patient(cohort: Cohort, case: str, slide: Path | None = None) -> Case:
    """Return one patient of a cohort with one slide and its feature file (the first one where no slide is named).

    Raises
    ------
    CohortError : no such patient with features, or no features of that slide.
    """
    name = cohort.path.name
    if case not in cohort.records or not cohort.features[case]:
        raise CohortError(f"{name} has no patient {case} with features", "Choose another patient")
    files = cohort.features[case]
    file = files[0] if slide is None else next((f for f in files if f.stem == slide.stem), None)
    if file is None:
        raise CohortError(
            f"{name} has no features of the slide {slide.name if slide else ''}", "Choose another slide"
        )
    return replace(cohort.case(case), slides=(slide,) if slide else (), features=(file,))


def predict_slide_of(cohort: Cohort, case: str, slide: Slide, predictor: Predictor) -> Prediction:
    """Predict a patient from the first slide alone, for a map over it; nothing is kept for "what if".

    Raises
    ------
    CohortError : see :func:`cohort_patient`.   FeatureError : the features do not fit the model.
    """
    one = cohort_patient(cohort, case)
    patient = predictor.prepare_patient(one.record, one.profile)
    bag = read_features(one.features[0], slide_mpp=slide.info.mpp)
    return predictor.predict(patient, bag, attribution=False, keep_state=False, trust=False)
