"""Does one run rank patients better than another? From their saved predictions, on the patients that both tested."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

from napari_survpgc.core.errors import CohortError

from ..runs.run_folder import Run
from ..seeds import seed_of
from .bootstrap import Interval, bootstrap_p, c_index_pairs, corrected_t_test, draw_counts, interval
from .evaluation import RESAMPLES


@dataclass(frozen=True)
class Comparison:
    """Does a system rank better than another one? ``a`` minus ``b`` throughout.

    Attributes
    ----------
    n_patients : test patients that both have; only they are compared.
    difference : of the mean C-index over the folds, with its 95 % interval over resampled patients.
    p_bootstrap : two-sided, of that difference.   p_folds : corrected t-test over the folds.
    fold_differences, fold_p : in each fold, p by the bootstrap, as the paper tests (its supplement, section 6, has
        the exact procedure; testing the resamples as if they were patients would make any difference significant).
    """

    a: str
    b: str
    n_patients: int
    difference: float
    interval: Interval
    p_bootstrap: float
    p_folds: float
    fold_differences: tuple[float, ...] = field(default=())
    fold_p: tuple[float, ...] = field(default=())


def compare(a: Run, b: Run, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare the C-index of two runs on the test patients that they share, resampled together.

    Raises
    ------
    CohortError : the runs do not have the same folds.
    """
    others = {fold.number: fold for fold in b.folds}
    differences, resampled, shares = [], [], []
    n = 0
    for fold in a.folds:
        other = others.get(fold.number)
        shared = fold.test.index if other is None else fold.test.index.intersection(other.test.index)
        if other is None or len(shared) == 0:
            raise CohortError(
                f"The runs {a.path.name} and {b.path.name} do not test the same patients in fold {fold.number}",
                "Train them on the same folds",
            )
        first, second = fold.test.loc[shared], other.test.loc[shared]
        outcome = (first["survival_months"], first["event"])
        if not np.allclose(outcome[0], second["survival_months"]) or (outcome[1] != second["event"]).any():
            raise CohortError(
                f"The runs {a.path.name} and {b.path.name} do not have the same survival times",
                "Train them on the same cohort",
            )
        pairs = [c_index_pairs(*outcome, part["risk"]) for part in (first, second)]
        weights = draw_counts(
            len(shared), resamples, np.random.default_rng(seed_of(seed, fold.number, "paired"))
        )
        differences.append(pairs[0].value() - pairs[1].value())
        resampled.append(pairs[0].resampled(weights) - pairs[1].resampled(weights))
        shares.append(len(shared) / len(fold.train))
        n += len(shared)
    usable = [r for r, d in zip(resampled, differences, strict=True) if np.isfinite(d)]
    over_folds = np.mean(usable, axis=0) if usable else np.full(resamples, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # no fold with a number: the mean is NaN, as it should be
        difference = float(np.nanmean(differences))
    return Comparison(
        a=a.model,
        b=b.model,
        n_patients=n,
        difference=difference,
        interval=interval(over_folds),
        p_bootstrap=bootstrap_p(over_folds),
        p_folds=corrected_t_test(differences, float(np.mean(shares))),
        fold_differences=tuple(float(d) for d in differences),
        fold_p=tuple(bootstrap_p(r) for r in resampled),
    )
