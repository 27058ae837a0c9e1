"""The folder of the cohort layout: patients.csv, expression.csv.gz, gene_sets.gmt, features/, folds/."""

from __future__ import annotations

from pathlib import Path

from napari_survpgc.core.clinical.fields import columns_of_fields, key_of_column, notes_of_columns
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.cohort.checks import (
    find_features,
    find_folds,
    find_outcome,
    read_reference,
)
from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.cohort.expression import find_expression
from napari_survpgc.core.cohort.text_table import read_text_table
from napari_survpgc.core.errors import (
    ClinicalError,
    CohortError,
    ExpressionError,
    LongFollowUpError,
    counted,
    several,
    some,
    too_many,
)
from napari_survpgc.core.genomics.gene_sets import read_gmt
from napari_survpgc.core.tables import case_column
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord, GeneSet

_LONGEST_MONTHS = 400  # 33 years; of TCGA 366


def recognises(place: Path) -> bool:
    return (place / "patients.csv").is_file()


def read(
    place: Path, *, endpoint: str = "survival", open_features: bool = False, long_follow_up: bool = False
) -> Cohort:
    """Read and check a cohort folder, see :func:`..read.read_cohort`."""
    table = place / "patients.csv"
    if not table.is_file():
        raise CohortError(
            f"{place} is not a cohort folder: it has no patients.csv", "See the README for its files"
        )
    patients = read_text_table(table)
    id_column = case_column(patients.columns, lambda column: patients[column])
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
    months, event = find_outcome(patients, case, months_column, event_column, problems, notes)
    records: dict[str, ClinicalRecord] = {}
    fields, doubtful = columns_of_fields(list(patients.columns), lambda column: patients[column])
    problems += [
        f"patients.csv has several columns for {name} ({', '.join(columns)}); keep one"
        for name, columns in doubtful.items()
    ]
    notes += notes_of_columns(list(patients.columns), fields)
    absent = [name for name in CLINICAL_FIELDS if name not in fields.values()]
    if absent:
        notes.append(f"patients.csv has no column for {', '.join(absent)}: unknown for every patient.")
    keys = {column: key_of_column(column, patients[column]) for column in fields}
    unusable = []
    for row, c in enumerate(case):
        try:
            records[c] = parse_record({keys[column]: patients.at[row, column] for column in fields})
        except ClinicalError as error:
            unusable.append(f"patient {c}: {error.problem}")
    problems += some(unusable)
    features = find_features(place, case, patients, open_features, problems)
    expression = find_expression(place, case, patients, problems, notes)
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
    if not long_follow_up and months.max() > _LONGEST_MONTHS:
        raise LongFollowUpError(
            f"The longest follow-up in {months_column} of the cohort {place.name} is {months.max():g} months"
            f" ({months.max() / 12:.0f} years): these are rather days",
            "Divide them by 30.4375, or confirm that they are months (--long-follow-up)",
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
        long_follow_up=long_follow_up,
        notes=tuple(notes),
    )
