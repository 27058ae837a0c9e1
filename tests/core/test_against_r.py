"""Curves, tests and measures against R's survival and riskRegression (goldens: tests/data/r_survival.R)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time

from napari_survpgc.core.curves import (
    censor_ticks,
    cumulative_events,
    fit_cox,
    hazard_ratio,
    rmst_difference,
    summarize_groups,
)
from napari_survpgc.core.groups import kaplan_meier
from napari_survpgc.core.log_rank import LogRankStatistic, cross_validated_log_rank, holm
from napari_survpgc.core.metrics import auc_at, brier, c_index, c_index_ipcw

DATA = Path(__file__).resolve().parents[1] / "data"
R = json.loads((DATA / "r_survival.json").read_text())


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    """90 patients, times in whole months: many ties."""
    return pd.read_csv(DATA / "r_survival.csv")


def test_log_rank_and_its_form_by_fold(patients: pd.DataFrame) -> None:
    outcome = patients["months"].to_numpy(float), patients["event"].to_numpy()
    members = patients["group"].to_numpy()[:, None] == np.array(["high", "low"])
    assert LogRankStatistic(*outcome)(members) == pytest.approx(R["log_rank"], abs=1e-6)
    # With training folds without end, nothing is corrected: what is left is R's stratified test.
    found = cross_validated_log_rank(
        *outcome, patients["group"], patients["fold"], dict.fromkeys(range(3), 10**12)
    )
    from scipy.stats import chi2

    assert found.p == pytest.approx(chi2.sf(R["log_rank_by_fold"], 1), abs=1e-6)


def test_medians_survival_and_restricted_means(patients: pd.DataFrame) -> None:
    high, low = summarize_groups(
        patients["months"], patients["event"], patients["group"], ("high", "low"), at=(12, 36), tau=50
    )
    for row, group in enumerate((high, low)):
        for name in ("value", "low", "high"):
            expected = R["median"][name][row]
            assert getattr(group.median, name) == pytest.approx(
                np.nan if expected is None else expected, nan_ok=True
            )
        assert group.rmst.value == pytest.approx(R["rmst"]["value"][row], abs=1e-6)
        assert (group.rmst.high - group.rmst.low) / 2 / 1.959963984540054 == pytest.approx(
            R["rmst"]["se"][row], abs=1e-6
        )
    for row, point in enumerate([*high.at, *low.at]):
        assert point.at_risk == R["at"]["at_risk"][row]
        assert point.survival.value == pytest.approx(R["at"]["survival"][row], abs=1e-6)
        assert point.survival.low == pytest.approx(R["at"]["low"][row], abs=1e-6)
        assert point.survival.high == pytest.approx(R["at"]["high"][row], abs=1e-6)


def test_hazard_ratios(patients: pd.DataFrame) -> None:
    columns = (patients["months"], patients["event"], patients["group"], "high", "low")
    for found, expected in (
        (hazard_ratio(*columns), R["hazard_ratio"]),
        (hazard_ratio(*columns, strata=patients["fold"]), R["hazard_ratio_by_fold"]),
    ):
        assert np.log(found.estimate.value) == pytest.approx(expected["beta"], abs=1e-6)
        width = np.log(found.estimate.high / found.estimate.low) / 2 / 1.959963984540054
        assert width == pytest.approx(expected["se"], abs=1e-6)


def test_measures_with_censoring_weights_before_the_death(patients: pd.DataFrame) -> None:
    outcome = patients["months"], patients["event"]
    assert c_index(*outcome, patients["risk"]) == pytest.approx(R["c_index"], abs=1e-6)
    assert c_index_ipcw(*outcome, patients["risk"], *outcome, weights="before") == pytest.approx(
        R["uno"], abs=1e-6
    )
    death = patients[["death_12", "death_36"]].to_numpy()
    np.testing.assert_allclose(
        auc_at(*outcome, death, [12, 36], *outcome, weights="before"), R["auc"], atol=1e-6
    )
    np.testing.assert_allclose(
        brier(*outcome, 1 - death, [12, 36], *outcome, weights="before"), R["brier"], atol=1e-6
    )


def test_what_a_risk_adds(patients: pd.DataFrame) -> None:
    table = patients[["months", "event", "age"]]
    base, more = fit_cox(table), fit_cox(table.assign(risk=patients["risk"]))
    assert not isinstance(base, str)
    assert not isinstance(more, str)
    assert more.coefficients[1] == pytest.approx(R["added"]["beta"], abs=1e-6)
    assert more.se[1] == pytest.approx(R["added"]["se"], abs=1e-6)
    assert 2 * (more.log_likelihood - base.log_likelihood) == pytest.approx(R["added"]["chisq"], abs=1e-6)


def test_holm() -> None:
    values = holm([0.01, 0.04, 0.03, 0.5])
    assert values == pytest.approx(R["holm"])
    assert holm([None, 0.04]) == [None, 0.04]


def test_the_band_and_the_restricted_mean_are_also_those_of_lifelines(patients: pd.DataFrame) -> None:
    months, event = patients["months"], patients["event"]
    (everyone,) = summarize_groups(months, event, np.full(90, "all"), ("all",), at=(12, 36), tau=50)
    curve = kaplan_meier(months, event)
    for point in everyone.at:
        place = np.searchsorted(curve.months, point.months, side="right") - 1
        assert point.survival.value == pytest.approx(curve.survival[place], abs=1e-12)
        assert point.survival.low == pytest.approx(curve.lower[place], abs=1e-9)
    mean = restricted_mean_survival_time(KaplanMeierFitter().fit(months, event), t=50)
    assert everyone.rmst.value == pytest.approx(mean, abs=1e-9)


def test_a_difference_of_restricted_means_counts_from_the_first_group(patients: pd.DataFrame) -> None:
    found = rmst_difference(patients["months"], patients["event"], patients["group"], "high", "low", 50)
    value, se = R["rmst"]["value"], R["rmst"]["se"]
    assert found.estimate.value == pytest.approx(value[0] - value[1], abs=1e-6)
    assert found.estimate.high - found.estimate.low == pytest.approx(
        2 * 1.959963984540054 * np.hypot(*se), abs=1e-6
    )
    assert found.p < 0.05


def test_ticks_stand_on_the_curve_and_events_add_up() -> None:
    times, heights = censor_ticks([1, 2, 3, 3, 4], [1, 0, 1, 0, 0])
    assert times.tolist() == [2, 3, 4]
    np.testing.assert_allclose(heights, [0.8, 0.8 * 2 / 3, 0.8 * 2 / 3])
    assert cumulative_events([1, 2, 3, 3, 4], [1, 0, 1, 0, 0], [0, 1, 2.5, 9]).tolist() == [0, 1, 1, 2]


def test_what_cannot_be_estimated_is_said() -> None:
    none = hazard_ratio([1, 2, 3, 4], [1, 1, 0, 0], ["a", "a", "b", "b"], "a", "b")
    assert np.isnan(none.estimate.value)
    assert none.reason == "Nobody of a group died, so there is no hazard ratio"
    (alive,) = summarize_groups([5, 6], [0, 0], ["a", "a"], ("a",))
    assert alive.median.text() == "not reached"
    assert np.isnan(alive.at[0].survival.value)
