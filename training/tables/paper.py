"""The values of the paper's tables, to stand beside ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import pandas as pd

from napari_survpgc.resources import resource_path

CITATION = "Hou et al., npj Digital Medicine (2025), doi:10.1038/s41746-025-02257-y"
_COHORTS = {"LIHC": {"lihc"}, "BRCA": {"brca"}, "COADREAD": {"coadread", "coad", "read"}}


@dataclass(frozen=True)
class PaperValue:
    """Mean and standard deviation over the paper's five folds."""

    mean: float
    sd: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.sd:.3f}"


@cache
def _values() -> pd.DataFrame:
    return pd.read_csv(resource_path("paper", "results.csv"), comment="#", dtype={"row": str})


def paper_cohort(name: str) -> str | None:
    """Return the paper's name of a cohort ("LIHC", "BRCA", "COADREAD") that ours is named after, or None."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((paper for paper, known in _COHORTS.items() if words & known), None)


def paper_value(table: str, cohort: str, row: str, measure: str) -> PaperValue | None:
    """Return what the paper reports, or None where it (or our copy of its text) has nothing.

    Parameters
    ----------
    table : "table1" ... "table5".   cohort : name of our cohort, e.g. "lihc".   row : system, or N_t in Table 5.
    measure : "c_index", "iauc", "auc_12", "genomic_share" ...
    """
    named = paper_cohort(cohort)
    values = _values()
    chosen = values[
        (values["table"] == table)
        & (values["cohort"] == named)
        & (values["row"] == row)
        & (values["measure"] == measure)
    ]
    if chosen.empty:
        return None
    return PaperValue(float(chosen["mean"].iloc[0]), float(chosen["sd"].iloc[0]))
