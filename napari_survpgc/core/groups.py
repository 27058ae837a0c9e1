"""Risk groups, Kaplan-Meier curves, log-rank: what stands behind 'high risk'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALL_GROUP = 20
"""Below this size the log-rank test's asymptotics do not hold; a permutation p is given instead."""


def risk_percentile(risk: float, reference: ArrayLike) -> float:
    """Return the share (0-100) of reference patients with a smaller risk; ties count one half."""
    values = np.asarray(reference, np.float64)
    if len(values) == 0:
        raise ValueError("there are no reference patients")
    return float(100 * ((values < risk).mean() + 0.5 * (values == risk).mean()))


def risk_groups(risks: ArrayLike, cuts: Sequence[float]) -> NDArray[np.str_]:
    """Return "low", ("intermediate",) "high" for one or two cut points; a risk on a cut belongs below it."""
    names = {1: ("low", "high"), 2: ("low", "intermediate", "high")}.get(len(cuts))
    if names is None:
        raise ValueError(f"give one or two cut points, not {len(cuts)}")
    return np.array(names)[np.searchsorted(np.asarray(cuts), np.asarray(risks, np.float64), side="left")]


@dataclass(frozen=True)
class KaplanMeier:
    """A survival curve.

    Attributes
    ----------
    months, survival, lower, upper : steps, starting at (0, 1); 95 % band.
    """

    months: NDArray[np.float64]
    survival: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def kaplan_meier(months: ArrayLike, event: ArrayLike) -> KaplanMeier:
    """Estimate the survival of a group (lifelines)."""
    from lifelines import KaplanMeierFitter

    fitter = KaplanMeierFitter().fit(np.asarray(months, float), np.asarray(event, int))
    curve = fitter.survival_function_.iloc[:, 0]
    band = fitter.confidence_interval_survival_function_
    return KaplanMeier(
        curve.index.to_numpy(float), curve.to_numpy(), band.iloc[:, 0].to_numpy(), band.iloc[:, 1].to_numpy()
    )


def numbers_at_risk(months: ArrayLike, at: ArrayLike) -> NDArray[np.int64]:
    """Return how many patients were still followed just before each time."""
    times = np.asarray(months, np.float64)
    return (times[None, :] >= np.asarray(at, np.float64)[:, None]).sum(1)


@dataclass(frozen=True)
class LogRank:
    """Do the groups differ?

    Attributes
    ----------
    p : None when there is no test; ``reason`` then says why.
    method : "log-rank" or "log-rank, permutation".   sizes : group -> number of patients.
    """

    p: float | None
    method: str
    sizes: Mapping[str, int]
    reason: str | None = None


def log_rank(
    months: ArrayLike, event: ArrayLike, group: ArrayLike, *, permutations: int = 2000, seed: int = 0
) -> LogRank:
    """Compare the survival of groups; below SMALL_GROUP patients in a group by permutation."""
    from lifelines.statistics import multivariate_logrank_test

    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    names, counts = np.unique(groups, return_counts=True)
    sizes = {str(n): int(c) for n, c in zip(names, counts, strict=True)}
    if len(names) < 2:
        return LogRank(None, "log-rank", sizes, "All patients are in one group")
    if events.sum() == 0:
        return LogRank(None, "log-rank", sizes, "No patient died")
    observed = multivariate_logrank_test(times, groups, events)
    if counts.min() >= SMALL_GROUP:
        return LogRank(float(observed.p_value), "log-rank", sizes)
    rng = np.random.default_rng(seed)
    statistic = _log_rank_statistic(times, events, groups == names[0]) if len(names) == 2 else None
    beyond = 0
    for _ in range(permutations):
        shuffled = rng.permutation(groups)
        if statistic is not None:
            value = _log_rank_statistic(times, events, shuffled == names[0])
            beyond += value >= statistic - 1e-12
        else:
            value = multivariate_logrank_test(times, shuffled, events).test_statistic
            beyond += value >= observed.test_statistic - 1e-12
    return LogRank((beyond + 1) / (permutations + 1), "log-rank, permutation", sizes)


def _log_rank_statistic(
    times: NDArray[np.float64], events: NDArray[np.int64], first: NDArray[np.bool_]
) -> float:
    """Two-group log-rank chi-square, vectorized over the times of death."""
    deaths = np.unique(times[events == 1])
    at_risk = (times[None, :] >= deaths[:, None]).sum(1)
    at_risk_first = ((times[None, :] >= deaths[:, None]) & first).sum(1)
    here = (times[None, :] == deaths[:, None]) & (events == 1)
    died, died_first = here.sum(1), (here & first).sum(1)
    expected = died * at_risk_first / at_risk
    variance = np.where(
        at_risk > 1,
        expected * (1 - at_risk_first / at_risk) * (at_risk - died) / np.maximum(at_risk - 1, 1),
        0.0,
    ).sum()
    return float((died_first - expected).sum() ** 2 / variance) if variance > 0 else 0.0
