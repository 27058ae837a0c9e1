"""Many patients: a results folder or a cohort folder as a table of risks, and predicting a list of slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_survpgc.core.cohort.expression import profile_of
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import CohortError, SurvPGCError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.slide.formats import find_slide
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
    PatchFeatures,
    ProgressCallback,
)

from .results_folder import CaseResult


def predict_cohort(
    folder: Path, predictor: Predictor, progress: ProgressCallback | None = None
) -> tuple[CaseResult, ...]:
    """Predict every patient of a cohort folder that has features; several slides are one bag, as in training.

    Raises
    ------
    CohortError : the folder is not a usable cohort, or none of its patients can be predicted.
    """
    cohort = read_cohort(folder)
    results: list[CaseResult] = []
    reasons: list[str] = []
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
            patient = predictor.prepare_patient(cohort.records[case], profile_of(cohort, case))
            prediction = predictor.predict(
                patient, join_slides(*_bags(cohort.features[case])), attribution=False, keep_state=False
            )
        except SurvPGCError as error:
            reasons.append(f"{case}: {error.problem}")
            continue
        found = (find_slide(folder / "slides", file.stem) for file in cohort.features[case])
        slides = tuple(slide for slide in found if slide is not None)
        results.append(
            CaseResult(
                case_id=case,
                risk=prediction.risk,
                risk_percentile=prediction.risk_percentile,
                risk_group=prediction.risk_group,
                record=cohort.records[case],
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
            f"None of the {len(cases)} patients of {folder.name} can be predicted ({reasons[0]})",
            "Make the features with 'survpgc features', or choose another bundle",
        )
    return tuple(results)


def _bags(files: Sequence[Path]) -> tuple[list[PatchFeatures], list[str]]:
    """Return the features of the slides of a patient, and the names of their files."""
    return [read_features(file) for file in files], [file.name for file in files]


def cohort_patient(
    folder: Path, case: str, slide: Path | None = None
) -> tuple[ClinicalRecord, ExpressionProfile | None, Path]:
    """Return record, expression and the feature file of a slide (the first one) of one patient of a cohort folder."""
    cohort = read_cohort(folder)
    if case not in cohort.records or not cohort.features[case]:
        raise CohortError(f"{folder.name} has no patient {case} with features", "Choose another patient")
    files = cohort.features[case]
    file = files[0] if slide is None else next((f for f in files if f.stem == slide.stem), None)
    if file is None:
        raise CohortError(
            f"{folder.name} has no features of the slide {slide.name if slide else ''}",
            "Choose another slide",
        )
    return cohort.records[case], profile_of(cohort, case), file


# --- a list of slides ---------------------------------------------------------------------------------------
