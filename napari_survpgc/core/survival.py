"""Discrete-time survival: bins, likelihood, and hazard -> survival -> risk.

With logits l, hazards h = sigmoid(l), survival S_k = prod_{j<=k} (1 - h_j), risk = -sum_k S_k (larger is worse).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .errors import CohortError

_CLAMP = 1e-7


def hazards(logits: Tensor) -> Tensor:
    """Return P(event in bin k | alive at its start), (..., n_bins) in (0, 1)."""
    return torch.sigmoid(logits)


def survival(hazards: Tensor) -> Tensor:
    """Return P(alive at the end of bin k), (..., n_bins), non-increasing."""
    return torch.cumprod(1 - hazards, dim=-1)


def risk(survival: Tensor) -> Tensor:
    """Return minus the sum of the survival over bins, in [-n_bins, 0]; larger means earlier death."""
    return -survival.sum(-1)


def nll_loss(
    logits: Tensor, bins: Tensor, event: Tensor, alpha: float = 0.0, reduction: str = "sum"
) -> Tensor:
    """Negative log likelihood of discrete-time survival, as published.

    Parameters
    ----------
    logits : (b, n_bins).   bins : (b,) int, bin of death or censoring.   event : (b,), 1 = death, 0 = censored.
    alpha : loss = uncensored + (1 - alpha) * censored terms: alpha weighs *censored* patients down.
    reduction : "sum" (published), "mean" or "none".

    Notes
    -----
    A dead patient contributes log S(bin - 1) + log h(bin), a censored one log S(bin); each clamped at 1e-7.
    """
    if logits.ndim != 2 or bins.reshape(-1).shape[0] != logits.shape[0]:
        raise ValueError(f"logits {tuple(logits.shape)} and bins {tuple(bins.shape)} do not belong together")
    bins = bins.reshape(-1, 1).long()
    event = event.reshape(-1, 1).to(logits.dtype)
    h = hazards(logits)
    s = survival(h)
    padded = torch.cat([torch.ones_like(s[:, :1]), s], dim=1)
    before, here, after = (
        x.clamp(min=_CLAMP).log()
        for x in (padded.gather(1, bins), h.gather(1, bins), padded.gather(1, bins + 1))
    )
    uncensored = -event * (before + here)
    censored = -(1 - event) * after
    loss = (uncensored + (1 - alpha) * censored).squeeze(1)
    if reduction == "none":
        return loss
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be sum, mean or none, not {reduction}")
    return loss.sum() if reduction == "sum" else loss.mean()


def cosine_loss(a: Tensor, b: Tensor, margin: float = 0.2) -> Tensor:
    """Mean over the batch of max(0, cos(a, b) - margin): pushes the two paths apart (the paper's Eq. 13)."""
    target = -torch.ones(a.shape[0], device=a.device, dtype=a.dtype)
    return torch.nn.functional.cosine_embedding_loss(a, b, target, margin=margin, reduction="mean")


class TimeBins(NamedTuple):
    """Bins of follow-up.

    Attributes
    ----------
    edges : (n_bins + 1,) months; the first is just below the shortest follow-up, the last just above the longest.
    bins : (n,) int, the j with edges[j] <= t < edges[j + 1].
    """

    edges: NDArray[np.float64]
    bins: NDArray[np.int64]

    def assign(self, months: ArrayLike) -> NDArray[np.int64]:
        """Return the bin of other times; those outside the edges belong to the first or last bin."""
        times = np.asarray(months, np.float64)
        return np.clip(np.searchsorted(self.edges, times, side="right") - 1, 0, len(self.edges) - 2)


def cut_bins(months: ArrayLike, event: ArrayLike, n_bins: int = 4, *, drop_ties: bool = False) -> TimeBins:
    """Cut follow-up at the quantiles of the times of death.

    Parameters
    ----------
    months : (n,) follow-up, >= 0.   event : (n,) 1 = death, 0 = censored.
    n_bins : number of bins.
    drop_ties : merge bins whose edges fall together instead of refusing.

    Notes
    -----
    Quantiles are linear between order statistics; the outer edges are (shortest follow-up - 1e-6) and (longest
    + 1e-6) of all patients; bins are closed on the left. Give the patients of the training fold only.

    Raises
    ------
    CohortError : unusable times or events, no death, or equal edges.
    """
    times, events = np.asarray(months, np.float64).ravel(), np.asarray(event, np.float64).ravel()
    if times.shape != events.shape or len(times) == 0:
        raise CohortError(
            f"There are {len(times)} survival times but {len(events)} events",
            "Give one of each for every patient",
        )
    if not np.isfinite(times).all() or (times < 0).any():
        raise CohortError("A survival time is missing or negative", "Correct survival_months in patients.csv")
    if not np.isin(events, (0, 1)).all():
        raise CohortError(
            "An event is neither 0 nor 1", "Correct event in patients.csv (1 = death, 0 = censored)"
        )
    deaths = times[events == 1]
    if len(deaths) == 0:
        raise CohortError(
            "No patient died, so follow-up cannot be cut into bins", "Choose another endpoint or fold"
        )
    edges = np.quantile(deaths, np.linspace(0, 1, n_bins + 1))
    edges[0], edges[-1] = times.min() - 1e-6, times.max() + 1e-6
    if (np.diff(edges) <= 0).any():
        if not drop_ties:
            raise CohortError(
                f"{len(deaths)} deaths are too few or too alike for {n_bins} bins",
                "Use fewer bins or more patients",
            )
        edges = np.unique(edges)
    bins = np.searchsorted(edges, times, side="right") - 1
    return TimeBins(edges, bins.astype(np.int64))
