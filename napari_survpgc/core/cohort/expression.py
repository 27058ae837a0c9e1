"""The expression of one patient of a cohort."""

from __future__ import annotations

from napari_survpgc.core.genomics.normalize import table_unit
from napari_survpgc.core.types import (
    ExpressionProfile,
    ExpressionUnit,
)

from .cohort import Cohort


def profile_of(cohort: Cohort, case: str) -> ExpressionProfile | None:
    if cohort.expression is None or case not in cohort.expression.index:
        return None
    row = cohort.expression.loc[[case]].iloc[0].dropna()
    values = dict(zip((str(gene) for gene in row.index), row.to_numpy(float).tolist(), strict=True))
    unit = table_unit(cohort.expression.to_numpy(float))
    return ExpressionProfile(values, unit, unit is ExpressionUnit.ZSCORE, case, "expression.csv.gz")
