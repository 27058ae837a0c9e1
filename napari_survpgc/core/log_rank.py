"""Do groups of patients differ in survival? Log-rank tests, also where the plain one would lie.

The plain test assumes that the groups do not depend on the outcome. Two ways to break that, both common here:

* Groups by cross-validated risks. Each fold's model has learned from the other folds' outcomes, so that the folds'
  statistics agree with each other by chance: on noise, p < .05 in 10 to 15 % (:func:`cross_validated_log_rank`).
* A threshold that was moved until the curves part: p < .05 in 35 % (:func:`selected_cut`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALL_GROUP = 20
"""Below this size the log-rank test's asymptotics do not hold; a permutation p is given instead."""
_PERMUTATIONS = 2000
_SHARED_BY_TWO = 2 / math.pi
"""Squared correlation of a normal score with the halves above and below its median."""
_SHARED_BY_MORE = 0.793
"""The same of thirds scored -1, 0, 1; more groups tend to 1."""
_CUTS_TRIED = {1: 500, 2: 24}  # thresholds -> values that each may take in the search
_CHUNK = 250


@dataclass(frozen=True)
class LogRank:
    """Do the groups differ?

    Attributes
    ----------
    p : None when there is no test; ``reason`` then says why.
    method : "log-rank", with what was done to it.   sizes : group -> number of patients.
    inflation : by how much cross-validation widens the variance of the statistic (1: not at all).
    """

    p: float | None
    method: str
    sizes: Mapping[str, int]
    reason: str | None = None
    inflation: float = 1.0


def log_rank(
    months: ArrayLike, event: ArrayLike, group: ArrayLike, *, permutations: int = _PERMUTATIONS, seed: int = 0
) -> LogRank:
    """Compare the survival of groups; below SMALL_GROUP patients in a group by permutation."""
    from lifelines.statistics import multivariate_logrank_test

    times, events, groups, sizes, reason = _checked(months, event, group)
    if reason:
        return LogRank(None, "log-rank", sizes, reason)
    observed = multivariate_logrank_test(times, groups, events)
    if min(sizes.values()) >= SMALL_GROUP:
        return LogRank(float(observed.p_value), "log-rank", sizes)
    members = groups[:, None] == np.unique(groups)[None, :]
    statistic = LogRankStatistic(times, events)
    rng = np.random.default_rng(seed)
    least = statistic(members) - 1e-9
    beyond = sum(statistic(rng.permutation(members)) >= least for _ in range(permutations))
    return LogRank((beyond + 1) / (permutations + 1), "log-rank, permutation", sizes)


def cross_validated_log_rank(
    months: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    fold: ArrayLike,
    n_train: Mapping[int, int],
    *,
    permutations: int = _PERMUTATIONS,
    seed: int = 0,
) -> LogRank:
    """Compare groups by cross-validated risks: log-rank stratified by fold, its variance corrected.

    Parameters
    ----------
    group : (n,) of the test patients of all folds, cut by what the training fold says, e.g. its median.
    fold : (n,) number of the fold that tested a patient.   n_train : fold -> patients its model learned from.

    Notes
    -----
    Patients i and j of two folds have each helped to train the model that places the other: when they are alike and
    both die early, both land in the high group. A score sum_j K(i, j) r_j of residuals r therefore makes the statistics
    of two folds correlate by q sqrt(m_k m_l / (n_k n_l)), m test and n training patients; q = 1 for the score itself
    (the n_test / n_all of Nadeau & Bengio 2003), 2 / pi for its halves. With k complete folds the variance is 1 + 2 / pi
    times that of the plain test, whatever k. Checked on noise by ``tests/benchmarks/null_tests.py``: ridge and kernel
    models, 1 to 200 covariates, n = 120 and 350. The correction does not know the model and is no permutation of the
    training itself.
    """
    from scipy.stats import chi2

    times, events, groups, sizes, reason = _checked(months, event, group)
    folds = np.asarray(fold)
    method = "log-rank by fold, corrected for cross-validation"
    if reason:
        return LogRank(None, method, sizes, reason)
    members = groups[:, None] == np.unique(groups)[None, :]
    strata = [np.flatnonzero(folds == number) for number in np.unique(folds)]
    statistics = [LogRankStatistic(times[part], events[part]) for part in strata]
    weights = np.array([s.total(members[part]) for s, part in zip(statistics, strata, strict=True)])
    if weights.sum() <= 0:
        return LogRank(None, method, sizes, "No fold has deaths with both groups at risk")
    shared = _SHARED_BY_TWO if members.shape[1] == 2 else _SHARED_BY_MORE
    factor = variance_inflation(np.unique(folds), [len(part) for part in strata], weights, n_train, shared)
    observed = _stratified(statistics, strata, members) / factor
    if min(sizes.values()) >= SMALL_GROUP:
        return LogRank(float(chi2.sf(observed, members.shape[1] - 1)), method, sizes, inflation=factor)
    rng = np.random.default_rng(seed)
    beyond = 0
    for _ in range(permutations):
        for part in strata:
            members[part] = members[rng.permutation(part)]
        beyond += _stratified(statistics, strata, members) >= observed - 1e-9
    p = (beyond + 1) / (permutations + 1)
    return LogRank(p, f"{method}, permutation within folds", sizes, inflation=factor)


@dataclass(frozen=True)
class SelectedCut:
    """A threshold that was searched or dragged.

    Attributes
    ----------
    p : corrected: how often the best cut of risks that know nothing parts the curves as well as this one.
    p_plain : of the log-rank test that takes the cut as given; too small.
    p_best, best : of the best cuts of all, and where they lie.
    """

    p: float
    p_plain: float
    p_best: float
    best: tuple[float, ...]


def selected_cut(
    months: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    cuts: Sequence[float],
    *,
    min_share: float = 0.1,
    permutations: int = _PERMUTATIONS,
    seed: int = 0,
) -> SelectedCut | None:
    """Correct the p of one or two thresholds for all those that might have been chosen.

    Maximally selected rank statistics (Lausen & Schumacher 1992; Hothorn & Lausen 2003) of log-rank scores, their
    distribution by permutation, which knows about ties and correlated cuts; 20 ms at 350 patients.

    Parameters
    ----------
    cuts : one or two risks; a risk on a cut belongs below it.
    min_share : smaller groups are not searched; where ``cuts`` make one, the search is widened to it.

    Returns
    -------
    None where the cuts leave a group empty or nobody died: there is no test.
    """
    times, events, risks = np.asarray(months, float), np.asarray(event, int), np.asarray(risk, float)
    if len(cuts) not in (1, 2):
        raise ValueError(f"give one or two cut points, not {len(cuts)}")
    n = len(risks)
    scores = log_rank_scores(times, events)
    order = np.argsort(risks, kind="stable")
    ordered = risks[order]
    chosen = np.searchsorted(ordered, np.sort(np.asarray(cuts, float)), side="right")
    sizes = np.diff([0, *chosen, n])
    spread = float(scores @ scores) / (n - 1) if n > 1 else 0.0
    if sizes.min() == 0 or spread <= 0:
        return None
    least = max(1, min(math.ceil(min_share * n), int(sizes.min())))
    ends = np.flatnonzero(np.diff(ordered) > 0) + 1  # between two different risks
    ends = ends[(ends >= least) & (ends <= n - least)]
    most = _CUTS_TRIED[len(cuts)]
    if len(ends) > most:
        ends = ends[np.linspace(0, len(ends) - 1, most).round().astype(int)]
    tried = [
        c for c in itertools.combinations(ends.tolist(), len(cuts)) if np.diff([0, *c, n]).min() >= least
    ]
    tried = list(dict.fromkeys([tuple(int(c) for c in chosen), *tried]))
    places = np.array(tried)
    rng = np.random.default_rng(seed)
    null = np.concatenate(
        [
            _statistics(
                rng.permuted(np.tile(scores, (min(_CHUNK, permutations - start), 1)), axis=1), places, spread
            ).max(1)
            for start in range(0, permutations, _CHUNK)
        ]
    )
    all_of_them = _statistics(scores[order][None], places, spread)[0]
    at = int(np.argmax(all_of_them))
    corrected = [
        (int((null >= q - 1e-9).sum()) + 1) / (permutations + 1) for q in (all_of_them[0], all_of_them[at])
    ]
    from scipy.stats import chi2

    best = tuple(float((ordered[c - 1] + ordered[c]) / 2) for c in tried[at])
    return SelectedCut(corrected[0], float(chi2.sf(all_of_them[0], len(cuts))), corrected[1], best)


def log_rank_scores(months: ArrayLike, event: ArrayLike) -> NDArray[np.float64]:
    """Return (n,) event minus the Nelson-Aalen hazard up to one's own time; they add up to 0."""
    times, events = np.asarray(months, float), np.asarray(event, int)
    distinct, which = np.unique(times, return_inverse=True)
    died = np.bincount(which[events == 1], minlength=len(distinct))
    at_risk = len(times) - np.concatenate([[0], np.cumsum(np.bincount(which))[:-1]])
    scores: NDArray[np.float64] = events - np.cumsum(died / at_risk)[which]
    return scores


def _statistics(scores: NDArray[np.float64], places: NDArray[np.int64], spread: float) -> NDArray[np.float64]:
    """Return (b, n_cuts) chi-squares of (b, n) scores in the order of risk: sum over groups of S_g^2 / n_g / variance."""
    n = scores.shape[1]
    sums = np.concatenate([np.zeros((len(scores), 1)), np.cumsum(scores, 1)], 1)
    bounds = np.concatenate([np.zeros((len(places), 1), int), places, np.full((len(places), 1), n)], 1)
    found: NDArray[np.float64] = np.zeros((len(scores), len(places)))
    for g in range(bounds.shape[1] - 1):
        start, end = bounds[:, g], bounds[:, g + 1]
        found += (sums[:, end] - sums[:, start]) ** 2 / (end - start)
    return found / spread


@dataclass(frozen=True)
class Pair:
    """Two of several groups.   p : adjusted by Holm.   p_plain : not adjusted."""

    a: str
    b: str
    p: float | None
    p_plain: float | None


def pairwise(
    months: ArrayLike, event: ArrayLike, group: ArrayLike, order: Sequence[str] | None = None
) -> tuple[Pair, ...]:
    """Compare every two groups, p adjusted by Holm (1979).

    Parameters
    ----------
    order : of the groups, e.g. ("low", "intermediate", "high"); alphabetical by default.
    """
    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    here = [str(g) for g in np.unique(groups)]
    names = [g for g in order if g in here] if order is not None else here
    pairs = list(itertools.combinations(names, 2))
    plain = []
    for a, b in pairs:
        part = (groups == a) | (groups == b)
        plain.append(log_rank(times[part], events[part], groups[part]).p)
    adjusted = holm(plain)
    return tuple(Pair(a, b, p, q) for (a, b), p, q in zip(pairs, adjusted, plain, strict=True))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values by Holm's step-down; None (no test) stays and is not counted."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = largest
    return adjusted


class LogRankStatistic:
    """The log-rank chi-square of any number of groups, quick enough for thousands of permutations.

    The same number as lifelines' multivariate_logrank_test, which takes 20 ms a call.
    """

    def __init__(self, times: NDArray[np.float64], events: NDArray[np.int64]) -> None:
        deaths = np.unique(times[events == 1])
        self._at_risk = (times[None, :] >= deaths[:, None]).astype(np.float64)
        self._died = ((times[None, :] == deaths[:, None]) & (events == 1)).astype(np.float64)
        self._n, self._d = self._at_risk.sum(1), self._died.sum(1)
        # Hypergeometric variance; nothing varies where one patient is left.
        spread = np.where(self._n > 1, (self._n - self._d) / np.maximum(self._n - 1, 1), 0.0)
        self._weight = self._d * spread

    def parts(self, members: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return observed minus expected deaths (k - 1,) and their covariance, for (n, k) membership."""
        group = members.astype(np.float64)
        share = (self._at_risk @ group) / self._n[:, None]
        difference = (self._died @ group - self._d[:, None] * share).sum(0)
        variance = np.diag((self._weight[:, None] * share).sum(0)) - (share * self._weight[:, None]).T @ share
        return difference[:-1], variance[:-1, :-1]

    def total(self, members: NDArray[np.bool_]) -> float:
        """Return the trace of the covariance: what a stratum weighs."""
        return float(np.trace(self.parts(members)[1]))

    def __call__(self, members: NDArray[np.bool_]) -> float:
        """Return the statistic for (n, k) membership."""
        difference, variance = self.parts(members)
        return float(difference @ np.linalg.pinv(variance) @ difference)


def _stratified(
    statistics: Sequence[LogRankStatistic],
    strata: Sequence[NDArray[np.int64]],
    members: NDArray[np.bool_],
) -> float:
    parts = [s.parts(members[part]) for s, part in zip(statistics, strata, strict=True)]
    difference = np.sum([d for d, _ in parts], axis=0)
    variance = np.sum([v for _, v in parts], axis=0)
    return float(difference @ np.linalg.pinv(variance) @ difference)


def variance_inflation(
    folds: ArrayLike,
    n_test: Sequence[int],
    weights: ArrayLike,
    n_train: Mapping[int, int],
    shared: float = 1.0,
) -> float:
    """Return the variance of a sum over folds by that of independent ones, see :func:`cross_validated_log_rank`.

    Parameters
    ----------
    folds, n_test, weights : of each fold: number, test patients, variance of its statistic (or deaths).
    shared : q; 1 for the score itself (complete folds: 2.0; checked on noise: p < .05 in 2 to 5 % instead of 13 to 17).
    """
    share = np.array([m / max(1, n_train[int(f)]) for f, m in zip(np.asarray(folds), n_test, strict=True)])
    own = np.asarray(weights, np.float64)
    root = np.sqrt(own * share)
    return float(1 + shared * (root.sum() ** 2 - (root**2).sum()) / own.sum())


def _checked(
    months: ArrayLike, event: ArrayLike, group: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_], dict[str, int], str | None]:
    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    names, counts = np.unique(groups, return_counts=True)
    sizes = {str(n): int(c) for n, c in zip(names, counts, strict=True)}
    reason = None
    if len(names) < 2:
        reason = "All patients are in one group"
    elif events.sum() == 0:
        reason = "No patient died"
    return times, events, groups, sizes, reason
