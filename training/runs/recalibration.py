"""Recalibration of a run's survival, from its held-out predictions; its benefit measured on patients it has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from napari_survpgc.core.calibration import Recalibration, fit_recalibration, recalibrated
from napari_survpgc.core.metrics import brier

from .run_folder import Run

HORIZONS = (12.0, 36.0, 60.0)


def held_out_survival(run: Run, horizons: Sequence[float] = HORIZONS) -> pd.DataFrame | None:
    """Return the test patients of all folds with ``survival_<months>``, each by the model that had not seen them.

    ``own_survival`` is P(alive) at a patient's own time, ``own_<months>`` that at the earlier of both. None for a system
    without hazards.
    """
    if not all(fold.has_hazards for fold in run.folds):
        return None
    parts = []
    for fold in run.folds:
        table = fold.test[["survival_months", "event", "risk"]].assign(fold=fold.number)
        times = table["survival_months"].to_numpy(float)
        for k, horizon in enumerate(horizons):
            table[f"survival_{horizon:g}"] = fold.survival_at(horizons)[:, k]
            table[f"own_{horizon:g}"] = fold.survival_at_own(np.minimum(times, horizon))
        table["own_survival"] = fold.survival_at_own(times)
        parts.append(table)
    everyone = pd.concat(parts)
    return everyone[~everyone.index.duplicated()]


def nested_recalibration(
    table: pd.DataFrame, horizons: Sequence[float] = HORIZONS, method: str = "logistic"
) -> pd.DataFrame:
    """Return (n, n_horizons) recalibrated survival of each fold's patients, learned from those of the other folds.

    A horizon at which the others cannot teach anything stays as it was.
    """
    names = [f"survival_{h:g}" for h in horizons]
    after = table[names].copy()
    for fold in table["fold"].unique():
        here = table["fold"] == fold
        others = table[~here]
        if others.empty:
            continue
        learned = fit_recalibration(
            others["survival_months"], others["event"], others[names].to_numpy(float), horizons, method
        )
        if learned is None:
            continue
        kept = [f"survival_{h:g}" for h in learned.months]
        after.loc[here, kept] = recalibrated(learned, table.loc[here, kept].to_numpy(float))
    return after


def learn_recalibration(
    run: Run, horizons: Sequence[float] = HORIZONS, method: str = "logistic"
) -> Recalibration | None:
    """Learn from all held-out predictions; the Brier scores before and after are of the nested ones.

    Returns
    -------
    None for a system without hazards, or where too few died; times beyond the follow-up are left out.
    """
    table = held_out_survival(run, horizons)
    if table is None or table["risk"].isna().any():
        return None
    names = [f"survival_{h:g}" for h in horizons]
    outcome = (table["survival_months"], table["event"])
    learned = fit_recalibration(*outcome, table[names].to_numpy(float), horizons, method)
    if learned is None:
        return None
    after = nested_recalibration(table, horizons, method)
    kept = [f"survival_{h:g}" for h in learned.months]
    scores = [
        tuple(
            float(v) if np.isfinite(v) else None
            for v in brier(*outcome, one[kept].to_numpy(float), learned.months, *outcome, weights="before")
        )
        for one in (table, after)
    ]
    return dataclasses.replace(learned, brier_before=scores[0], brier_after=scores[1])
