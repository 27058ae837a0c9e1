"""A list of patients, predicted one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.clinical.record_file import RecordFile
from napari_survpgc.core.cohort.text_table import read_text_table
from napari_survpgc.core.errors import CohortError, SurvPGCError
from napari_survpgc.core.genomics.expression_file import ExpressionFile
from napari_survpgc.core.names import file_name
from napari_survpgc.core.output.prediction_json import PREDICTION_FILE, read_prediction_json
from napari_survpgc.core.output.swap import is_being_moved
from napari_survpgc.core.slide.formats import find_slide
from napari_survpgc.core.tables import case_column
from napari_survpgc.core.types import Case, JobOptions, ProgressCallback

from .one_patient import predict_case


@dataclass(frozen=True)
class BatchReport:
    """What a batch did: patients with results, those that failed, and those to know something of, in one sentence."""

    done: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...] = ()


def read_batch(
    patients: Path, slides: Path, expression: Path | None = None
) -> tuple[tuple[Case, ...], tuple[tuple[str, str], ...]]:
    """Match the rows of a patients.csv with the slides of a folder; a patient with several slides keeps them all.

    Returns
    -------
    The cases, and (case, reason) for rows that cannot be used.

    Raises
    ------
    CohortError : no row has a slide in the folder.
    """
    frame = read_text_table(patients)
    id_column = case_column(frame.columns, lambda column: frame[column])
    if id_column is None:
        raise CohortError(f"{patients.name} has no column case_id", "Name the column with the ids like that")
    frame = frame.rename(columns={id_column: "case_id"})
    # Each file is read once; one that cannot be read is told for every patient.
    records, tables = cache(RecordFile), cache(ExpressionFile)
    cases = tuple(frame["case_id"].str.strip())
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
            record = records(patients).record(case)
            profile = tables(expression, cases).read(case) if expression else None
        except SurvPGCError as error:
            problems.append((case, str(error)))
            continue
        # The same slide named twice, with and without its ending, is one.
        items.append(
            Case(case, tuple(dict.fromkeys(found.values())), record, profile, missing_slides=missing)
        )
    if not items:
        first = f" ({problems[0][1]})" if problems else ""
        raise CohortError(
            f"No row of {patients.name} has a usable slide in {slides}{first}",
            "Name the slides in the column slide_ids as their files are named",
        )
    return tuple(items), tuple(problems)


def predict_batch(
    items: Sequence[Case],
    bundle: Bundle,
    out: Path,
    *,
    options: JobOptions = JobOptions(),
    progress: ProgressCallback | None = None,
) -> BatchReport:
    """Predict one patient after the other into ``out/<case>``; one who fails is reported, the others go on.

    The folder of a case is named by its id, see :func:`~napari_survpgc.core.names.file_name`.
    Several slides are one bag, as in training, see :func:`~.one_patient.predict_case`. A case whose results from these
    slides are there already is not done again, so that an interrupted batch goes on.
    """
    done, failed = [], []
    for number, item in enumerate(items):
        target = out / file_name(item.case_id)
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
            predict_case(item, bundle, target, options=options, progress=inner)
            done.append(item.case_id)
        except SurvPGCError as error:
            failed.append((item.case_id, str(error)))
    if progress:
        progress("batch", len(items), len(items))
    notes = tuple((item.case_id, item.note) for item in items if item.note and item.case_id in done)
    return BatchReport(tuple(done), tuple(failed), notes)


def _is_done(item: Case, target: Path) -> bool:
    """Whether the results in a folder are those of the patient's slides; an earlier list may have had fewer."""
    if is_being_moved(target):
        return False
    try:
        document = read_prediction_json(target / PREDICTION_FILE)
    except SurvPGCError:
        return False
    return set(document.slide_names) == {slide.name for slide in item.slides}
