"""How good a finished run is, from its saved predictions only.

Every number is computed fold by fold on the test patients, with the censoring distribution of the *training* fold
(the published evaluation pools train, val and test, so that test patients count twice), and averaged over folds as in
the paper: mean and standard deviation (ddof 0). What cannot be computed is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from napari_survpgc.core.groups import kaplan_meier
from napari_survpgc.core.metrics import censoring_survival, integrated_brier

from ..runs.run_folder import FoldPredictions, Run, percentiles_within_folds
from ..seeds import seed_of
from .bootstrap import Interval, PairScore, auc_pairs, c_index_pairs, draw_counts, interval, uno_pairs

HORIZONS = (12.0, 36.0, 60.0)
"""Months: 1, 3 and 5 years."""
TAU = 60.0
"""Months: deaths later than this do not enter Uno's C and the Brier score, whose weights are unstable there."""
RESAMPLES = 1000
MAX_WEIGHT = 20.0
"""A training fold supports times at which at least 1/20 of it would still be uncensored."""


@dataclass(frozen=True)
class FoldScores:
    """One test fold.

    Attributes
    ----------
    tau : months; TAU, or less where the follow-up of the training fold ends before.
    auc, cases, controls : one a horizon: AUC(t), patients dead by then, patients followed longer.
    iauc : mean of the AUCs weighted by the drop of the test patients' Kaplan-Meier curve.
    brier, brier_reference : integrated Brier score up to tau, and that of the training fold's Kaplan-Meier curve,
        which knows nothing of the patient; NaN for a system without hazards.
    """

    number: int
    n_train: int
    n_test: int
    deaths: int
    tau: float
    c_index: float
    uno: float
    auc: tuple[float, ...]
    cases: tuple[int, ...]
    controls: tuple[int, ...]
    iauc: float
    brier: float
    brier_reference: float


@dataclass(frozen=True)
class Score:
    """A measure over the folds.

    Attributes
    ----------
    mean, sd : over the folds in which it can be computed (ddof 0).   n_folds : how many those are.
    interval : 95 % bootstrap over the patients of each test fold.
    """

    mean: float
    sd: float
    n_folds: int
    interval: Interval


@dataclass(frozen=True)
class Evaluation:
    """A run.

    Attributes
    ----------
    scores : "c_index", "uno", "auc_12" ..., "iauc", "brier" -> over the folds.
    pooled : C-index of all test patients together, risks as percentiles within their fold, since the risks of two fold
        models are not on one scale.
    """

    run: Run
    folds: tuple[FoldScores, ...]
    scores: dict[str, Score]
    pooled: float
    pooled_interval: Interval
    horizons: tuple[float, ...] = HORIZONS

    @property
    def n_test(self) -> int:
        return len(self.run.pooled)

    @property
    def deaths(self) -> int:
        return int(self.run.pooled["event"].sum())

    def frame(self) -> pd.DataFrame:
        """Return a row a fold, for a CSV."""
        rows = []
        for f in self.folds:
            row: dict[str, object] = {
                "model": self.run.model, "protocol": self.run.record.protocol, "fold": f.number, "n_train": f.n_train,
                "n_test": f.n_test, "deaths": f.deaths, "c_index": f.c_index, "uno_c": f.uno, "tau_months": f.tau,
                "iauc": f.iauc,
            }  # fmt: skip
            for horizon, auc, cases, controls in zip(self.horizons, f.auc, f.cases, f.controls, strict=True):
                row |= {
                    f"auc_{horizon:g}": auc,
                    f"cases_{horizon:g}": cases,
                    f"controls_{horizon:g}": controls,
                }
            row |= {"integrated_brier": f.brier, "integrated_brier_of_kaplan_meier": f.brier_reference}
            rows.append(row)
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class _FoldPairs:
    """What is resampled of a fold."""

    c_index: PairScore
    uno: PairScore
    auc: tuple[PairScore, ...]
    drops: NDArray[np.float64]
    n: int


def evaluate(
    run: Run,
    *,
    horizons: Sequence[float] = HORIZONS,
    tau: float = TAU,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Compute everything that the tables need of a run.

    Parameters
    ----------
    horizons : months of AUC(t).   tau : months, see TAU.   resamples : of the bootstrap.
    """
    times = tuple(float(h) for h in horizons)
    folds, resampled = [], []
    pooled_weights = []
    for fold in run.folds:
        limit = supported_tau(fold.train["survival_months"], fold.train["event"], tau)
        pairs = _fold_pairs(fold, times, limit)
        folds.append(_fold_scores(fold, pairs, times, limit))
        # The same resamples for every system with the same test patients.
        rng = np.random.default_rng(seed_of(seed, fold.number, "bootstrap"))
        weights = draw_counts(pairs.n, resamples, rng)
        pooled_weights.append(weights)
        auc = np.stack([p.resampled(weights) for p in pairs.auc])
        values = {"c_index": pairs.c_index.resampled(weights), "uno": pairs.uno.resampled(weights)}
        values |= {f"auc_{h:g}": row for h, row in zip(times, auc, strict=True)}
        values["iauc"] = _weighted(auc, pairs.drops)
        resampled.append(values)
    names = [*resampled[0], "brier"]
    scores = {}
    for name in names:
        observed = np.array([_value(f, name, times) for f in folds])
        band = Interval(float("nan"), float("nan"))
        if name in resampled[0]:
            known = [values[name] for values, o in zip(resampled, observed, strict=True) if np.isfinite(o)]
            if known:
                band = interval(np.mean(known, axis=0))
        scores[name] = _score(observed, band)
    pooled = fold_percentiles(run)
    pairs_all = c_index_pairs(pooled["survival_months"], pooled["event"], pooled["percentile"])
    rng = np.random.default_rng(seed_of(seed, "pooled", "bootstrap"))
    weights = draw_counts(len(pooled), resamples, rng)
    return Evaluation(
        run, tuple(folds), scores, pairs_all.value(), interval(pairs_all.resampled(weights)), times
    )


def fold_percentiles(run: Run) -> pd.DataFrame:
    """Return the test patients of all folds with ``percentile``: 100 * rank of the risk within the fold / patients."""
    table = run.pooled.copy()
    table["percentile"] = percentiles_within_folds(table)
    return table


def supported_tau(months: ArrayLike, event: ArrayLike, tau: float = TAU) -> float:
    """Return ``tau``, or the last time at which at least 1/MAX_WEIGHT of the training fold would still be uncensored."""
    times = np.unique(np.asarray(months, np.float64))
    supported = times[censoring_survival(months, event)(times) >= 1 / MAX_WEIGHT]
    return float(min(tau, supported.max())) if len(supported) else float("nan")


def _fold_pairs(fold: FoldPredictions, horizons: tuple[float, ...], tau: float) -> _FoldPairs:
    test, train = fold.test, fold.train
    months, event = test["survival_months"].to_numpy(float), test["event"].to_numpy(int)
    reference = (train["survival_months"].to_numpy(float), train["event"].to_numpy(int))
    risk = test["risk"].to_numpy(float)
    death = 1 - fold.survival_at(horizons) if fold.has_hazards else np.repeat(risk[:, None], len(horizons), 1)
    auc = tuple(auc_pairs(months, event, death[:, k], h, *reference) for k, h in enumerate(horizons))
    curve = kaplan_meier(months, event)
    place = np.searchsorted(curve.months, horizons, side="right") - 1
    drops = -np.diff(curve.survival[place], prepend=1.0)
    return _FoldPairs(
        c_index_pairs(months, event, risk),
        uno_pairs(months, event, risk, *reference, tau),
        auc,
        drops,
        len(test),
    )


def _fold_scores(
    fold: FoldPredictions, pairs: _FoldPairs, horizons: tuple[float, ...], tau: float
) -> FoldScores:
    months, event = fold.test["survival_months"].to_numpy(float), fold.test["event"].to_numpy(int)
    auc = np.array([p.value() for p in pairs.auc])
    own, reference = _brier(fold, tau)
    return FoldScores(
        number=fold.number,
        n_train=len(fold.train),
        n_test=len(fold.test),
        deaths=int(event.sum()),
        tau=tau,
        c_index=pairs.c_index.value(),
        uno=pairs.uno.value(),
        auc=tuple(auc.tolist()),
        cases=tuple(int(((months <= h) & (event == 1)).sum()) for h in horizons),
        controls=tuple(int((months > h).sum()) for h in horizons),
        iauc=float(_weighted(auc[:, None], pairs.drops)[0]),
        brier=own,
        brier_reference=reference,
    )


def _weighted(auc: NDArray[np.float64], drops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the integrated AUC of (n_horizons, n) values; NaN where one of them is, as scikit-survival weights them."""
    total = drops.sum()
    if total <= 0:
        return np.full(auc.shape[1], np.nan)
    # A horizon at which nobody has died yet has no weight: its AUC is not missed.
    parts = np.where(drops[:, None] > 0, auc * drops[:, None], 0.0)
    return parts.sum(0) / total


def _brier(fold: FoldPredictions, tau: float) -> tuple[float, float]:
    """Integrated Brier score up to tau on a monthly grid: of the system, and of the training fold's Kaplan-Meier."""
    nan = float("nan")
    if not fold.has_hazards or not np.isfinite(tau) or fold.test["risk"].isna().any():
        return nan, nan
    test, train = fold.test, fold.train
    outcome = (test["survival_months"].to_numpy(float), test["event"].to_numpy(int))
    reference = (train["survival_months"].to_numpy(float), train["event"].to_numpy(int))
    grid = np.linspace(0, tau, max(2, round(tau) + 1))
    # A death or an end of follow-up after tau is beyond the last horizon and needs no weight of its own time.
    months = np.minimum(outcome[0], np.nextafter(tau, np.inf))
    event = np.where(outcome[0] > tau, 0, outcome[1])
    curve = kaplan_meier(*reference)
    average = curve.survival[np.searchsorted(curve.months, grid, side="right") - 1]
    own = integrated_brier(months, event, fold.survival_at(grid), grid, *reference, weights="before")
    null = integrated_brier(
        months, event, np.tile(average, (len(test), 1)), grid, *reference, weights="before"
    )
    return own, null


def _value(scores: FoldScores, name: str, horizons: tuple[float, ...]) -> float:
    if name.startswith("auc_"):
        return scores.auc[[f"auc_{h:g}" for h in horizons].index(name)]
    return float(getattr(scores, name))


def _score(values: NDArray[np.float64], band: Interval) -> Score:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return Score(float("nan"), float("nan"), 0, band)
    return Score(float(known.mean()), float(known.std()), len(known), band)
