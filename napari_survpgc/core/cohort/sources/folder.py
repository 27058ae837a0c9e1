"""The folder of the cohort layout: patients.csv, expression.csv.gz, gene_sets.gmt, features/, folds/."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_survpgc.core.clinical.fields import columns_of_fields, field_of_column
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.cohort.checks import (
    find_expression,
    find_features,
    find_folds,
    find_outcome,
    read_reference,
)
from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.cohort.text_table import read_text_table
from napari_survpgc.core.errors import (
    ClinicalError,
    CohortError,
    ExpressionError,
    counted,
    several,
    some,
    too_many,
)
from napari_survpgc.core.genomics.gene_sets import read_gmt
from napari_survpgc.core.tables import case_column, plain
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord, GeneSet


def recognises(place: Path) -> bool:
    return (place / "patients.csv").is_file()


def read(place: Path, *, endpoint: str = "survival", open_features: bool = False) -> Cohort:
    """Read and check a cohort folder, see :func:`..read.read_cohort`."""
    table = place / "patients.csv"
    if not table.is_file():
        raise CohortError(
            f"{place} is not a cohort folder: it has no patients.csv", "See the README for its files"
        )
    patients = read_text_table(table)
    id_column = case_column(patients.columns)
    if id_column is None:
        raise CohortError(
            f"{table} has no column case_id", "Name the column with the patients' ids like that"
        )
    patients = patients.rename(columns={id_column: "case_id"})
    notes = [*patients.attrs["notes"]]
    months_column = "survival_months" if endpoint == "survival" else f"{endpoint}_months"
    event_column = "event" if endpoint == "survival" else f"{endpoint}_event"
    problems: list[str] = []
    case = patients["case_id"].str.strip()
    problems += several(
        "patient {} is listed twice", "patients {} are listed twice", set(case[case.duplicated()])
    )
    if case.eq("").any():
        problems.append(f"{int(case.eq('').sum())} rows have no case_id")
    if patients.empty:
        problems.append("patients.csv has no patients")
    months, event = find_outcome(patients, case, months_column, event_column, problems)
    records: dict[str, ClinicalRecord] = {}
    fields, doubtful = columns_of_fields(list(patients.columns))
    problems += [
        f"patients.csv has several columns for {name} ({', '.join(columns)}); keep one"
        for name, columns in doubtful.items()
    ]
    notes += _notes(list(patients.columns), fields)
    unusable = []
    for row, c in enumerate(case):
        try:
            records[c] = parse_record({column: patients.at[row, column] for column in fields})
        except ClinicalError as error:
            unusable.append(f"patient {c}: {error.problem}")
    problems += some(unusable)
    features = find_features(place, case, patients, open_features, problems)
    expression = find_expression(place, set(case), problems)
    folds = find_folds(place, set(case), problems)
    gene_sets: tuple[GeneSet, ...] = ()
    if (place / "gene_sets.gmt").is_file():
        try:
            gene_sets = read_gmt(place / "gene_sets.gmt")
        except ExpressionError as error:
            problems.append(str(error))
    if problems:
        raise CohortError(
            f"The cohort {place} has {counted(problems)}: {too_many(problems, 40)}", "Correct the files"
        )
    clean = patients.assign(survival_months=months, event=event.astype(int), case_id=case).set_index(
        "case_id"
    )
    reference = place / "expression_reference.csv"
    return Cohort(
        path=place,
        patients=clean,
        records=records,
        features=features,
        expression=expression,
        expression_reference=read_reference(reference) if reference.is_file() else None,
        gene_sets=gene_sets,
        folds=folds,
        endpoint=endpoint,
        notes=tuple(notes),
    )


def _notes(columns: Sequence[str], fields: Mapping[str, str]) -> list[str]:
    """Say which columns were read by another name, and which look like a field but are none."""
    notes = [f"The column {column} was read as {name}." for column, name in fields.items() if column != name]
    absent = [name for name in CLINICAL_FIELDS if name not in fields.values()]
    if absent:
        notes.append(f"patients.csv has no column for {', '.join(absent)}: unknown for every patient.")
    for column in columns:
        if column not in fields and (other := field_of_column(column)):
            notes.append(f"The column {column} was not used, since there is a column {other.name}.")
            continue
        near = difflib.get_close_matches(plain(column), [plain(name) for name in absent], 1, 0.75)
        if column not in fields and near:
            notes.append(
                f"The column {column} was not used; name it {near[0].replace(' ', '_')} if it is that."
            )
    return notes
