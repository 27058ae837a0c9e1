"""How well risks rank patients and survival curves fit: C-index, Uno's C, AUC(t), integrated AUC, Brier.

Argument order everywhere: months, event (1 = death), then the prediction; ``reference_*`` is the training fold, on
which the censoring distribution is estimated. What cannot be computed is NaN, never 0; :func:`why_not` says why.

Weights are 1 / G(T), the probability of being uncensored at a death, as in the published evaluation and scikit-survival.
With ``weights="before"`` they are 1 / G(T-) as R's survival, timeROC and riskRegression take them, and as the trainer
evaluates: the two differ where a death and an end of follow-up fall on one time, and G(T) is 0 where the last of them do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = Literal["before", "at"]
_TIED = 1e-8
_SMALL = 16  # a power of two


def _times_events(months: ArrayLike, event: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    times, events = np.asarray(months, np.float64).ravel(), np.asarray(event).ravel().astype(bool)
    if times.shape != events.shape or len(times) == 0:
        raise ValueError(f"{len(times)} times and {len(events)} events do not belong together")
    if not np.isfinite(times).all() or (times < 0).any():
        raise ValueError("survival times must be numbers of at least 0")
    return times, events


def _weighted_concordance(
    times: NDArray[np.float64],
    events: NDArray[np.bool_],
    risk: NDArray[np.float64],
    weight: NDArray[np.float64],
    use: NDArray[np.bool_],
) -> float:
    """Share of concordant pairs (i dies before j), each weighted by ``weight[i]``; ties of risk count one half."""
    n = len(times)
    # Those who lived longer come first, at one time the censored before the deaths: whom a death is compared with
    # are the first so many.
    by_time = np.lexsort((events, -times))
    dead = by_time[(events & use)[by_time]]
    censored = np.sort(times[~events])
    longer = np.full(len(dead), n) - np.searchsorted(np.sort(times), times[dead], side="right")
    longer += np.searchsorted(censored, times[dead], side="right")
    longer -= np.searchsorted(censored, times[dead], side="left")
    by_risk = np.argsort(risk, kind="stable")
    rank = np.empty(n, np.int64)
    rank[by_risk] = np.arange(n)
    sorted_risk = risk[by_risk]
    first = np.searchsorted(sorted_risk, risk[dead] - _TIED, side="left")
    last = np.searchsorted(sorted_risk, risk[dead] + _TIED, side="right")
    shared = np.flatnonzero(last - first > 1)  # somebody else has this risk
    found = _count_below(
        rank[by_time], np.concatenate([longer, longer[shared]]), np.concatenate([first, last[shared]])
    )
    lower = found[: len(dead)]
    not_higher = lower.copy()
    not_higher[shared] = found[len(dead) :]
    total = float(weight[dead] @ longer)
    return float(weight[dead] @ (lower + not_higher)) / 2 / total if total > 0 else float("nan")


def _count_below(
    rank: NDArray[np.int64], ends: NDArray[np.int64], limits: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count for each query the ranks below its limit among the first ``ends`` ones, in O(n log^2 n) in all.

    The first 112 = 64 + 32 + 16 are a block of each of these lengths. All blocks of a length are sorted in one go, by
    the number of the block and the rank within it, and a query is looked up in its own.

    Parameters
    ----------
    rank : (n,) a permutation of 0 .. n - 1.   ends, limits : (m,) from 0 to n.
    """
    n = len(rank)
    rest = ends & -_SMALL  # what is left over after the blocks is looked through
    tail = np.append(rank, np.full(_SMALL, n))[rest[:, None] + np.arange(_SMALL)]
    counts = ((tail < limits[:, None]) & (np.arange(_SMALL) < (ends - rest)[:, None])).sum(1)
    # Keys of 32 bits, where they suffice, are sorted and looked up in half the time.
    small: type[np.int32 | np.int64] = np.int32 if (n // _SMALL + 1) * n < 2**31 else np.int64
    width = small(n)
    place: NDArray[np.integer] = np.arange(n, dtype=small)
    rank, limits = rank.astype(small), limits.astype(small)
    for level in range(_SMALL.bit_length() - 1, n.bit_length()):
        queries = np.flatnonzero((ends >> level) & 1)
        if len(queries) == 0:
            continue
        block: NDArray[np.integer] = ((ends[queries] >> level) - 1).astype(small)
        keys = np.sort((place >> level) * width + rank)
        counts[queries] += np.searchsorted(keys, block * width + limits[queries]) - (block << level)
    return counts


def c_index(months: ArrayLike, event: ArrayLike, risk: ArrayLike) -> float:
    """Harrell's C: P(higher risk dies first) over comparable pairs.

    A pair is comparable when i died and j lived longer, or j was censored at that very time. NaN when there is no
    such pair or a risk is NaN.

    Parameters
    ----------
    risk : (n,), larger means earlier death. It does not accept survival times or probabilities.
    """
    times, events = _times_events(months, event)
    risks = np.asarray(risk, np.float64).ravel()
    if risks.shape != times.shape:
        raise ValueError(f"{len(risks)} risks and {len(times)} times do not belong together")
    if np.isnan(risks).any():
        return float("nan")
    return _weighted_concordance(times, events, risks, np.ones(len(times)), np.ones(len(times), bool))


def censoring_survival(
    months: ArrayLike, event: ArrayLike, weights: Weights = "at"
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the Kaplan-Meier estimate G(t) of staying uncensored; with ``weights`` "before" its left limit G(t-)."""
    if weights not in ("before", "at"):
        raise ValueError(f'weights must be "before" or "at", not {weights}')
    times, events = _times_events(months, event)
    distinct = np.unique(times)
    order = np.sort(times)
    at_risk = len(times) - np.searchsorted(order, distinct, side="left")
    # Deaths at a time leave the risk set before the censorings at the same time.
    which = np.searchsorted(distinct, times)
    died = np.bincount(which[events], minlength=len(distinct))
    censored = np.bincount(which[~events], minlength=len(distinct))
    factor = np.ones(len(distinct))
    left = at_risk - died
    np.divide(left - censored, left, out=factor, where=left > 0)
    curve = np.cumprod(factor)

    side: Literal["left", "right"] = "left" if weights == "before" else "right"

    def survive(t: NDArray[np.float64]) -> NDArray[np.float64]:
        index = np.searchsorted(distinct, t, side=side) - 1
        return np.where(index < 0, 1.0, curve[np.maximum(index, 0)])

    return survive


def c_index_ipcw(
    months: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    reference_months: ArrayLike,
    reference_event: ArrayLike,
    tau: float | None = None,
    weights: Weights = "at",
) -> float:
    """Uno's C: pairs weighted by 1 / G(t_i-)^2, which removes the influence of censoring.

    Parameters
    ----------
    tau : only deaths before this time count; beyond the reference's follow-up the weights are unknown.
    """
    times, events = _times_events(months, event)
    risks = np.asarray(risk, np.float64).ravel()
    if np.isnan(risks).any():
        return float("nan")
    g = censoring_survival(reference_months, reference_event, weights)(times)
    use = events & ((times < tau) if tau is not None else True)
    if (g[use] <= 0).any():
        return float("nan")
    weight = np.divide(1.0, g * g, out=np.zeros_like(g), where=g > 0)
    return _weighted_concordance(times, events, risks, weight, use)


def auc_at(
    months: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    at: ArrayLike,
    reference_months: ArrayLike,
    reference_event: ArrayLike,
    weights: Weights = "at",
) -> NDArray[np.float64]:
    """Cumulative/dynamic AUC(t) with inverse-probability-of-censoring weights.

    Parameters
    ----------
    risk : (n,) or (n, n_times).   at : (n_times,) months.

    Returns
    -------
    (n_times,); NaN where nobody had died or nobody was followed longer.
    """
    times, events = _times_events(months, event)
    horizons = np.atleast_1d(np.asarray(at, np.float64))
    risks = np.asarray(risk, np.float64)
    one = risks.ndim == 1
    columns = risks[:, None] if one else risks
    if columns.shape[0] != len(times) or (not one and columns.shape[1] != len(horizons)):
        raise ValueError(
            f"risks {columns.shape} do not belong to {len(times)} patients and {len(horizons)} times"
        )
    g = censoring_survival(reference_months, reference_event, weights)(times)
    result = np.full(len(horizons), np.nan)
    places: _Places | None = None
    for k, horizon in enumerate(horizons):
        case, control = events & (times <= horizon), times > horizon
        column = columns[:, 0 if one else k]
        if not case.any() or not control.any() or np.isnan(column).any() or (g[case] <= 0).any():
            continue
        if places is None or not one:
            places = _Places.of(column)  # one order serves all horizons
        counted = np.concatenate([[0], np.cumsum(control[places.order])])
        below, up_to = counted[places.first[case]], counted[places.last[case]]
        weight = 1.0 / g[case]
        result[k] = float(weight @ (below + 0.5 * (up_to - below)) / (weight.sum() * control.sum()))
    return result


class _Places(NamedTuple):
    """Where each patient stands among all by risk: those before ``first`` are lower, up to ``last`` tied."""

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, risk: NDArray[np.float64]) -> _Places:
        order = np.argsort(risk, kind="stable")
        ordered = risk[order]
        first, last = np.empty(len(risk), np.int64), np.empty(len(risk), np.int64)
        # Queries in rising order are looked up several times as fast.
        first[order] = np.searchsorted(ordered, ordered - _TIED, side="left")
        last[order] = np.searchsorted(ordered, ordered + _TIED, side="right")
        return cls(order, first, last)


def integrated_auc(
    months: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    at: ArrayLike,
    reference_months: ArrayLike,
    reference_event: ArrayLike,
    weights: Weights = "at",
) -> float:
    """Mean of AUC(t), weighted by the drop of the Kaplan-Meier curve between the times (as scikit-survival does)."""
    times, events = _times_events(months, event)
    horizons = np.atleast_1d(np.asarray(at, np.float64))
    auc = auc_at(months, event, risk, horizons, reference_months, reference_event, weights)
    if len(horizons) == 1:
        return float(auc[0])
    # Survival is the censoring estimate with the roles of death and censoring exchanged, deaths first.
    curve = _kaplan_meier(times, events)(horizons)
    drop = -np.diff(np.concatenate([[1.0], curve]))
    if not curve[-1] < 1:
        return float("nan")
    # A time at which nobody has died yet has no weight: its AUC is not missed.
    return float(np.where(drop > 0, auc * drop, 0.0).sum() / (1.0 - curve[-1]))


def _kaplan_meier(
    times: NDArray[np.float64], events: NDArray[np.bool_]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the Kaplan-Meier estimate of survival, as a right-continuous function of time."""
    distinct, died = np.unique(times[events], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), distinct, side="left")
    curve = np.concatenate([[1.0], np.cumprod(1 - died / at_risk)])
    return lambda t: curve[np.searchsorted(distinct, t, side="right")]


def brier(
    months: ArrayLike,
    event: ArrayLike,
    survival: ArrayLike,
    at: ArrayLike,
    reference_months: ArrayLike,
    reference_event: ArrayLike,
    weights: Weights = "at",
) -> NDArray[np.float64]:
    """Brier score at each time, weighted for censoring (Graf 1999); 0.25 is a coin, smaller is better.

    Parameters
    ----------
    survival : (n, n_times) predicted P(alive at the times).
    """
    times, events = _times_events(months, event)
    horizons = np.atleast_1d(np.asarray(at, np.float64))
    predicted = np.asarray(survival, np.float64)
    if predicted.shape != (len(times), len(horizons)):
        raise ValueError(
            f"survival {predicted.shape} does not belong to {len(times)} patients and {len(horizons)} times"
        )
    at_own = censoring_survival(reference_months, reference_event, weights)(times)
    at_horizon = censoring_survival(reference_months, reference_event)(horizons)
    result = np.full(len(horizons), np.nan)
    for k, horizon in enumerate(horizons):
        dead, alive = events & (times <= horizon), times > horizon
        if (dead.any() and (at_own[dead] <= 0).any()) or at_horizon[k] <= 0:
            continue
        own = np.where(at_own > 0, at_own, 1.0)
        score = np.where(dead, predicted[:, k] ** 2 / own, 0) + np.where(
            alive, (1 - predicted[:, k]) ** 2 / at_horizon[k], 0
        )
        result[k] = score.mean()
    return result


def integrated_brier(
    months: ArrayLike,
    event: ArrayLike,
    survival: ArrayLike,
    at: ArrayLike,
    reference_months: ArrayLike,
    reference_event: ArrayLike,
    weights: Weights = "at",
) -> float:
    """Brier score averaged over the times (trapezoids)."""
    horizons = np.atleast_1d(np.asarray(at, np.float64))
    if len(horizons) < 2:
        raise ValueError("an integral needs at least two times")
    scores = brier(months, event, survival, horizons, reference_months, reference_event, weights)
    return float(np.trapezoid(scores, horizons) / (horizons[-1] - horizons[0]))


def why_not(
    months: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike | None = None,
    at: float | None = None,
    reference_months: ArrayLike | None = None,
    reference_event: ArrayLike | None = None,
    weights: Weights = "before",
) -> str | None:
    """Return why a measure of these patients is NaN, in a sentence; None where it is a number.

    Parameters
    ----------
    at : months of AUC(t) or the Brier score, or tau of Uno's C; None for Harrell's C.
    reference_months, reference_event : for measures with censoring weights.
    """
    times, events = _times_events(months, event)
    if risk is not None and np.isnan(np.asarray(risk, np.float64)).any():
        return "The model gives no risk for some patients"
    if not events.any():
        return "No patient died"
    early = events if at is None else events & (times <= at)
    if not early.any():
        return f"Nobody died within {at:g} months"
    if at is None:
        longest = times.max()
        if times[events].min() == longest and (events | (times < longest)).all():
            return "No patient was followed longer than the first death"
    elif not (times > at).any():
        return f"Nobody was followed longer than {at:g} months"
    if reference_months is not None and reference_event is not None:
        g = censoring_survival(reference_months, reference_event, weights)(times)
        if (g[early] <= 0).any():
            first = float(times[early & (g <= 0)].min())
            return (
                f"Some died after {first:g} months, when none of the reference patients was followed any more"
            )
    return None
