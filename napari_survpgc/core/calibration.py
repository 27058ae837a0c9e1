"""Are predicted survival probabilities true? Tests of calibration, and a recalibration on held-out predictions.

Patients whose follow-up ended before a horizon count through censoring weights: 1 / G(t) for who lived longer than t, 1 /
G(T-) for who died before, 0 for the others (G: Kaplan-Meier of being uncensored).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from . import documents
from .curves import Estimate, fit_cox, summarize_curve
from .metrics import censoring_survival

_Z = 1.959963984540054
_EDGE = 1e-6
_LEAST_DEATHS = 5
_LEAST_TAUGHT = 20
"""Deaths, and patients followed longer, from which two numbers a time can be learned."""
_STEPS = 50


@dataclass(frozen=True)
class Calibration:
    """Predicted against observed survival at a time.

    Attributes
    ----------
    n, events : patients; deaths up to the time.
    observed_to_expected : deaths by Kaplan-Meier over deaths predicted; 1 is calibrated in the large.
    intercept : log of deaths over the hazards predicted up to death, end of follow-up or the time; 0 is calibrated.
    slope : of log(-log S) in a Cox model; 1 is calibrated, below 1 predictions are too extreme.
    p : of 1-calibration (D'Agostino-Nam, groups of at least 5 deaths).
    """

    months: float
    n: int
    events: int
    observed_to_expected: Estimate
    intercept: Estimate
    slope: Estimate
    p: float


_NONE = Estimate(float("nan"), float("nan"), float("nan"))


def calibration_at(
    months: ArrayLike, event: ArrayLike, survival: ArrayLike, at: float, own_survival: ArrayLike | None = None
) -> Calibration:
    """Test the calibration at a time.

    Parameters
    ----------
    survival : (n,) predicted P(alive at ``at``).
    own_survival : (n,) predicted P(alive) at the earlier of the patient's own time and ``at``, for the intercept.
    """
    times, events = np.asarray(months, np.float64), np.asarray(event) == 1
    predicted = np.clip(np.asarray(survival, np.float64), _EDGE, 1 - _EDGE)
    early = events & (times <= at)
    point = summarize_curve(times, events, at=(at,), tau=max(float(times.max()), 1e-9)).at[0].survival
    expected = float((1 - predicted).mean())
    ratio = Estimate(*((1 - v) / expected for v in (point.value, point.high, point.low)))
    intercept = _NONE
    if own_survival is not None and early.any():
        hazard = float(-np.log(np.clip(np.asarray(own_survival, np.float64), _EDGE, 1)).sum())
        value, se = (
            float(np.log(early.sum() / hazard)) if hazard > 0 else float("nan"),
            1 / np.sqrt(early.sum()),
        )
        intercept = Estimate(value, value - _Z * se, value + _Z * se)
    return Calibration(
        float(at), len(times), int(early.sum()), ratio, intercept, _slope(times, early, predicted, at),
        one_calibration(times, events, predicted, at),
    )  # fmt: skip


def _slope(
    times: NDArray[np.float64], early: NDArray[np.bool_], predicted: NDArray[np.float64], at: float
) -> Estimate:
    lp = np.log(-np.log(predicted))
    if early.sum() < 2 or lp.std() < 1e-9:
        return _NONE
    fit = fit_cox(pd.DataFrame({"lp": lp, "months": np.minimum(times, at), "event": early.astype(int)}))
    if isinstance(fit, str):
        return _NONE
    value, width = float(fit.coefficients[0]), _Z * float(fit.se[0])
    return Estimate(value, value - width, value + width)


def one_calibration(
    months: ArrayLike, event: ArrayLike, survival: ArrayLike, at: float, n_groups: int = 10
) -> float:
    """Return p that predictions at a time are true: groups of similar ones against Kaplan-Meier.

    D'Agostino-Nam (Demler et al. 2015, Stat. Med. 34): groups of fewer than 5 deaths are joined with the next. The variance is
    that of the prediction, mean (1 - mean) / n, with n reduced for censoring by Greenwood's formula: Greenwood's own
    variance, too small where by chance few died, says p < .05 of true predictions in 12 %. Predictions of new patients: as
    many degrees of freedom as groups. NaN where fewer than two groups are left.
    """
    from scipy.stats import chi2

    times, events = np.asarray(months, np.float64), np.asarray(event) == 1
    predicted = np.asarray(survival, np.float64)
    groups: list[NDArray[np.int64]] = []
    open_group = np.zeros(0, np.int64)
    for part in np.array_split(np.argsort(predicted, kind="stable"), min(n_groups, len(times))):
        open_group = np.concatenate([open_group, part])
        if (events & (times <= at))[open_group].sum() >= _LEAST_DEATHS:
            groups.append(open_group)
            open_group = np.zeros(0, np.int64)
    if len(open_group) and groups:
        groups[-1] = np.concatenate([groups[-1], open_group])
    total, count = 0.0, 0
    for group in groups:
        if times[group].max() < at:
            continue
        value, patients = _observed(times[group], events[group], at)
        mean = float(predicted[group].mean())
        total += (value - mean) ** 2 * patients / (mean * (1 - mean))
        count += 1
    return float(chi2.sf(total, count)) if count > 1 else float("nan")


def _observed(times: NDArray[np.float64], events: NDArray[np.bool_], at: float) -> tuple[float, float]:
    """Return Kaplan-Meier at a time, and how many patients without censoring would know it as well."""
    deaths = np.unique(times[events & (times <= at)])
    n = (times[None, :] >= deaths[:, None]).sum(1)
    d = ((times[None, :] == deaths[:, None]) & events).sum(1)
    value = float(np.prod(1 - d / n))
    terms = np.divide(d, n * (n - d), out=np.zeros(len(n)), where=n > d)
    if not 0 < value < 1:
        return value, float(len(times))
    return value, (1 - value) / (value * float(terms.sum()))


def d_calibration(event: ArrayLike, own_survival: ArrayLike, n_bins: int = 10) -> float:
    """Return p that the predicted survival at the patients' own times is uniform (Haider et al. 2020, JMLR 21).

    Parameters
    ----------
    own_survival : (n,) predicted P(alive) at death or end of follow-up; a censored patient counts in all bins below it.
    """
    from scipy.stats import chi2

    events, values = np.asarray(event) == 1, np.clip(np.asarray(own_survival, np.float64), 0, 1)
    edges = np.linspace(0, 1, n_bins + 1)
    place = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, n_bins - 1)
    counts = np.bincount(place[events], minlength=n_bins).astype(np.float64)
    for value, bin_ in zip(values[~events], place[~events], strict=True):
        if value <= _EDGE:
            counts[0] += 1
            continue
        counts[bin_] += (value - edges[bin_]) / value
        counts[:bin_] += (edges[1] - edges[0]) / value
    expected = len(values) / n_bins
    return float(chi2.sf(((counts - expected) ** 2).sum() / expected, n_bins - 1))


def censoring_weights(months: ArrayLike, event: ArrayLike, at: float) -> NDArray[np.float64]:
    """Return (n,) weights of the patients at a time; they add up to about n."""
    times, events = np.asarray(months, np.float64), np.asarray(event) == 1
    before = censoring_survival(times, events, "before")(times)
    here = float(censoring_survival(times, events)(np.array([at]))[0])
    died, alive = events & (times <= at), times > at
    weights = np.zeros(len(times))
    weights[died] = 1 / before[died]
    if here > 0:
        weights[alive] = 1 / here
    return weights


@dataclass(frozen=True)
class Smooth:
    """Observed survival over predicted, smoothed: local lines with tricube weights.

    Attributes
    ----------
    predicted, observed, low, high : (m,).
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def smooth_calibration(
    months: ArrayLike,
    event: ArrayLike,
    survival: ArrayLike,
    at: float,
    *,
    span: float = 0.5,
    points: int = 41,
) -> Smooth | None:
    """Return the lowess curve of a calibration plot with its 95 % interval; None where the predictions do not vary.

    Parameters
    ----------
    span : share of the patients that a local line is fitted to.
    """
    predicted, times = np.asarray(survival, np.float64), np.asarray(months, np.float64)
    weight = censoring_weights(times, event, at)
    y = (times > at).astype(np.float64)
    used = weight > 0
    x, y, weight = predicted[used], y[used], weight[used]
    if len(x) < 10 or np.ptp(x) < 1e-6:
        return None
    first, last = (float(q) for q in np.quantile(x, [0.02, 0.98]))
    grid = np.linspace(first, last, points)
    count = max(5, round(span * len(x)))
    rows = []
    for place in grid:
        distance = np.abs(x - place)
        reach = max(float(np.partition(distance, count - 1)[count - 1]), 1e-9)
        local = weight * np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
        design = np.column_stack([np.ones(len(x)), x - place])
        influence = np.linalg.pinv(design.T @ (local[:, None] * design))[0] @ (design * local[:, None]).T
        value = float(influence @ y)
        se = float(np.sqrt(((influence * (y - design @ _line(design, local, y))) ** 2).sum()))
        rows.append((value, value - _Z * se, value + _Z * se))
    observed, low, high = np.clip(np.array(rows), 0, 1).T
    return Smooth(grid, observed, low, high)


def _line(
    design: NDArray[np.float64], weight: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.linalg.pinv(design.T @ (weight[:, None] * design)) @ (
        design.T @ (weight * y)
    )
    return found


METHODS = ("logistic", "isotonic")


@dataclass(frozen=True)
class RecalibrationAt:
    """From predicted to true survival at a time: straight between the knots, flat outside them.

    Attributes
    ----------
    predicted, survival : (k,) rising, each in [0, 1].   n, events : patients that it was fitted to, deaths up to the time.
    """

    months: float
    predicted: tuple[float, ...]
    survival: tuple[float, ...]
    n: int
    events: int

    def __post_init__(self) -> None:
        x, y = np.asarray(self.predicted), np.asarray(self.survival)
        fine = len(x) == len(y) > 0 and np.isfinite(x).all() and np.isfinite(y).all()
        if (
            not fine
            or (np.diff(x) <= 0).any()
            or (np.diff(y) < 0).any()
            or min(x[0], y[0]) < 0
            or max(x[-1], y[-1]) > 1
        ):
            raise ValueError("a recalibration does not rise from 0 to 1")


@dataclass(frozen=True)
class Recalibration:
    """What makes the survival of a model true at some times, learned from its held-out predictions.

    Attributes
    ----------
    method : one of METHODS.   at : by rising months.
    brier_before, brier_after : at each of the times, on patients that the recalibration had not seen (nested by fold).
    """

    method: str
    at: tuple[RecalibrationAt, ...]
    brier_before: tuple[float | None, ...] = ()
    brier_after: tuple[float | None, ...] = ()
    format: int = 1

    def __post_init__(self) -> None:
        if not self.at or (np.diff([one.months for one in self.at]) <= 0).any() or self.at[0].months <= 0:
            raise ValueError("a recalibration has no rising times")

    @property
    def months(self) -> tuple[float, ...]:
        return tuple(one.months for one in self.at)


def fit_recalibration(
    months: ArrayLike, event: ArrayLike, survival: ArrayLike, at: Sequence[float], method: str = "logistic"
) -> Recalibration | None:
    """Learn it from held-out predictions.

    Parameters
    ----------
    survival : (n, n_times) predicted P(alive at the times ``at``).
    method : "logistic" (Platt: two numbers a time) or "isotonic" (any rising curve; for many hundred patients).

    Returns
    -------
    None where at no time at least 20 patients had died and 20 were followed longer; such times are left out.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method}")
    times, events = np.asarray(months, np.float64), np.asarray(event) == 1
    predicted = np.asarray(survival, np.float64)
    found = []
    for k, horizon in enumerate(at):
        early, longer = events & (times <= horizon), times > horizon
        if early.sum() < _LEAST_TAUGHT or longer.sum() < _LEAST_TAUGHT:
            continue
        weight = censoring_weights(times, events, horizon)
        used = weight > 0
        fit = _isotonic if method == "isotonic" else _logistic
        x, y = fit(np.clip(predicted[used, k], 0, 1), longer[used].astype(float), weight[used])
        found.append(
            RecalibrationAt(
                float(horizon), tuple(x.tolist()), tuple(y.tolist()), len(times), int(early.sum())
            )
        )
    return Recalibration(method, tuple(found)) if found else None


def recalibrated(recalibration: Recalibration, survival: ArrayLike) -> NDArray[np.float64]:
    """Return true survival for predicted survival.

    Parameters
    ----------
    survival : (..., n_times) predicted P(alive) at ``recalibration.months``.

    Returns
    -------
    The same shape; what would rise from one time to the next stays instead.
    """
    predicted = np.asarray(survival, np.float64)
    if predicted.shape[-1] != len(recalibration.at):
        raise ValueError(f"give the survival at {recalibration.months}")
    columns = [
        np.interp(predicted[..., k], one.predicted, one.survival) for k, one in enumerate(recalibration.at)
    ]
    return np.minimum.accumulate(np.stack(columns, axis=-1), axis=-1)


def parse_recalibration(raw: bytes) -> Recalibration:
    """Read what :func:`documents.dump` wrote; ValueError says what is wrong with it."""
    found = documents.structure(documents.parse(raw), Recalibration)
    if found.format != 1:
        raise ValueError(f"it has format {found.format}; this program reads format 1")
    return found


def _isotonic(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y, sample_weight=weight)
    return np.asarray(fit.X_thresholds_, np.float64), np.asarray(fit.y_thresholds_, np.float64)


def _logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted logistic regression on the logit of the prediction, as knots; a falling line becomes flat."""

    def logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
        inner = np.clip(p, 1e-4, 1 - 1e-4)
        return np.asarray(np.log(inner / (1 - inner)))

    from sklearn.linear_model import LogisticRegression

    grid = np.linspace(0, 1, 101)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of separation, against which the weak ridge (C) stands
        fit = LogisticRegression(C=1e3, max_iter=_STEPS * 10).fit(logit(x)[:, None], y, sample_weight=weight)
        if fit.coef_[0, 0] <= 0:
            return grid, np.full(101, float(weight @ y / weight.sum()))
        curve = fit.predict_proba(logit(grid)[:, None])[:, 1]
    return grid, np.maximum.accumulate(curve)
