"""Results on disk, as a table of patients."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from napari_survpgc.core.cohort.text_table import read_text_table
from napari_survpgc.core.errors import CohortError, SurvPGCError
from napari_survpgc.core.files import write_table
from napari_survpgc.core.names import file_name, file_names
from napari_survpgc.core.output.case_file import CASE_FILE, SUFFIX
from napari_survpgc.core.output.prediction_json import PREDICTION_FILE, read_prediction_json
from napari_survpgc.core.types import (
    ClinicalRecord,
)


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


@dataclass(frozen=True)
class FolderResults:
    """What a folder holds: patients, the damaged ones among them, and what is to be said of all, in one sentence each."""

    cases: tuple[CaseResult, ...]
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_results(folder: Path, patients: Path | None = None) -> tuple[CaseResult, ...]:
    """Read every result of a folder that can be read; see :func:`results_in`."""
    return results_in(folder, patients).cases


def results_in(folder: Path, patients: Path | None = None) -> FolderResults:
    """Read every prediction.json of a folder and its subfolders; a damaged one is named and hides no other.

    Parameters
    ----------
    patients : a patients.csv with the follow-up; by default one in the folder itself, if there is one.

    Raises
    ------
    CohortError : there is no result in the folder.
    """
    found = []
    problems = []
    for path in sorted(folder.rglob(PREDICTION_FILE)):
        if path.parent != folder and (path.parent.parent / PREDICTION_FILE).is_file():
            continue  # of one slide of a patient with several: the patient's own lies above
        try:
            found.append(_result(path))
        except SurvPGCError as error:
            problems.append(f"{path.parent.name}: {error}")
        except OSError as error:
            problems.append(f"{path.parent.name}: it cannot be read ({error.strerror}).")
    if not found:
        spoilt = f" that can be read ({problems[0].rstrip('.')})" if problems else ""
        raise CohortError(
            f"{folder} holds no result{spoilt}",
            "Choose a folder with the results of 'survpgc predict' or of a batch, or a cohort folder",
        )
    table = patients or folder / "patients.csv"
    if table.is_file():
        try:
            found = _with_follow_up(found, table)
        except CohortError as error:
            if patients is not None:
                raise
            problems.append(f"The follow-up is not known: {error}")
    return FolderResults(tuple(found), tuple(problems))


def _result(path: Path) -> CaseResult:
    document = read_prediction_json(path)
    folder = path.parent
    cases = sorted(folder.glob(f"*{SUFFIX}"))[:1]
    heatmap = folder / "heatmap_clinic.png"
    if document.slides and not cases:
        places = [folder / file_name(Path(name).stem) for name in document.slide_names]
        cases = [case for place in places if (case := place / CASE_FILE).is_file()]
        heatmap = places[0] / heatmap.name
    return CaseResult(
        case_id=folder.name,
        risk=document.risk,
        risk_percentile=document.risk_percentile,
        risk_group=document.risk_group,
        record=document.clinical or ClinicalRecord(),
        folder=folder,
        case_file=cases[0] if cases else None,
        case_files=tuple(cases),
        heatmap=heatmap if heatmap.is_file() else None,
    )


def _with_follow_up(results: Sequence[CaseResult], table: Path) -> list[CaseResult]:
    frame = read_text_table(table)
    if not {"case_id", "survival_months", "event"} <= set(frame.columns):
        return list(results)
    # By the name of the folder, which an id that can be none (H/2024/17) is not.
    frame = frame.assign(
        months=pd.to_numeric(frame["survival_months"], errors="coerce"),
        died=pd.to_numeric(frame["event"], errors="coerce"),
    ).drop_duplicates("case_id")
    rows = zip(frame["case_id"], frame["months"], frame["died"], strict=True)
    known = {name: row for row in rows for name in reversed(file_names(str(row[0])))}
    merged = []
    for result in results:
        if result.case_id in known:
            case, months, event = known[result.case_id]
            result = replace(result, case_id=str(case))
            if pd.notna(months) and event in (0, 1):
                result = replace(result, months=float(months), event=int(event))
        merged.append(result)
    return merged


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
    write_table(target, frame)
