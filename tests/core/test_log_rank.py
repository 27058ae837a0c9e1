"""Tests of groups that look at the outcome: cross-validated ones, and thresholds that were searched."""

from __future__ import annotations

import time

import numpy as np
import pytest

from napari_survpgc.core.log_rank import (
    cross_validated_log_rank,
    log_rank,
    log_rank_scores,
    pairwise,
    selected_cut,
)


def _patients(seed: int, n: int = 120, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    death, end = rng.exponential(40 * np.exp(-effect * risk)), rng.uniform(0, 100, n)
    return np.minimum(death, end), (death <= end).astype(int), risk


def test_five_complete_folds_widen_the_variance_by_two_over_pi() -> None:
    months, event, risk = _patients(0)
    fold = np.arange(120) % 5
    found = cross_validated_log_rank(months, event, risk > 0, fold, dict.fromkeys(range(5), 96))
    assert found.inflation == pytest.approx(1 + 2 / np.pi, rel=0.02)  # the folds do not weigh quite the same
    alone = cross_validated_log_rank(months, event, risk > 0, np.zeros(120), {0: 480})
    assert alone.inflation == 1  # one fold learned from nobody who is tested


def test_the_correction_holds_where_the_plain_test_does_not() -> None:
    """A tenth of what `python -m tests.benchmarks.null_tests` does by hand."""
    from tests.benchmarks.null_tests import cross_validated, ridge

    rng = np.random.default_rng(3)
    found = np.array([cross_validated(rng, 120, 20, ridge(10)) for _ in range(200)])
    assert found[:, 0].mean() > 0.08
    assert 0.01 < (found[:, 1] < 0.05).mean() < 0.09


def test_a_true_difference_is_still_found() -> None:
    months, event, risk = _patients(1, 350, effect=0.8)
    fold = np.arange(350) % 5
    found = cross_validated_log_rank(months, event, risk > 0, fold, dict.fromkeys(range(5), 280))
    assert found.p is not None
    assert found.p < 1e-4


def test_small_cross_validated_groups_are_permuted_within_their_folds() -> None:
    months, event, risk = _patients(2, 60)
    fold = np.arange(60) % 3
    group = np.where(risk > np.sort(risk)[-9], "high", "low")
    found = cross_validated_log_rank(months, event, group, fold, dict.fromkeys(range(3), 40))
    assert found.method.endswith("permutation within folds")
    assert found.sizes == {"high": 8, "low": 52}
    assert found == cross_validated_log_rank(months, event, group, fold, dict.fromkeys(range(3), 40))


def test_a_fold_with_one_group_says_nothing_and_no_fold_with_two_is_no_test() -> None:
    months, event, _ = _patients(3, 40)
    fold = np.arange(40) % 2
    found = cross_validated_log_rank(months, event, fold == 0, fold, {0: 20, 1: 20})
    assert found.p is None
    assert found.reason == "No fold has deaths with both groups at risk"


@pytest.mark.parametrize("n_cuts", [1, 2])
def test_the_best_of_all_cuts_is_corrected_and_quick(n_cuts: int) -> None:
    small = 0
    start = time.process_time()
    for seed in range(40):
        months, event, risk = _patients(seed)
        first = selected_cut(months, event, risk, [0.0] if n_cuts == 1 else [-0.5, 0.5], permutations=200)
        assert first is not None
        best = selected_cut(months, event, risk, first.best, permutations=200)
        assert best is not None
        assert best.p_plain <= first.p_plain + 1e-9
        assert best.p >= best.p_plain
        small += best.p < 0.05
    assert small <= 6  # 2 are expected, and 16 without the correction
    assert time.process_time() - start < 8


def test_a_cut_that_parts_the_patients_keeps_its_p() -> None:
    months, event, risk = _patients(5, 350, effect=1.0)
    found = selected_cut(months, event, risk, [0.0])
    assert found is not None
    assert found.p < 0.005
    assert found == selected_cut(months, event, risk, [0.0])
    assert selected_cut(months, event, risk, [99.0]) is None  # nobody above it
    assert selected_cut(months, np.zeros(350), risk, [0.0]) is None


def test_log_rank_scores_add_up_to_nothing() -> None:
    months, event, _ = _patients(6)
    scores = log_rank_scores(months.round(), event)
    assert scores.sum() == pytest.approx(0)
    assert log_rank_scores([1, 2, 2, 3], [1, 1, 0, 0]).tolist() == pytest.approx(
        [0.75, 1 - 1 / 4 - 1 / 3, -1 / 4 - 1 / 3, -1 / 4 - 1 / 3]
    )


def test_pairs_of_three_groups_are_adjusted() -> None:
    months, event, risk = _patients(7, 150, effect=1.0)
    group = np.array(["low", "intermediate", "high"])[np.digitize(risk, [-0.4, 0.4])]
    pairs = pairwise(months, event, group, ("low", "intermediate", "high"))
    assert [(p.a, p.b) for p in pairs] == [("low", "intermediate"), ("low", "high"), ("intermediate", "high")]
    assert all(p.p is not None and p.p_plain is not None and p.p >= p.p_plain for p in pairs)
    part = group != "intermediate"
    assert pairs[1].p_plain == log_rank(months[part], event[part], group[part]).p
