"""Tests of calibration on patients whose true survival is known, and recalibration that is worth its name."""

from __future__ import annotations

import numpy as np
import pytest

from napari_survpgc.core import documents
from napari_survpgc.core.calibration import (
    Recalibration,
    RecalibrationAt,
    calibration_at,
    censoring_weights,
    d_calibration,
    fit_recalibration,
    one_calibration,
    parse_recalibration,
    recalibrated,
    smooth_calibration,
)
from napari_survpgc.core.metrics import brier

AT = np.array([12.0, 36, 60])


def _patients(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Months, event, true hazard a month."""
    rng = np.random.default_rng(seed)
    hazard = np.exp(0.7 * rng.normal(size=n)) / 60
    death, end = rng.exponential(1 / hazard), rng.uniform(0, 130, n)
    return np.minimum(death, end), (death <= end).astype(int), hazard


def _survival(hazard: np.ndarray, at: np.ndarray | float) -> np.ndarray:
    return np.exp(-np.multiply.outer(hazard, at))


def test_true_predictions_are_calibrated_as_often_as_p_says() -> None:
    """500 repeats by hand: 1-calibration 3.2 %, D-calibration 0.6 % (the censored are spread evenly), slope 5.2 %."""
    below = np.zeros(3)
    for seed in range(25):
        months, event, hazard = _patients(seed)
        found = calibration_at(
            months, event, _survival(hazard, 36.0), 36.0, _survival_own(hazard, months, 36.0)
        )
        below += [found.p < 0.05, d_calibration(event, np.exp(-hazard * months)) < 0.05,
                  not found.slope.low < 1 < found.slope.high]  # fmt: skip
    assert (below <= 5).all()


def _survival_own(hazard: np.ndarray, months: np.ndarray, at: float) -> np.ndarray:
    return np.exp(-hazard * np.minimum(months, at))


def test_wrong_predictions_are_found_out() -> None:
    months, event, hazard = _patients(1, 800)
    doubled = calibration_at(
        months, event, _survival(2 * hazard, 36.0), 36.0, _survival_own(2 * hazard, months, 36.0)
    )
    assert doubled.p < 1e-6
    assert doubled.observed_to_expected.high < 0.8
    assert doubled.intercept.value == pytest.approx(np.log(0.5), abs=0.15)
    assert doubled.slope.value == pytest.approx(1, abs=0.2)
    extreme = calibration_at(months, event, np.exp(-36 / 60 * (hazard * 60) ** 2), 36.0)
    assert extreme.slope.value == pytest.approx(0.5, abs=0.1)
    assert np.isnan(extreme.intercept.value)
    assert d_calibration(event, np.exp(-2 * hazard * months)) < 1e-6
    nobody = calibration_at(months, np.zeros(800), _survival(hazard, 36.0), 36.0)
    assert np.isnan(nobody.p)
    assert np.isnan(nobody.slope.value)


def test_without_censoring_the_weights_are_one_and_one_calibration_is_hosmer_lemeshows() -> None:
    months, _, hazard = _patients(2)
    event = np.ones(400)
    assert (censoring_weights(months, event, 36.0) == 1).all()
    predicted = _survival(hazard, 36.0)
    total = 0.0
    for part in np.array_split(np.argsort(predicted, kind="stable"), 10):
        alive = (months[part] > 36).mean()
        mean = predicted[part].mean()
        total += (alive - mean) ** 2 / (mean * (1 - mean) / len(part))
    from scipy.stats import chi2

    assert one_calibration(months, event, predicted, 36.0) == pytest.approx(chi2.sf(total, 10))


def test_the_smooth_curve_follows_the_truth() -> None:
    months, event, hazard = _patients(3, 3000)
    curve = smooth_calibration(months, event, _survival(2 * hazard, 36.0), 36.0)
    assert curve is not None
    truth = np.sqrt(curve.predicted)  # exp(-h t) of exp(-2 h t)
    assert np.abs(curve.observed - truth)[4:].max() < 0.06  # a line is too stiff for a root near 0
    assert ((curve.low < truth) & (truth < curve.high)).mean() > 0.6
    assert smooth_calibration(months, event, np.full(3000, 0.5), 36.0) is None


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_recalibration_mends_new_patients_and_survives_its_file(method: str) -> None:
    months, event, hazard = _patients(4, 1500)
    learned = fit_recalibration(months, event, _survival(2 * hazard, AT), AT, method)
    assert learned is not None
    assert parse_recalibration(documents.dump(learned).encode()) == learned
    new_months, new_event, new_hazard = _patients(5, 1500)
    before = _survival(2 * new_hazard, AT)
    after = recalibrated(learned, before)
    assert np.abs(after - _survival(new_hazard, AT)).mean() < 0.05
    assert (np.diff(after) <= 0).all()
    outcome = (new_months, new_event)
    assert (brier(*outcome, after, AT, *outcome) < brier(*outcome, before, AT, *outcome)).all()
    np.testing.assert_array_equal(recalibrated(learned, before[7]), after[7])


def test_a_time_with_few_deaths_is_left_out_and_a_useless_order_becomes_flat() -> None:
    months, event, hazard = _patients(6, 60)
    assert fit_recalibration(months, np.zeros(60), _survival(hazard, AT), AT) is None
    late = fit_recalibration(months, event, _survival(hazard, [12.0, 500]), [12.0, 500])
    assert late is None or late.months == (12.0,)
    reversed_ = fit_recalibration(*_patients(7)[:2], 1 - _survival(_patients(7)[2], AT), AT)
    assert reversed_ is not None
    assert np.ptp(reversed_.at[1].survival) < 1e-9


@pytest.mark.parametrize(
    "wrong",
    [
        {"predicted": (0.0, 0.0), "survival": (0.0, 1.0)}, {"predicted": (0.0, 1.0), "survival": (1.0, 0.0)},
        {"predicted": (0.0,), "survival": (0.0, 1.0)}, {"predicted": (0.0, 1.5), "survival": (0.0, 1.0)},
        {"predicted": (0.0, float("nan")), "survival": (0.0, 1.0)},
    ],
)  # fmt: skip
def test_what_does_not_rise_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="does not rise"):
        RecalibrationAt(months=12.0, n=1, events=1, **wrong)
    one = RecalibrationAt(12.0, (0.0, 1.0), (0.0, 1.0), 1, 1)
    with pytest.raises(ValueError, match="no rising times"):
        Recalibration("logistic", (one, one))
