"""High- and low-risk halves of the test patients: Kaplan-Meier curves, tests, hazard ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from napari_survpgc.core.curves import CurveSummary, Effect, hazard_ratio, rmst_difference, summarize_groups
from napari_survpgc.core.groups import LogRank
from napari_survpgc.core.log_rank import cross_validated_log_rank
from napari_survpgc.core.output.plots import draw_at_risk, draw_curves

from ..runs.run_folder import Run

_COLUMNS = 4
HOW = (
    "Halves: above and below the median risk of the fold's training patients, so that a new patient can be placed. The"
    " log-rank test is stratified by fold and its variance widened for cross-validation (on noise the plain test of pooled"
    " halves says p < .05 in 13 %, this one in 5 %), hazard ratios likewise; below 20 patients in a half p comes from 2,000"
    " permutations within the folds."
)
HOW_PUBLISHED = "Under the protocol 'published' the epoch was chosen on the test patients themselves: no p corrects for that."


def halves(run: Run) -> pd.DataFrame:
    """Return the test patients of all folds with ``group``: "high" above the median risk of their training fold.

    The cut does not look at the outcomes of the test patients, but the risks of a fold have seen those of the others:
    see :func:`napari_survpgc.core.log_rank.cross_validated_log_rank`.
    """
    table = run.pooled.copy()
    medians = {fold.number: float(fold.train["risk"].median()) for fold in run.folds}
    high = table["risk"].to_numpy(float) > table["fold"].map(medians).to_numpy(float)
    table["group"] = np.where(high, "high", "low")
    return table


@dataclass(frozen=True)
class Halves:
    """How the halves of a run differ.

    Attributes
    ----------
    deaths : of "low" and "high"; their sizes are those of ``test``.
    hazard_ratio : high over low, stratified by fold.   rmst : months that the high half lives fewer (negative).
    curves : "low" and "high", as far as there are patients.
    """

    test: LogRank
    deaths: Mapping[str, int]
    hazard_ratio: Effect
    rmst: Effect
    curves: tuple[CurveSummary, ...]

    @property
    def p(self) -> str:
        return "n/a" if self.test.p is None else f"{self.test.p:.2g}"

    @property
    def method(self) -> str:
        return self.test.reason or self.test.method

    @property
    def ratio(self) -> str:
        """Return the hazard ratio with its interval, or why there is none."""
        return self.hazard_ratio.reason or self.hazard_ratio.estimate.text()

    def size(self, group: str) -> str:
        """Return "patients (deaths)"."""
        return f"{self.test.sizes.get(group, 0)} ({self.deaths.get(group, 0)})"

    def frame(self) -> pd.DataFrame:
        """Return a row a half, measure and time: median, restricted mean, survival; with intervals and counts."""
        rows: list[dict[str, object]] = []
        for curve in self.curves:
            common = {"group": curve.group, "n": curve.n, "n_events": curve.events}
            for measure, months, e in (
                ("median_months", None, curve.median),
                ("rmst_months", curve.tau, curve.rmst),
            ):
                rows.append(
                    common
                    | {"measure": measure, "months": months, "value": e.value, "low": e.low, "high": e.high}
                )
            for at in curve.at:
                e = at.survival
                rows.append(
                    common
                    | {
                        "measure": "survival",
                        "months": at.months,
                        "value": e.value,
                        "low": e.low,
                        "high": e.high,
                    }
                    | {"at_risk": at.at_risk, "died": at.events}
                )
        return pd.DataFrame(rows)


def compare_halves(run: Run, horizons: Sequence[float] = (12.0, 36.0, 60.0)) -> tuple[pd.DataFrame, Halves]:
    """Return :func:`halves` and how they differ.

    Parameters
    ----------
    horizons : months at which survival is reported.
    """
    table = halves(run)
    columns = (table["survival_months"], table["event"], table["group"])
    n_train = {fold.number: len(fold.train) for fold in run.folds}
    test = cross_validated_log_rank(*columns, table["fold"], n_train)
    deaths = {str(group): int(n) for group, n in table.groupby("group")["event"].sum().items()}
    ratio = hazard_ratio(*columns, "high", "low", strata=table["fold"], inflation=test.inflation)
    found = Halves(
        test,
        deaths,
        ratio,
        rmst_difference(*columns, "high", "low"),
        summarize_groups(*columns, ("low", "high"), at=horizons),
    )
    return table, found


def kaplan_meier_panels(
    runs: Sequence[tuple[str, Run]], horizons: Sequence[float] = (12.0, 36.0, 60.0)
) -> tuple[Figure, list[Halves]]:
    """Draw one panel a run, in their order, with the numbers at risk below, and test the halves."""
    n_columns = max(1, min(_COLUMNS, len(runs)))
    n_rows = max(1, math.ceil(len(runs) / n_columns))
    figure = Figure(figsize=(3.3 * n_columns, 3.9 * n_rows), layout="constrained")
    if not runs:
        figure.text(0.02, 0.5, "No system is available", fontsize=10)
        return figure, []
    panels = figure.subfigures(n_rows, n_columns, squeeze=False).ravel()
    found = []
    for panel, (label, run) in zip(panels, runs, strict=False):
        table, how = compare_halves(run, horizons)
        axes, below = panel.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        columns = (table["survival_months"], table["event"], table["group"])
        draw_curves(axes, *columns)
        draw_at_risk(below, *columns)
        p = how.test.reason or f"p = {how.p} (by fold, corrected)"
        ratio = "" if how.hazard_ratio.reason else f"\nHR {how.ratio}"
        axes.set_title(f"{label}\n{p}{ratio}", fontsize=7.5, loc="left")
        for one in (axes, below):
            one.tick_params(labelsize=7)
        below.set_xlabel("Months", fontsize=8)
        found.append(how)
    return figure, found
