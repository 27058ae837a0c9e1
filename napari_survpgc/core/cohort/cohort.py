"""A cohort folder: patients, expression, features, folds; every problem in it is reported at once.

patients.csv, expression.csv.gz, gene_sets.gmt, expression_reference.csv (optional), features/, folds/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.genomics.unit_of_values import table_unit
from napari_survpgc.core.types import Case, ClinicalRecord, ExpressionProfile, ExpressionUnit, GeneSet

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Fold:
    """Case ids of one fold."""

    number: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Cohort:
    """A checked cohort.

    Attributes
    ----------
    patients : indexed by case_id: survival_months, event, site ... as in patients.csv.
    records : case_id -> ClinicalRecord.
    features : case_id -> feature files of its slides (none for a patient without slides).
    expression : index case_id, a column a gene; None when there is no file. Patients may be missing.
    expression_reference : index gene, columns mean and sd of log2(TPM+1); None when there is no file.
    long_follow_up : a person has confirmed follow-up of more than 400 months.
    notes : what was found out to read it, in sentences, for who works with it.
    """

    path: Path
    patients: pd.DataFrame
    records: Mapping[str, ClinicalRecord]
    features: Mapping[str, tuple[Path, ...]]
    expression: pd.DataFrame | None
    expression_reference: pd.DataFrame | None
    gene_sets: tuple[GeneSet, ...]
    folds: tuple[Fold, ...]
    endpoint: str = "survival"
    long_follow_up: bool = False
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def unit(self) -> ExpressionUnit | None:
        """The unit of the whole expression table, inferred as the trainer does it; None without expression."""
        return None if self.expression is None else table_unit(self.expression.to_numpy(float))

    def profile(self, case: str) -> ExpressionProfile | None:
        """Return the expression of a patient, without the genes that have no value; None for one without expression."""
        if self.expression is None or case not in self._row_of or self.unit is None:
            return None
        row = self.expression.iloc[self._row_of[case]].to_numpy(float)
        known = {gene: v for gene, v in zip(self._genes, row.tolist(), strict=True) if v == v}
        return ExpressionProfile(
            known, self.unit, self.unit is ExpressionUnit.ZSCORE, case, "expression.csv.gz"
        )

    def case(self, case: str) -> Case:
        """Return record, expression and feature files of a patient."""
        return Case(case, record=self.records[case], profile=self.profile(case), features=self.features[case])

    @cached_property
    def _row_of(self) -> dict[str, int]:
        assert self.expression is not None
        return {str(case): row for row, case in enumerate(self.expression.index)}

    @cached_property
    def _genes(self) -> list[str]:
        assert self.expression is not None
        return [str(gene) for gene in self.expression.columns]

    def digest(self) -> str:
        """Return a SHA-256 (hex) over what the cohort says, the same on every machine.

        It covers records, outcomes, sites, expression and its reference, gene sets, folds, and the feature files by name
        and size (hashing gigabytes would take as long as a fold). The order of patients, genes and slides is left out;
        that of gene sets counts, since it is the order of a model's tokens.
        """
        found = hashlib.sha256()
        cases = sorted(str(case) for case in self.patients.index)
        table = self.patients.loc[cases]
        site = table["site"].tolist() if "site" in table.columns else None
        said = {
            "endpoint": self.endpoint,
            "cases": cases,
            "months": table["survival_months"].to_numpy(float).tolist(),
            "event": table["event"].to_numpy(int).tolist(),
            "site": site,
            "records": [asdict(self.records[case]) for case in cases],
            "features": [sorted((f.name, f.stat().st_size) for f in self.features[case]) for case in cases],
            "gene_sets": [(one.name, one.description, sorted(one.genes)) for one in self.gene_sets],
            "folds": [
                (fold.number, *(sorted(getattr(fold, split)) for split in SPLITS))
                for fold in sorted(self.folds, key=lambda fold: fold.number)
            ],
        }
        found.update(json.dumps(said, sort_keys=True).encode())
        for frame in (self.expression, self.expression_reference):
            _add_table(found, frame)
        return found.hexdigest()


def is_cohort_folder(folder: Path) -> bool:
    """Return True for a folder of the cohort layout with features to predict from."""
    return (folder / "patients.csv").is_file() and (folder / "features").is_dir()


def _add_table(found: hashlib._Hash, frame: pd.DataFrame | None) -> None:
    """Add names and values of a table, rows and columns in the order of their names."""
    if frame is None:
        found.update(b"none")
        return
    rows, columns = (
        np.array([str(name) for name in names], object) for names in (frame.index, frame.columns)
    )
    by_row, by_column = np.argsort(rows), np.argsort(columns)
    found.update(json.dumps([rows[by_row].tolist(), columns[by_column].tolist()]).encode())
    values = frame.to_numpy("<f8")[np.ix_(by_row, by_column)] + 0.0  # -0.0 is 0
    values[np.isnan(values)] = np.nan  # of which there are many
    found.update(values.tobytes())
