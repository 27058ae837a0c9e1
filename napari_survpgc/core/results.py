"""Many patients: a results folder or a cohort folder as a table of risks, and predicting a list of slides."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from .attention_maps import AttentionMaps
from .bundle import Bundle
from .case_file import CASE_FILE, SUFFIX, find_case_slide, load_case
from .clinical import parse_record, read_record
from .cohort import Cohort, read_cohort, read_text_table
from .errors import CohortError, SurvPGCError, writing
from .features import read_features
from .genomics import read_expression, table_unit
from .joined import join_slides
from .pipeline import predict_slides
from .plots import heatmap_image
from .predict import Predictor
from .slide import Slide, open_slide
from .types import (
    ClinicalRecord,
    ExpressionProfile,
    ExpressionUnit,
    PatchFeatures,
    Prediction,
    ProgressCallback,
)

SLIDE_SUFFIXES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".tif", ".tiff", ".btf", ".vms", ".vmu", ".dcm", ".zvi",
)  # fmt: skip
_MAX_JSON = 8 << 20


@dataclass(frozen=True)
class CaseResult:
    """One row of the cohort table.

    Attributes
    ----------
    months, event : None where the follow-up is not known.   folder : of its results, or None.
    slide : path where it can be found, or None.   case_file : opens it as it was left, or None.
    """

    case_id: str
    risk: float
    risk_percentile: float
    risk_group: str
    record: ClinicalRecord
    months: float | None = None
    event: int | None = None
    folder: Path | None = None
    slide: Path | None = None
    case_file: Path | None = None
    heatmap: Path | None = None
    slides: tuple[Path, ...] = ()  # all of a cohort's patient that can be found, ``slide`` first
    case_files: tuple[Path, ...] = ()  # one a slide, ``case_file`` first


def read_results(folder: Path, patients: Path | None = None) -> tuple[CaseResult, ...]:
    """Read every prediction.json of a folder and its subfolders.

    Parameters
    ----------
    patients : a patients.csv with the follow-up; by default one in the folder itself, if there is one.

    Raises
    ------
    CohortError : there is no result in the folder.
    """
    found = []
    problems = []
    for path in sorted(folder.rglob("prediction.json")):
        if path.parent != folder and (path.parent.parent / "prediction.json").is_file():
            continue  # of one slide of a patient with several: the patient's own lies above
        try:
            found.append(_result(path))
        except (OSError, ValueError, KeyError, TypeError, SurvPGCError):
            problems.append(path.parent.name)
    if not found:
        spoilt = f" that can be read (damaged: {', '.join(problems[:3])})" if problems else ""
        raise CohortError(
            f"{folder} holds no result{spoilt}",
            "Choose a folder with the results of 'survpgc predict' or of a batch, or a cohort folder",
        )
    table = patients or folder / "patients.csv"
    if table.is_file():
        found = _with_follow_up(found, table)
    return tuple(found)


def _result(path: Path) -> CaseResult:
    if path.stat().st_size > _MAX_JSON:
        raise ValueError("too large")
    document = json.loads(path.read_text(encoding="utf-8"))
    folder = path.parent
    cases = sorted(folder.glob(f"*{SUFFIX}"))[:1]
    heatmap = folder / "heatmap_clinic.png"
    if document.get("slides") and not cases:
        places = [folder / Path(str(slide["name"])).stem for slide in document["slides"]]
        cases = [case for place in places if (case := place / CASE_FILE).is_file()]
        heatmap = places[0] / heatmap.name
    return CaseResult(
        case_id=folder.name,
        risk=float(document["risk"]),
        risk_percentile=float(document["risk_percentile"]),
        risk_group=str(document["risk_group"]),
        record=parse_record(document.get("clinical") or {}),
        folder=folder,
        case_file=cases[0] if cases else None,
        case_files=tuple(cases),
        heatmap=heatmap if heatmap.is_file() else None,
    )


def _with_follow_up(results: Sequence[CaseResult], table: Path) -> list[CaseResult]:
    frame = read_text_table(table)
    if not {"case_id", "survival_months", "event"} <= set(frame.columns):
        return list(results)
    by_case = frame.drop_duplicates("case_id").set_index("case_id")
    merged = []
    for result in results:
        if result.case_id in by_case.index:
            row = by_case.loc[result.case_id]
            months = pd.to_numeric(row["survival_months"], errors="coerce")
            event = pd.to_numeric(row["event"], errors="coerce")
            if pd.notna(months) and event in (0, 1):
                result = replace(result, months=float(months), event=int(event))
        merged.append(result)
    return merged


def is_cohort_folder(folder: Path) -> bool:
    """Return True for a folder of the cohort layout with features to predict from."""
    return (folder / "patients.csv").is_file() and (folder / "features").is_dir()


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
            patient = predictor.prepare_patient(cohort.records[case], _profile(cohort, case))
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
    return cohort.records[case], _profile(cohort, case), file


def _profile(cohort: Cohort, case: str) -> ExpressionProfile | None:
    if cohort.expression is None or case not in cohort.expression.index:
        return None
    row = cohort.expression.loc[[case]].iloc[0].dropna()
    values = dict(zip((str(gene) for gene in row.index), row.to_numpy(float).tolist(), strict=True))
    unit = table_unit(cohort.expression.to_numpy(float))
    return ExpressionProfile(values, unit, unit is ExpressionUnit.ZSCORE, case, "expression.csv.gz")


def find_slide(folder: Path, slide_id: str) -> Path | None:
    """Return the slide file of that id in a folder, whatever its format, or None."""
    if not folder.is_dir():
        return None
    stem = slide_id
    for suffix in SLIDE_SUFFIXES:
        stem = stem.removesuffix(suffix)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SLIDE_SUFFIXES and path.stem == stem:
            return path
    dicom = folder / stem
    return dicom if dicom.is_dir() else None


# --- a list of slides ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchItem:
    """One patient to predict: the slides, and what goes with them.

    Attributes
    ----------
    missing : ids of slides that the list names and the folder lacks.
    """

    case_id: str
    slides: tuple[Path, ...]
    record: ClinicalRecord
    profile: ExpressionProfile | None
    missing: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a reader of the result must know of its slides, or ""."""
        if not self.missing:
            return ""
        one = len(self.missing) == 1
        return (
            f"The slide{'' if one else 's'} {', '.join(self.missing)} of this patient {'was' if one else 'were'} not"
            " found: the risk is that of the others alone."
        )


@dataclass(frozen=True)
class BatchReport:
    """What a batch did: patients with results, those that failed, and those to know something of, in one sentence."""

    done: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...] = ()


def read_batch(
    patients: Path, slides: Path, expression: Path | None = None
) -> tuple[tuple[BatchItem, ...], tuple[tuple[str, str], ...]]:
    """Match the rows of a patients.csv with the slides of a folder; a patient with several slides keeps them all.

    Returns
    -------
    The items, and (case, reason) for rows that cannot be used.

    Raises
    ------
    CohortError : no row has a slide in the folder.
    """
    frame = read_text_table(patients)
    if "case_id" not in frame.columns:
        raise CohortError(f"{patients.name} has no column case_id", "Name the column with the ids like that")
    items, problems = [], []
    for _, row in frame.iterrows():
        case = str(row["case_id"]).strip()
        ids = [part.strip() for part in str(row.get("slide_ids", "")).split(";") if part.strip()] or [case]
        found = {name: path for name in ids if (path := find_slide(slides, name)) is not None}
        missing = tuple(name for name in ids if name not in found)
        if not found:
            problems.append((case, f"There is no slide {' or '.join(ids)} in {slides}."))
            continue
        try:
            record = read_record(patients, case)
            profile = read_expression(expression, sample=case) if expression else None
        except SurvPGCError as error:
            problems.append((case, str(error)))
            continue
        # The same slide named twice, with and without its ending, is one.
        items.append(BatchItem(case, tuple(dict.fromkeys(found.values())), record, profile, missing))
    if not items:
        first = f" ({problems[0][1]})" if problems else ""
        raise CohortError(
            f"No row of {patients.name} has a usable slide in {slides}{first}",
            "Name the slides in the column slide_ids as their files are named",
        )
    return tuple(items), tuple(problems)


def predict_batch(
    items: Sequence[BatchItem],
    bundle: Bundle,
    out: Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> BatchReport:
    """Predict one patient after the other into ``out/<case>``; one who fails is reported, the others go on.

    Several slides are one bag, as in training, see :func:`~.pipeline.predict_slides`. A case whose results from these
    slides are there already is not done again, so that an interrupted batch goes on.
    """
    done, failed = [], []
    for number, item in enumerate(items):
        target = out / item.case_id
        if _is_done(item, target):
            done.append(item.case_id)
            continue

        def inner(stage: str, part: int, total: int, number: int = number) -> None:
            if progress:
                share = part / total if total else 0.0
                progress(
                    f"{items[number].case_id}: {stage}", round(1000 * (number + share)), 1000 * len(items)
                )

        try:
            predict_slides(
                item.slides,
                bundle,
                item.record,
                item.profile,
                target,
                warnings=[item.note] if item.note else [],
                device=device,
                workers=workers,
                progress=inner,
            )
            done.append(item.case_id)
        except SurvPGCError as error:
            failed.append((item.case_id, str(error)))
    if progress:
        progress("batch", len(items), len(items))
    notes = tuple((item.case_id, item.note) for item in items if item.note and item.case_id in done)
    return BatchReport(tuple(done), tuple(failed), notes)


def _is_done(item: BatchItem, target: Path) -> bool:
    """Whether the results in a folder are those of the patient's slides; an earlier list may have had fewer."""
    path = target / "prediction.json"
    if not path.is_file():
        return False
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = {slide["name"] for slide in document.get("slides") or [document["slide"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return names == {slide.name for slide in item.slides}


def keep_follow_up(patients: Path, out: Path, cases: Collection[str]) -> None:
    """Copy the follow-up of these cases into ``out/patients.csv``, so that the results tell of it when opened again.

    Rows of an earlier batch into the same folder stay. Nothing is written when the list has no follow-up.

    Raises
    ------
    OutputError : disk full, no permission.   CohortError : one of the two tables cannot be read.
    """
    columns = ["case_id", "survival_months", "event"]
    frame = read_text_table(patients)
    target = out / "patients.csv"
    if not set(columns) <= set(frame.columns) or (target.exists() and target.samefile(patients)):
        return
    frame = frame.assign(case_id=frame["case_id"].str.strip())
    frame = frame.loc[frame["case_id"].isin(list(cases)), columns]
    if target.is_file():
        earlier = read_text_table(target)
        if "case_id" in earlier.columns:
            frame = pd.concat([earlier[~earlier["case_id"].isin(frame["case_id"])], frame]).fillna("")
    with writing(target):
        partial = target.with_name(f".{target.name}.partial")
        frame.to_csv(partial, index=False)
        partial.replace(target)


def thumbnail_of(
    case: CaseResult, max_px: int, predict: Callable[[CaseResult, Slide], Prediction] | None = None
) -> NDArray[np.uint8] | None:
    """Return a small picture of a patient, the clinic map (or the only one) over the slide.

    Parameters
    ----------
    predict : makes the prediction of a patient who has features but no results.

    Returns
    -------
    (h, w, 3), the longer side at most ``max_px``. Without the slide it is the written heatmap with its margins, without
    a prediction the bare slide; None when there is nothing to see.
    """
    try:
        if case.case_file is not None:
            saved = load_case(case.case_file, features=False)
            with open_slide(find_case_slide(saved, case.case_file), mpp=saved.mpp) as slide:
                return _with_map(slide, saved.prediction, max_px)
        if case.slide is not None:
            with open_slide(case.slide) as slide:
                return (
                    slide.thumbnail(max_px)
                    if predict is None
                    else _with_map(slide, predict(case, slide), max_px)
                )
    except SurvPGCError:
        pass  # the slide has moved: what was written is still there
    if case.heatmap is not None:
        try:
            with Image.open(case.heatmap) as file:
                image = file.convert("RGB")
            image.thumbnail((max_px, max_px))
            return np.asarray(image)
        except (OSError, ValueError):
            return None
    return None


def _with_map(slide: Slide, prediction: Prediction, max_px: int) -> NDArray[np.uint8]:
    thumbnail = slide.thumbnail(max_px)
    maps = AttentionMaps(prediction)
    if not maps.names:
        return thumbnail
    percentiles = maps.map(maps.names[0]).percentiles
    return heatmap_image(
        thumbnail, slide.info.size, prediction.coords, percentiles, prediction.patch_px_level0
    )
