"""Ridge Cox regression of few covariates, quick enough for an inner cross-validation (lifelines: 0.2 s a fit, this 5 ms)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import CohortError

from .elastic_net import RiskSets

_STEPS = 50
_HALVINGS = 30
_TOLERANCE = 1e-9


def fit_ridge(
    x: NDArray[np.float64], risk_sets: RiskSets, penalty: float, start: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Maximize log likelihood / n - penalty / 2 |b|^2 by Newton's method (ties as Breslow).

    Parameters
    ----------
    x : (n, p).   start : (p,) coefficients to begin with.

    Raises
    ------
    CohortError : it does not converge.
    """
    n, p = x.shape
    beta = np.zeros(p) if start is None else start.copy()

    def objective(b: NDArray[np.float64]) -> float:
        return risk_sets.loss(x @ b) / n + penalty / 2 * float(b @ b)

    value = objective(beta)
    for _ in range(_STEPS):
        gradient, weight = risk_sets.derivatives(x @ beta)
        slope = x.T @ gradient / n - penalty * beta
        hessian = x.T @ (weight[:, None] * x) / n - _means(x, risk_sets, beta) / n + penalty * np.eye(p)
        step = np.linalg.solve(hessian, slope)
        if float(slope @ step) <= _TOLERANCE:
            return beta
        length = 1.0
        for _ in range(_HALVINGS):
            moved = beta + length * step
            new = objective(moved)
            if new <= value - 1e-4 * length * float(slope @ step):
                break
            length /= 2
        beta, value = moved, new
    raise CohortError("The ridge Cox model did not converge", "Set model_config.penalties to larger numbers")


def _means(x: NDArray[np.float64], risk_sets: RiskSets, beta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sum over deaths of m m', m the mean covariates of those at risk, weighted by their hazards."""
    ordered = x[risk_sets.order]
    eta = ordered @ beta
    hazard = np.exp(eta - eta.max())
    total = np.cumsum(hazard)[risk_sets.last]
    mean = np.cumsum(hazard[:, None] * ordered, axis=0)[risk_sets.last] / total[:, None]
    return np.asarray(mean.T @ (risk_sets.event[:, None] * mean))


def held_out_likelihood(
    x: NDArray[np.float64],
    months: NDArray[np.float64],
    event: NDArray[np.int64],
    parts: NDArray[np.int64],
    penalties: Sequence[float],
) -> NDArray[np.float64]:
    """Return (n_penalties,) cross-validated log partial likelihood (Verweij & van Houwelingen 1993), larger is better.

    Of each part: likelihood of everyone less that of those fitted to, by the coefficients of the latter; smoother than the
    C-index of a few dozen patients.
    """
    everyone = RiskSets.of(months, event)
    found = np.zeros(len(penalties))
    for part in np.unique(parts):
        kept = parts != part
        if not event[kept].any():
            continue
        sets = RiskSets.of(months[kept], event[kept])
        beta: NDArray[np.float64] | None = None
        for k in np.argsort(penalties)[::-1]:
            beta = fit_ridge(x[kept], sets, penalties[k], beta)
            found[k] += sets.loss(x[kept] @ beta) - everyone.loss(x @ beta)
    return found
