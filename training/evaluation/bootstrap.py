"""Concordance measures as sums over pairs, so that thousands of resamples are a few matrix products.

C-index, Uno's C and AUC(t) all have the form  sum_ij N_ij / sum_ij D_ij  over pairs of patients (i is worse off). In a
resample in which patient i was drawn w_i times this becomes  w' N w / w' D w, for all resamples at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from napari_survpgc.core.metrics import censoring_survival

_TIED = 1e-8  # as in core.metrics


@dataclass(frozen=True)
class PairScore:
    """A concordance measure of one set of patients.

    Attributes
    ----------
    good : (n, n) weight of the concordant pairs, ties of risk at one half.   all : (n, n) weight of all pairs.
    """

    good: NDArray[np.float64]
    all: NDArray[np.float64]

    def value(self) -> float:
        """Return the measure itself; NaN without a pair."""
        total = self.all.sum()
        return float(self.good.sum() / total) if total > 0 else float("nan")

    def resampled(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n_resamples,) values for (n_resamples, n) counts; NaN where a resample has no pair."""
        total = ((weights @ self.all) * weights).sum(1)
        good = ((weights @ self.good) * weights).sum(1)
        return np.divide(good, total, out=np.full(len(weights), np.nan), where=total > 0)


def draw_counts(n: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (resamples, n): how often each of n patients is drawn in n draws with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def _concordant(risk: NDArray[np.float64]) -> NDArray[np.float64]:
    difference = risk[:, None] - risk[None, :]
    tied = np.abs(difference) <= _TIED
    return ((difference > 0) & ~tied) + 0.5 * tied


def _pairs(use: NDArray[np.float64], risk: ArrayLike) -> PairScore:
    risks = np.asarray(risk, np.float64)
    if np.isnan(risks).any():
        return PairScore(np.full_like(use, np.nan), np.full_like(use, np.nan))
    return PairScore(_concordant(risks) * use, use)


def c_index_pairs(months: ArrayLike, event: ArrayLike, risk: ArrayLike) -> PairScore:
    """Harrell's C as pairs; see :func:`napari_survpgc.core.metrics.c_index`."""
    return _pairs(_comparable(months, event), risk)


def uno_pairs(
    months: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    reference_months: ArrayLike,
    reference_event: ArrayLike,
    tau: float,
) -> PairScore:
    """Uno's C as pairs; see :func:`napari_survpgc.core.metrics.c_index_ipcw`."""
    times = np.asarray(months, np.float64)
    g = censoring_survival(reference_months, reference_event, "before")(times)
    early = (times < tau) & (np.asarray(event) == 1)
    weight = np.divide(1.0, g * g, out=np.zeros_like(g), where=early & (g > 0))
    if (early & (g <= 0)).any():
        weight = np.full_like(g, np.nan)
    return _pairs(_comparable(months, event) * weight[:, None], risk)


def auc_pairs(
    months: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    at: float,
    reference_months: ArrayLike,
    reference_event: ArrayLike,
) -> PairScore:
    """AUC(t) as pairs; see :func:`napari_survpgc.core.metrics.auc_at`."""
    times, events = np.asarray(months, np.float64), np.asarray(event) == 1
    g = censoring_survival(reference_months, reference_event, "before")(times)
    case, control = events & (times <= at), times > at
    weight = np.divide(1.0, g, out=np.zeros_like(g), where=case & (g > 0))
    if (case & (g <= 0)).any():
        weight = np.full_like(g, np.nan)
    return _pairs(weight[:, None] * control[None, :], risk)


def _comparable(months: ArrayLike, event: ArrayLike) -> NDArray[np.float64]:
    times, events = np.asarray(months, np.float64), np.asarray(event) == 1
    later = (times[:, None] < times[None, :]) | ((times[:, None] == times[None, :]) & ~events[None, :])
    return (later & events[:, None]).astype(np.float64)


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval; NaN when fewer than nine in ten resamples gave a number."""

    lower: float
    upper: float


def interval(values: NDArray[np.float64]) -> Interval:
    """Return the 2.5 and 97.5 percentiles of resampled values."""
    known = values[np.isfinite(values)]
    if len(known) < 0.9 * len(values):
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(float(low), float(high))


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p that a resampled difference is zero: twice the smaller share beyond zero, (k + 1)/(B + 1)."""
    known = differences[np.isfinite(differences)]
    if len(known) < 0.9 * len(differences):
        return float("nan")
    smaller = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(known) + 1)))


def corrected_t_test(differences: ArrayLike, test_share: float) -> float:
    """Return p of the corrected resampled t-test over folds (Nadeau & Bengio 2003, Machine Learning 52).

    The training folds overlap, so that the differences are not independent; the variance is enlarged by the size of
    a test fold relative to its training fold.

    Parameters
    ----------
    differences : (n_folds,).   test_share : patients of a test fold / patients of its training fold.
    """
    values = np.asarray(differences, np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    variance = values.var(ddof=1) * (1 / len(values) + test_share)
    if variance == 0:
        return 1.0 if values.mean() == 0 else float("nan")
    return float(2 * stats.t.sf(abs(values.mean()) / np.sqrt(variance), len(values) - 1))
