"""scores.csv: every measure of a system in one long table, for other programs (contract)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from napari_survpgc.core.curves import Estimate

from .calibration import RunCalibration
from .evaluation import Evaluation
from .stratification import Halves

COLUMNS = ("system", "measure", "months", "value", "low", "high", "n", "n_events")
NAN = float("nan")


def score_row(
    system: str,
    measure: str,
    value: float,
    *,
    months: float = NAN,
    low: float = NAN,
    high: float = NAN,
    n: int,
    n_events: int,
) -> dict[str, object]:
    """Return a row; what has no time or no interval leaves the cell empty."""
    return dict(zip(COLUMNS, (system, measure, months, value, low, high, n, n_events), strict=True))


def score_rows(
    system: str, e: Evaluation, halves: Halves | None = None, calibrated: RunCalibration | None = None
) -> list[dict[str, object]]:
    """Return the rows of a run.

    ``c_index``, ``uno``, ``auc``, ``iauc``, ``brier`` are means over the folds; ``n`` and ``n_events`` count who was tested,
    for ``auc`` those dead by the time or followed longer, and the dead of them.
    """
    everyone = {"n": e.n_test, "n_events": e.deaths}
    rows = []
    for name, s in e.scores.items():
        measure, _, month = name.partition("_") if name.startswith("auc_") else (name, "", "")
        counts = dict(everyone)
        if month:
            place = list(e.horizons).index(float(month))
            dead = sum(f.cases[place] for f in e.folds)
            counts = {"n": dead + sum(f.controls[place] for f in e.folds), "n_events": dead}
        band = Estimate(s.mean, s.interval.lower, s.interval.upper)
        rows.append(_of(system, measure, band, float(month or "nan"), counts))
    band = Estimate(e.pooled, e.pooled_interval.lower, e.pooled_interval.upper)
    rows.append(_of(system, "c_index_pooled", band, NAN, everyone))
    if halves is not None:
        rows += _halves(system, halves, everyone)
    if calibrated is not None:
        rows += _calibration(system, calibrated, everyone)
    return rows


def _of(
    system: str, measure: str, estimate: Estimate, months: float, counts: dict[str, int]
) -> dict[str, object]:
    return score_row(
        system, measure, estimate.value, months=months, low=estimate.low, high=estimate.high, **counts
    )


def _halves(system: str, halves: Halves, everyone: dict[str, int]) -> list[dict[str, object]]:
    p = NAN if halves.test.p is None else halves.test.p
    rows = [
        score_row(system, "log_rank_p", p, **everyone),
        _of(system, "hazard_ratio_of_halves", halves.hazard_ratio.estimate, NAN, everyone),
    ]
    tau = halves.curves[0].tau if halves.curves else NAN
    rows.append(_of(system, "rmst_difference_of_halves", halves.rmst.estimate, tau, everyone))
    for curve in halves.curves:
        counts = {"n": curve.n, "n_events": curve.events}
        rows.append(_of(system, f"median_months_{curve.group}", curve.median, NAN, counts))
        rows.append(_of(system, f"rmst_months_{curve.group}", curve.rmst, curve.tau, counts))
        rows += [
            _of(
                system,
                f"survival_{curve.group}",
                at.survival,
                at.months,
                {"n": curve.n, "n_events": at.events},
            )
            for at in curve.at
        ]
    return rows


def _calibration(system: str, found: RunCalibration, everyone: dict[str, int]) -> list[dict[str, object]]:
    rows = [score_row(system, "d_calibration_p", found.d_calibration, **everyone)]
    for suffix, several, scores in (
        ("", found.before, found.brier_before),
        ("_recalibrated", found.after, found.brier_after),
    ):
        for c, score in zip(several, scores, strict=True):
            counts = {"n": c.n, "n_events": c.events}
            rows.append(score_row(system, f"brier_at{suffix}", score, months=c.months, **counts))
            rows.append(score_row(system, f"one_calibration_p{suffix}", c.p, months=c.months, **counts))
            for name, estimate in (
                ("observed_to_expected", c.observed_to_expected),
                ("calibration_intercept", c.intercept),
                ("calibration_slope", c.slope),
            ):
                if math.isfinite(estimate.value) or not suffix:
                    rows.append(_of(system, f"{name}{suffix}", estimate, c.months, counts))
    return rows


def scores_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return the rows as the table of the contract."""
    return pd.DataFrame(list(rows)).reindex(columns=list(COLUMNS))
