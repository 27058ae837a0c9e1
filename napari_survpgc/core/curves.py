"""What a reader takes from Kaplan-Meier curves: medians, survival at a time, restricted means, hazard ratios, counts.

Intervals are 95 %. As in R's survival: Greenwood's variance, bands on the log(-log) scale, medians where the curve and its
band cross one half (the middle of a stretch that lies on it, where lifelines takes its start), Cox with Efron's ties.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

_Z = 1.959963984540054
_TIGHT = {"step_size": 1.0, "precision": 1e-12, "r_precision": 1e-15}
"""lifelines stops by default where a coefficient may still be 3e-6 from R's."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; NaN where it cannot be estimated (a median that is not reached)."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """Return "1.52 (1.10 to 2.08)"; what is not reached is said."""
        if not math.isfinite(self.value):
            return "not reached"
        ends = [f"{v:.{digits}f}" if math.isfinite(v) else "not reached" for v in (self.low, self.high)]
        return f"{self.value:.{digits}f} ({ends[0]} to {ends[1]})"


@dataclass(frozen=True)
class AtTime:
    """A curve at a time.

    Attributes
    ----------
    survival : P(alive), NaN beyond the follow-up of the group.   at_risk : followed to just before the time.
    events : deaths up to it.
    """

    months: float
    survival: Estimate
    at_risk: int
    events: int


@dataclass(frozen=True)
class CurveSummary:
    """A group of patients.

    Attributes
    ----------
    median : months.   rmst : months lived on average up to ``tau`` months.
    """

    group: str
    n: int
    events: int
    median: Estimate
    at: tuple[AtTime, ...]
    rmst: Estimate
    tau: float


@dataclass(frozen=True)
class Effect:
    """How two groups differ.

    Attributes
    ----------
    estimate : hazard ratio, or difference in months.   p : two-sided (Wald).
    reason : why there is no number.
    """

    estimate: Estimate
    p: float
    reason: str | None = None


@dataclass(frozen=True)
class _Curve:
    """Kaplan-Meier at the distinct times: survival, at risk, deaths, Greenwood's sum."""

    times: NDArray[np.float64]
    survival: NDArray[np.float64]
    at_risk: NDArray[np.int64]
    died: NDArray[np.int64]
    greenwood: NDArray[np.float64]

    @classmethod
    def of(cls, months: ArrayLike, event: ArrayLike) -> _Curve:
        times, events = np.asarray(months, np.float64), np.asarray(event) == 1
        distinct, which = np.unique(times, return_inverse=True)
        died = np.bincount(which[events], minlength=len(distinct))
        at_risk = len(times) - np.searchsorted(np.sort(times), distinct, side="left")
        left = at_risk - died
        terms = np.divide(died, at_risk * left, out=np.full(len(distinct), np.inf), where=left > 0)
        terms[died == 0] = 0.0
        return cls(
            distinct, np.cumprod(1 - died / at_risk, dtype=np.float64), at_risk, died, np.cumsum(terms)
        )

    def band(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the log(-log) band; NaN at survival 0, S itself where it is 1."""
        inner = (self.survival > 0) & (self.survival < 1)
        log = np.log(np.where(inner, self.survival, 0.5))
        width = _Z * np.sqrt(np.where(inner, self.greenwood, 0)) / np.abs(log)
        low = np.where(inner, np.exp(log * np.exp(width)), np.where(self.survival == 1, 1.0, np.nan))
        high = np.where(inner, np.exp(log * np.exp(-width)), np.where(self.survival == 1, 1.0, np.nan))
        return low, high

    def crossing(self, curve: NDArray[np.float64], level: float = 0.5) -> float:
        """Return the first time at which a falling curve is at or below a level, the middle of a stretch on it."""
        below = np.flatnonzero(curve <= level + 1e-12)
        if len(below) == 0:
            return float("nan")
        first = int(below[0])
        if abs(curve[first] - level) <= 1e-12:
            lower = np.flatnonzero(curve < level - 1e-12)
            if len(lower):
                return float((self.times[first] + self.times[lower[0]]) / 2)
        return float(self.times[first])


def summarize_curve(
    months: ArrayLike,
    event: ArrayLike,
    *,
    at: Sequence[float] = (12.0, 36.0, 60.0),
    tau: float | None = None,
    name: str = "",
) -> CurveSummary:
    """Return the numbers beside a curve.

    Parameters
    ----------
    at : months of survival and counts.   tau : months; end of the restricted mean, the longest follow-up by default.
    """
    times = np.asarray(months, np.float64)
    curve = _Curve.of(months, event)
    low, high = curve.band()
    limit = float(times.max()) if tau is None else float(tau)
    mean, se = restricted_mean(months, event, limit)
    points = []
    for horizon in at:
        place = int(np.searchsorted(curve.times, horizon, side="right")) - 1
        values = Estimate(1.0, 1.0, 1.0)
        if horizon > times.max():
            values = Estimate(float("nan"), float("nan"), float("nan"))
        elif place >= 0:
            values = Estimate(float(curve.survival[place]), float(low[place]), float(high[place]))
        points.append(
            AtTime(float(horizon), values, int((times >= horizon).sum()), int(curve.died[: place + 1].sum()))
        )
    median = Estimate(*(curve.crossing(c) for c in (curve.survival, low, high)))
    return CurveSummary(
        name,
        len(times),
        int(curve.died.sum()),
        median,
        tuple(points),
        Estimate(mean, mean - _Z * se, mean + _Z * se),
        limit,
    )


def summarize_groups(
    months: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    order: Sequence[str],
    *,
    at: Sequence[float] = (12.0, 36.0, 60.0),
    tau: float | None = None,
) -> tuple[CurveSummary, ...]:
    """Return :func:`summarize_curve` of each group that has patients; tau is the shortest of their longest follow-ups."""
    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    names = [name for name in order if (groups == name).any()]
    limit = shared_tau(times, groups) if tau is None else tau
    return tuple(
        summarize_curve(times[groups == n], events[groups == n], at=at, tau=limit, name=n) for n in names
    )


def shared_tau(months: ArrayLike, group: ArrayLike) -> float:
    """Return the shortest of the groups' longest follow-ups: restricted means are compared up to there."""
    times, groups = np.asarray(months, float), np.asarray(group)
    return float(min(times[groups == g].max() for g in np.unique(groups)))


def restricted_mean(months: ArrayLike, event: ArrayLike, tau: float) -> tuple[float, float]:
    """Return the months lived on average up to ``tau``, and its standard error.

    Raises
    ------
    ValueError : tau is not above 0.
    """
    if not tau > 0:
        raise ValueError("tau must be months above 0")
    curve = _Curve.of(months, event)
    inside = curve.times < tau
    grid = np.concatenate([[0.0], curve.times[inside], [tau]])
    steps = np.concatenate([[1.0], curve.survival[inside]])
    area = steps * np.diff(grid)
    left = np.cumsum(area[::-1])[::-1][1:]  # area from each time of death to tau
    n, d = curve.at_risk[inside], curve.died[inside]
    terms = np.divide(d, n * (n - d), out=np.zeros(len(n)), where=(n > d))
    return float(area.sum()), float(np.sqrt((left**2 * terms).sum()))


def rmst_difference(
    months: ArrayLike, event: ArrayLike, group: ArrayLike, a: str, b: str, tau: float | None = None
) -> Effect:
    """Return how many months fewer (negative) group ``a`` lives than ``b`` up to tau."""
    from scipy.stats import norm

    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    both = (groups == a) | (groups == b)
    if not ((groups == a).any() and (groups == b).any()):
        return Effect(_NONE, float("nan"), "A group has no patient")
    limit = shared_tau(times[both], groups[both]) if tau is None else tau
    (mean_a, se_a), (mean_b, se_b) = (
        restricted_mean(times[groups == g], events[groups == g], limit) for g in (a, b)
    )
    difference, se = mean_a - mean_b, math.hypot(se_a, se_b)
    if se == 0:
        return Effect(Estimate(difference, difference, difference), float("nan"), "Nobody died before tau")
    p = float(2 * norm.sf(abs(difference) / se))
    return Effect(Estimate(difference, difference - _Z * se, difference + _Z * se), p)


_NONE = Estimate(float("nan"), float("nan"), float("nan"))


def hazard_ratio(
    months: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    a: str,
    b: str,
    *,
    strata: ArrayLike | None = None,
    inflation: float = 1.0,
) -> Effect:
    """Return the hazard of group ``a`` over that of ``b`` (Cox, Efron's ties).

    Parameters
    ----------
    strata : (n,), e.g. the fold that tested a patient.
    inflation : of the variance, from :func:`.log_rank.cross_validated_log_rank`; 1 for groups that no outcome made.
    """
    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    both = (groups == a) | (groups == b)
    table = pd.DataFrame({"x": (groups == a).astype(float), "months": times, "event": events})[both]
    deaths = table.groupby("x")["event"].sum()
    if len(deaths) < 2:
        return Effect(_NONE, float("nan"), "A group has no patient")
    if deaths.min() == 0:
        return Effect(_NONE, float("nan"), "Nobody of a group died, so there is no hazard ratio")
    if strata is not None:
        table["strata"] = np.asarray(strata)[both]
    fit = fit_cox(table, strata="strata" if strata is not None else None)
    if isinstance(fit, str):
        return Effect(_NONE, float("nan"), fit)
    from scipy.stats import norm

    beta, se = float(fit.coefficients[0]), float(fit.se[0]) * math.sqrt(inflation)
    ends = [math.exp(beta + sign * _Z * se) for sign in (-1, 1)]
    return Effect(Estimate(math.exp(beta), ends[0], ends[1]), float(2 * norm.sf(abs(beta) / se)))


@dataclass(frozen=True)
class CoxFit:
    """A Cox regression without penalty.

    Attributes
    ----------
    names, coefficients, se : (p,).   log_likelihood : partial, at the coefficients.
    """

    names: tuple[str, ...]
    coefficients: NDArray[np.float64]
    se: NDArray[np.float64]
    log_likelihood: float


def fit_cox(table: pd.DataFrame, *, strata: str | None = None) -> CoxFit | str:
    """Fit the columns beside "months" and "event" (lifelines); where that fails, return the reason in a sentence."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of separation: the interval, or its being infinite, says it
            fit = CoxPHFitter().fit(table, "months", "event", strata=strata, fit_options=_TIGHT)
    except (ConvergenceError, ValueError, np.linalg.LinAlgError) as error:
        return f"The Cox model did not converge ({str(error).splitlines()[0][:100]})"
    se = fit.standard_errors_.to_numpy(float)
    if not np.isfinite(se).all() or (se > 1e3).any():
        return "The groups are parted completely, so there is no hazard ratio"
    return CoxFit(
        tuple(str(n) for n in fit.params_.index), fit.params_.to_numpy(float), se, float(fit.log_likelihood_)
    )


def censor_ticks(months: ArrayLike, event: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the times at which follow-up ended without a death, and the curve there."""
    times, events = np.asarray(months, np.float64), np.asarray(event) == 1
    curve = _Curve.of(times, events)
    ended = np.unique(times[~events])
    place = np.searchsorted(curve.times, ended, side="right") - 1
    return ended, curve.survival[place]


def cumulative_events(months: ArrayLike, event: ArrayLike, at: ArrayLike) -> NDArray[np.int64]:
    """Return how many patients had died by each time."""
    deaths = np.sort(np.asarray(months, np.float64)[np.asarray(event) == 1])
    return np.searchsorted(deaths, np.asarray(at, np.float64), side="right")
