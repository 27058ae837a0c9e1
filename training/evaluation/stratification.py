"""High- and low-risk halves of the test patients: Kaplan-Meier curves and log-rank tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from napari_survpgc.core.groups import LogRank, risk_groups
from napari_survpgc.core.output.plots import draw_kaplan_meier

from ..runs.run_folder import Run

_COLUMNS = 4


def halves(run: Run) -> pd.DataFrame:
    """Return the test patients of all folds with ``group``: "high" above the median risk of their test fold.

    The outcome is not looked at, so that a log-rank test of the groups stays valid.
    """
    table = run.pooled.copy()
    table["group"] = ""
    for _, part in table.groupby("fold"):
        table.loc[part.index, "group"] = risk_groups(part["risk"], [float(part["risk"].median())])
    return table


@dataclass(frozen=True)
class Halves:
    """How the halves of a run differ.

    Attributes
    ----------
    deaths : of "low" and "high"; their sizes are those of ``test``.
    """

    test: LogRank
    deaths: Mapping[str, int]

    @property
    def p(self) -> str:
        return "n/a" if self.test.p is None else f"{self.test.p:.2g}"

    @property
    def method(self) -> str:
        return self.test.reason or self.test.method

    def size(self, group: str) -> str:
        """Return "patients (deaths)"."""
        return f"{self.test.sizes.get(group, 0)} ({self.deaths.get(group, 0)})"


def kaplan_meier_panels(runs: Sequence[tuple[str, Run]]) -> tuple[Figure, list[Halves]]:
    """Draw one panel a run, in their order, and test the halves."""
    n_columns = max(1, min(_COLUMNS, len(runs)))
    n_rows = max(1, math.ceil(len(runs) / n_columns))
    figure = Figure(figsize=(3.1 * n_columns, 3.1 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    found = []
    for axes, (label, run) in zip(panels, runs, strict=False):
        table = halves(run)
        test = draw_kaplan_meier(axes, table["survival_months"], table["event"], table["group"])
        axes.set_title(f"{label}\n{axes.get_title(loc='left')}", fontsize=8, loc="left")
        axes.set_xlabel("Months", fontsize=8)
        axes.tick_params(labelsize=8)
        deaths = {str(group): int(n) for group, n in table.groupby("group")["event"].sum().items()}
        found.append(Halves(test, deaths))
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    if not runs:
        panels[0].text(0, 0.5, "No system is available", fontsize=10)
    return figure, found
