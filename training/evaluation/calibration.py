"""Predicted against observed survival of the test patients, before and after a recalibration that has not seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_survpgc.core.calibration import Calibration, calibration_at, d_calibration, smooth_calibration
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.groups import kaplan_meier
from napari_survpgc.core.metrics import brier
from napari_survpgc.core.output.plots import CLINIC, GENOMIC

from ..runs.recalibration import held_out_survival, nested_recalibration
from ..runs.run_folder import Run

_BARS = 20


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


@dataclass(frozen=True)
class RunCalibration:
    """How true the survival of a run is.

    Attributes
    ----------
    before, after : one a horizon; after the recalibration that was learned from the other folds.
    brier_before, brier_after : at each horizon.   d_calibration : p, before.
    table : the test patients, with ``survival_<months>`` and ``recalibrated_<months>``.
    """

    before: tuple[Calibration, ...]
    after: tuple[Calibration, ...]
    brier_before: tuple[float, ...]
    brier_after: tuple[float, ...]
    d_calibration: float
    table: pd.DataFrame


def run_calibration(run: Run, horizons: Sequence[float]) -> RunCalibration | None:
    """Test the survival of all test patients, each predicted by its own fold; None for a system without hazards."""
    table = held_out_survival(run, horizons)
    if table is None or table["risk"].isna().any():
        return None
    after = nested_recalibration(table, horizons)
    outcome = (table["survival_months"], table["event"])
    before_of, after_of = [], []
    for h in horizons:
        name = f"survival_{h:g}"
        before_of.append(calibration_at(*outcome, table[name], h, table[f"own_{h:g}"]))
        after_of.append(calibration_at(*outcome, after[name], h))
        table[f"recalibrated_{h:g}"] = after[name]
    names = [f"survival_{h:g}" for h in horizons]
    scores = [
        brier(*outcome, one[names].to_numpy(float), horizons, *outcome, weights="before")
        for one in (table, after)
    ]
    return RunCalibration(
        tuple(before_of),
        tuple(after_of),
        tuple(scores[0].tolist()),
        tuple(scores[1].tolist()),
        d_calibration(table["event"], table["own_survival"]),
        table,
    )


def calibration(run: Run, horizon: float, n_groups: int = 5) -> tuple[CalibrationGroup, ...]:
    """Compare predicted with observed survival in groups of test patients (all folds, each predicted by its own).

    Raises
    ------
    CohortError : the system gives no hazards.
    """
    table = held_out_survival(run, (horizon,))
    if table is None:
        raise CohortError("The predictions have no hazards, so no survival", "Evaluate their risks only")
    return _groups(table.rename(columns={f"survival_{horizon:g}": "predicted"}), horizon, n_groups)


def _groups(table: pd.DataFrame, horizon: float, n_groups: int = 5) -> tuple[CalibrationGroup, ...]:
    table = table.sort_values("predicted", kind="stable")
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


def calibration_figure(
    shown: Sequence[tuple[str, RunCalibration]], horizons: Sequence[float]
) -> Figure | None:
    """Draw one panel a run and horizon (months), patients counted below; None where no run has hazards."""
    if not shown:
        return None
    figure = Figure(figsize=(2.6 * len(horizons) + 0.8, 3.2 * len(shown) + 0.5), layout="constrained")
    ratios = [3.0, 0.7] * len(shown)
    grid = figure.subplots(2 * len(shown), len(horizons), squeeze=False, sharex=True, height_ratios=ratios)
    for row, (label, found) in enumerate(shown):
        for column, horizon in enumerate(horizons):
            axes, counts = grid[2 * row][column], grid[2 * row + 1][column]
            _panel(axes, found, horizon, column)
            axes.set_title(f"{label}, {horizon / 12:g} y\n{_text(found, column)}", fontsize=6.5, loc="left")
            counts.hist(
                found.table[f"survival_{horizon:g}"], bins=np.linspace(0, 1, _BARS + 1), color="#BBBBBB"
            )
            counts.spines[["top", "right"]].set_visible(False)
            for one in (axes, counts):
                one.tick_params(labelsize=7)
        grid[2 * row][0].set_ylabel("Observed survival", fontsize=8)
        grid[2 * row + 1][0].set_ylabel("Patients", fontsize=8)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=7)
    figure.supxlabel("Predicted survival", fontsize=9)
    return figure


def _panel(axes: Axes, found: RunCalibration, horizon: float, column: int) -> None:
    table = found.table
    axes.plot([0, 1], [0, 1], color="#BBBBBB", lw=1, ls=":")
    for name, color, label in (
        (f"survival_{horizon:g}", CLINIC, "as predicted: smoothed, 95 %"),
        (f"recalibrated_{horizon:g}", GENOMIC, "recalibrated (learned from the other folds)"),
    ):
        curve = smooth_calibration(table["survival_months"], table["event"], table[name], horizon)
        if curve is None:
            continue
        axes.plot(curve.predicted, curve.observed, color=color, lw=1.2, label=label)
        if color == CLINIC:
            axes.fill_between(curve.predicted, curve.low, curve.high, color=color, alpha=0.12, lw=0)
    groups = _groups(table.rename(columns={f"survival_{horizon:g}": "predicted"}), horizon)
    groups = tuple(g for g in groups if np.isfinite(g.observed))
    y = np.array([g.observed for g in groups])
    error = np.clip([y - [g.lower for g in groups], [g.upper for g in groups] - y], 0, None)
    axes.errorbar(
        [g.predicted for g in groups], y, yerr=error, fmt="o", color="#444444", ms=3, lw=0.8, capsize=2,
        label="fifths: Kaplan-Meier, 95 %",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)


def _text(found: RunCalibration, column: int) -> str:
    c = found.before[column]
    p = "n/a" if not np.isfinite(c.p) else f"{c.p:.2g}"
    return f"observed/expected deaths {c.observed_to_expected.text()}\nslope {c.slope.text()}, 1-calibration p {p}"
