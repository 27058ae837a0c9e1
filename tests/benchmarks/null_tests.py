"""How often p < .05 on noise: `python -m tests.benchmarks.null_tests [REPEATS]`, by hand; 2 minutes for 2,000 repeats.

The outcome is independent of the covariates; five folds, each predicted by a model of the other four. A test that holds
says p < .05 in 5 +- 1.5 %.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.log_rank import (
    LogRankStatistic,
    cross_validated_log_rank,
    log_rank_scores,
    selected_cut,
)

FOLDS = 5
Floats = NDArray[np.float64]
Model = Callable[[Floats, Floats, Floats], Floats]
CHI2_05 = 3.841458820694124


def ridge(penalty: float) -> Model:
    """Ridge on the residuals of the null model: the first step of a penalized Cox model."""

    def predict(x: Floats, residual: Floats, new: Floats) -> Floats:
        beta = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ residual)
        return np.asarray(new @ beta)

    return predict


def kernel(penalty: float) -> Model:
    """The same with a Gaussian kernel: a model that is not linear."""

    def similar(a: Floats, b: Floats) -> Floats:
        distance = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
        return np.asarray(np.exp(-distance / a.shape[1]))

    def predict(x: Floats, residual: Floats, new: Floats) -> Floats:
        return np.asarray(
            similar(new, x) @ np.linalg.solve(similar(x, x) + penalty * np.eye(len(x)), residual)
        )

    return predict


def outcome(rng: np.random.Generator, n: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return months and events of patients whom no covariate concerns; about six in ten die."""
    death, censoring = rng.exponential(40, n), rng.uniform(0, 100, n)
    return np.minimum(death, censoring), (death <= censoring).astype(int)


def cross_validated(rng: np.random.Generator, n: int, p: int, model: Model) -> tuple[float, float]:
    """Return p of one cross-validation: plain chi-square above its limit as 0 or 1, and the corrected p."""
    x = rng.normal(size=(n, p))
    months, event = outcome(rng, n)
    fold = rng.permutation(n) % FOLDS
    high, plain = np.zeros(n, bool), np.zeros(n, bool)
    for number in range(FOLDS):
        test = fold == number
        residual = log_rank_scores(months[~test], event[~test])
        risk = model(x[~test], residual, x)
        high[test] = risk[test] > np.median(risk[~test])
        plain[test] = risk[test] > np.median(risk[test])
    n_train = {number: int((fold != number).sum()) for number in range(FOLDS)}
    found = cross_validated_log_rank(months, event, high, fold, n_train)
    groups = plain[:, None] == np.array([False, True])[None, :]
    return float(LogRankStatistic(months, event)(groups) > CHI2_05), 1.0 if found.p is None else found.p


def main(repeats: int) -> None:
    print("cross-validated groups: pooled log-rank, corrected (share of p < .05)")
    kinds = (("ridge", 1, ridge(1)), ("ridge", 5, ridge(1)), ("ridge", 20, ridge(10)), ("ridge", 20, ridge(100)),
             ("ridge", 200, ridge(100)), ("kernel", 10, kernel(1)))  # fmt: skip
    for n in (120, 350):
        everything = []
        for name, p, model in kinds:
            rng = np.random.default_rng(n + p)
            count = repeats if name == "ridge" else repeats // 4
            found = np.array([cross_validated(rng, n, p, model) for _ in range(count)])
            everything.append((found[:, 0].mean(), (found[:, 1] < 0.05).mean()))
            print(
                f"  n {n:3d}  {name} of {p:3d}: {everything[-1][0]:.3f}  {everything[-1][1]:.3f}", flush=True
            )
        plain, corrected = np.mean(everything, axis=0)
        print(f"  n {n:3d}  all: {plain:.3f}  {corrected:.3f}")
    print("best of all cuts of a random risk: plain, corrected (share of p < .05)")
    for n in (120, 350):
        for n_cuts in (1, 2):
            rng = np.random.default_rng(n)
            values, took = [], 0.0
            for _ in range(repeats):
                months, event = outcome(rng, n)
                risk = rng.normal(size=n)
                start = time.process_time()
                cuts = np.quantile(risk, [1 / 2] if n_cuts == 1 else [1 / 3, 2 / 3]).tolist()
                first = selected_cut(months, event, risk, cuts, permutations=200)
                assert first is not None
                best = selected_cut(months, event, risk, first.best, permutations=1000)
                took += time.process_time() - start
                assert best is not None
                values.append((best.p_plain, best.p))
            shares = (np.array(values) < 0.05).mean(0)
            print(
                f"  n {n:3d}  {n_cuts} cuts: {shares[0]:.3f}  {shares[1]:.3f}  ({1000 * took / repeats:.0f} ms)",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
