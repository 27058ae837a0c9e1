"""Predicted against observed survival, in groups of test patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from napari_survpgc.core.groups import kaplan_meier
from napari_survpgc.core.output.plots import CLINIC

from ..runs.run_folder import Run


@dataclass(frozen=True)
class CalibrationGroup:
    """Patients of similar predicted survival at a horizon.

    Attributes
    ----------
    predicted : mean predicted P(alive).   observed, lower, upper : Kaplan-Meier at the horizon, 95 % band.
    """

    n: int
    deaths: int
    predicted: float
    observed: float
    lower: float
    upper: float


def calibration(run: Run, horizon: float, n_groups: int = 5) -> tuple[CalibrationGroup, ...]:
    """Compare predicted with observed survival in groups of test patients (all folds, each predicted by its own).

    Raises
    ------
    CohortError : the system gives no hazards.
    """
    parts = []
    for fold in run.folds:
        predicted = fold.survival_at([horizon])[:, 0]
        parts.append(fold.test[["survival_months", "event"]].assign(predicted=predicted))
    table = pd.concat(parts)
    table = table[~table.index.duplicated()].sort_values("predicted", kind="stable")
    groups = []
    for index in np.array_split(np.arange(len(table)), n_groups):
        part = table.iloc[index]
        if part.empty:
            continue
        curve = kaplan_meier(part["survival_months"], part["event"])
        # Beyond the follow-up of the group nothing was observed.
        known = part["survival_months"].max() >= horizon
        at = int(np.searchsorted(curve.months, horizon, side="right")) - 1
        values = [float(c[at]) if known else float("nan") for c in (curve.survival, curve.lower, curve.upper)]
        groups.append(
            CalibrationGroup(len(part), int(part["event"].sum()), float(part["predicted"].mean()), *values)
        )
    return tuple(groups)


def calibration_figure(runs: Sequence[tuple[str, Run]], horizons: Sequence[float]) -> Figure | None:
    """Draw one panel a run and horizon (months); None where no run has hazards."""
    shown = [(label, run) for label, run in runs if all(fold.has_hazards for fold in run.folds)]
    if not shown:
        return None
    figure = Figure(figsize=(2.4 * len(horizons) + 0.6, 2.3 * len(shown) + 0.4), layout="constrained")
    grid = figure.subplots(len(shown), len(horizons), squeeze=False, sharex=True, sharey=True)
    for row, (label, run) in zip(grid, shown, strict=True):
        for axes, horizon in zip(row, horizons, strict=True):
            groups = [g for g in calibration(run, horizon) if np.isfinite(g.observed)]
            axes.plot([0, 1], [0, 1], color="#BBBBBB", lw=1, ls=":")
            x, y = [g.predicted for g in groups], np.array([g.observed for g in groups])
            error = [y - [g.lower for g in groups], [g.upper for g in groups] - y]
            axes.errorbar(x, y, yerr=np.clip(error, 0, None), fmt="o-", color=CLINIC, ms=4, lw=1, capsize=2)
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axes.set_title(f"{label}, {horizon / 12:g} y", fontsize=8)
    figure.supxlabel("Predicted survival", fontsize=9)
    figure.supylabel("Observed survival (Kaplan-Meier, 95 %)", fontsize=9)
    return figure
