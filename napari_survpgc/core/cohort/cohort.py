"""A cohort folder: patients, expression, features, folds; every problem in it is reported at once.

patients.csv, expression.csv.gz, gene_sets.gmt, expression_reference.csv (optional), features/, folds/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from napari_survpgc.core.types import ClinicalRecord, GeneSet

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

    @property
    def name(self) -> str:
        return self.path.resolve().name


def is_cohort_folder(folder: Path) -> bool:
    """Return True for a folder of the cohort layout with features to predict from."""
    return (folder / "patients.csv").is_file() and (folder / "features").is_dir()
