"""Our metrics against scikit-survival; groups with their traps."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv import metrics as oracle
from sksurv.util import Surv

from napari_survpgc.core.groups import (
    kaplan_meier,
    log_rank,
    numbers_at_risk,
    risk_groups,
    risk_percentile,
    thirds,
)
from napari_survpgc.core.metrics import (
    auc_at,
    brier,
    c_index,
    c_index_ipcw,
    integrated_auc,
    integrated_brier,
    why_not,
)


def _data(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    death, censoring = rng.exponential(40, n).round(0) + 0.5, rng.uniform(5, 110, n).round(0) + 0.5
    risk = (-death / 40 + rng.normal(0, 1, n)).round(1)  # with ties
    return np.minimum(death, censoring), (death <= censoring).astype(int), risk


@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_scikit_survival(seed: int) -> None:
    months, event, risk = _data(seed)
    y = Surv.from_arrays(event.astype(bool), months)
    at = [12.0, 36, 60]
    curve = 1 / (1 + np.exp(risk[:, None] + np.array([-2, 0, 1])))
    assert c_index(months, event, risk) == pytest.approx(
        oracle.concordance_index_censored(event == 1, months, risk)[0]
    )
    assert c_index_ipcw(months, event, risk, months, event, 60, weights="at") == pytest.approx(
        oracle.concordance_index_ipcw(y, y, risk, 60)[0]
    )
    auc, mean = oracle.cumulative_dynamic_auc(y, y, risk, at)
    np.testing.assert_allclose(auc_at(months, event, risk, at, months, event, weights="at"), auc)
    assert integrated_auc(months, event, risk, at, months, event, weights="at") == pytest.approx(mean)
    np.testing.assert_allclose(
        brier(months, event, curve, at, months, event, weights="at"), oracle.brier_score(y, y, curve, at)[1]
    )
    assert integrated_brier(months, event, curve, at, months, event, weights="at") == pytest.approx(
        oracle.integrated_brier_score(y, y, curve, at)
    )


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 3]), st.sampled_from([1, 4, 40]))
def test_the_c_index_counts_every_pair_once(n: int, seed: int, digits: int, times: int) -> None:
    rng = np.random.default_rng(seed)
    months, event = rng.integers(0, times, n).astype(float), rng.integers(0, 2, n)
    risk = rng.normal(size=n).round(digits)
    good = pairs = 0.0
    for i in np.flatnonzero(event):
        for j in range(n):
            if months[j] > months[i] or (months[j] == months[i] and not event[j]):
                pairs += 1
                good += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    found = c_index(months, event, risk)
    assert np.isnan(found) if pairs == 0 else found == pytest.approx(good / pairs, abs=1e-12)


def test_perfect_reversed_and_useless_risks() -> None:
    months, event = np.arange(1.0, 9), np.ones(8)
    assert c_index(months, event, -months) == 1
    assert c_index(months, event, months) == 0
    assert c_index(months, event, np.zeros(8)) == 0.5


def test_what_cannot_be_computed_is_nan_and_never_zero() -> None:
    months, event = np.array([5.0, 6, 7]), np.array([0, 0, 0])
    assert np.isnan(c_index(months, event, [1, 2, 3]))
    assert np.isnan(c_index(months, [1, 1, 1], [1, np.nan, 3]))
    assert np.isnan(auc_at(months, [1, 1, 0], [1, 2, 3], [60], months, [1, 1, 0])).all()
    with pytest.raises(ValueError, match="belong together"):
        c_index(months, event, [1, 2])


def test_place_and_group_of_a_patient() -> None:
    assert risk_percentile(2.0, [1, 2, 3, 4]) == 37.5
    assert risk_percentile(-9, [1, 2]) == 0
    assert risk_groups([0, 1, 1.5, 2, 3], [1, 2]).tolist() == [
        "low",
        "low",
        "intermediate",
        "intermediate",
        "high",
    ]
    assert risk_groups([0, 3], [1]).tolist() == ["low", "high"]


def test_curves_and_numbers_at_risk() -> None:
    curve = kaplan_meier([1, 2, 3, 4], [1, 0, 1, 1])
    assert curve.survival[0] == 1
    np.testing.assert_allclose(curve.survival[-2:], [0.375, 0])
    np.testing.assert_array_equal(numbers_at_risk([1, 2, 3, 4], [0, 2, 3.5]), [4, 3, 1])


def test_small_groups_are_permuted_and_missing_ones_explained() -> None:
    months, event, _ = _data(1, 60)
    one = log_rank(months, event, np.zeros(60))
    assert one.p is None
    assert one.reason == "All patients are in one group"
    large = log_rank(months, event, np.arange(60) % 2)
    assert large.method == "log-rank"
    small = log_rank(months, event, (np.arange(60) < 8).astype(str))
    assert small.method.endswith("permutation")
    assert small.sizes == {"False": 52, "True": 8}
    assert small.p is not None
    assert 0 < small.p <= 1


@pytest.mark.parametrize("n_groups", [2, 3, 4])
def test_our_log_rank_statistic_is_that_of_lifelines(n_groups: int) -> None:
    from lifelines.statistics import multivariate_logrank_test

    from napari_survpgc.core.log_rank import LogRankStatistic

    rng = np.random.default_rng(n_groups)
    times = rng.integers(1, 20, 60).astype(float)  # with ties
    events = rng.integers(0, 2, 60)
    groups = rng.integers(0, n_groups, 60)
    ours = LogRankStatistic(times, events)(groups[:, None] == np.arange(n_groups)[None, :])
    assert ours == pytest.approx(multivariate_logrank_test(times, groups, events).test_statistic)


def test_thirds_of_the_patients_are_low_intermediate_and_high() -> None:
    risks = [3.0, -1.0, 2.0, 5.0, 0.0, 1.0]
    groups = risk_groups(risks, thirds(risks)).tolist()
    assert groups == ["high", "low", "intermediate", "high", "low", "intermediate"]


@pytest.mark.parametrize("seed", range(8))
def test_kaplan_meier_is_that_of_lifelines(seed: int) -> None:
    from lifelines import KaplanMeierFitter

    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 300))
    months, event = rng.exponential(30, n).round(seed % 3), rng.integers(0, 2, n)
    if seed == 3:
        months[:2] = 0
    if seed == 4:
        event[:] = 0
    curve = kaplan_meier(months, event)
    fitter = KaplanMeierFitter().fit(months, event)
    band = fitter.confidence_interval_survival_function_.to_numpy()
    assert np.array_equal(curve.months, fitter.survival_function_.index)
    assert np.allclose(curve.survival, fitter.survival_function_.iloc[:, 0], rtol=0, atol=1e-12)
    assert np.allclose(np.stack([curve.lower, curve.upper], 1), band, rtol=0, atol=1e-12)


def test_a_large_cohort_is_drawn_with_the_steps_that_can_be_seen() -> None:
    from napari_survpgc.core.output.plots import _STEPS, _steps

    rng = np.random.default_rng(0)
    curve = kaplan_meier(rng.exponential(30, 20_000), rng.integers(0, 2, 20_000))
    shown = _steps(curve)
    assert len(shown.months) <= _STEPS + 2
    assert shown.months[0] == 0
    assert shown.months[-1] == curve.months[-1]
    # At no time more than one column of the picture away.
    at = np.searchsorted(shown.months, curve.months, side="right") - 1
    assert np.abs(shown.survival[at] - curve.survival).max() < 0.02
    small = kaplan_meier([1, 2, 3, 4.0], [1, 0, 1, 0])
    assert _steps(small).months.tolist() == [0, 1, 3, 4]


def test_a_death_at_the_last_time_has_a_weight_and_what_has_none_has_a_reason() -> None:
    months, event, risk = [1.0, 2, 3, 4, 4], [1, 0, 1, 1, 0], [5.0, 4, 3, 2, 1]
    assert np.isnan(c_index_ipcw(months, event, risk, months, event, weights="at"))  # G(4) = 0
    assert c_index_ipcw(months, event, risk, months, event, weights="before") == 1
    assert why_not(months, event, risk, 3, months, event) is None
    assert why_not(months, event, risk, 4, months, event) == "Nobody was followed longer than 4 months"
    assert why_not(months, event, risk, 0.5) == "Nobody died within 0.5 months"
    assert why_not(months, np.zeros(5), risk) == "No patient died"
    assert why_not([3, 3], [1, 1], [1, 2]) == "No patient was followed longer than the first death"
    said = why_not([1, 9, 12], [1, 1, 0], [1, 2, 3], 10, [2, 3, 4], [1, 0, 0])
    assert said == "Some died after 9 months, when none of the reference patients was followed any more"


def test_the_integrated_auc_takes_time_in_proportion_to_the_patients() -> None:
    def seconds(n: int) -> float:
        rng = np.random.default_rng(0)
        death, end = rng.exponential(40, n), rng.uniform(0, 100, n)
        months, event = np.minimum(death, end), death <= end
        best = np.inf
        for _ in range(3):
            start = time.process_time()
            integrated_auc(months, event, -death, [12, 36, 60], months, event)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(80_000) < 4 * 2.5 * seconds(20_000)  # 16 times if it were quadratic in the distinct times
