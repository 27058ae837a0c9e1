"""Survival at 1, 3 and 5 years: calibrated, with an interval that holds, and a bound that is outlived as often as it says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_survpgc.core.outlook import HORIZONS, Outlook, fit_outlook

SHAPE, SCALE = 1.3, 45.0


@dataclass(frozen=True)
class Drawn:
    """Patients whose true hazard is known, and a risk that knows part of it."""

    risk: NDArray[np.float64]
    log_hazard: NDArray[np.float64]
    death: NDArray[np.float64]
    months: NDArray[np.float64]
    event: NDArray[np.int64]


def _draw(n: int, seed: int, hidden: float = 1.0) -> Drawn:
    rng = np.random.default_rng(seed)
    seen, unseen = 1.2 * rng.standard_normal(n), hidden * rng.standard_normal(n)
    death = SCALE * (rng.exponential(size=n) * np.exp(-seen - unseen)) ** (1 / SHAPE)
    censored = np.minimum(rng.uniform(10, 170, n), 144)
    # A risk is any score that grows with the hazard: between -4 and 0, as a model of four bins gives it.
    return Drawn(
        -4 / (1 + np.exp(seen - 0.5)),
        seen + unseen,
        death,
        np.minimum(death, censored),
        (death <= censored).astype(int),
    )


def _fitted(n: int, seed: int = 0, hidden: float = 1.0) -> Outlook:
    drawn = _draw(n, seed, hidden)
    found = fit_outlook(drawn.risk, drawn.months, drawn.event)
    assert found is not None
    return found


@pytest.mark.parametrize(("n", "cohorts"), [(200, 4), (1000, 2)])
def test_the_interval_holds_the_true_survival_of_nine_in_ten_new_patients(n: int, cohorts: int) -> None:
    shares = []
    for seed in range(cohorts):
        outlook, new = _fitted(n, seed), _draw(150, 100 + seed)
        rows = np.array([np.array(outlook.curve(risk, HORIZONS)) for risk in new.risk])
        truth = np.exp(-np.exp(new.log_hazard)[:, None] * (np.array(HORIZONS) / SCALE) ** SHAPE)
        shares.append(((rows[:, 1] <= truth) & (truth <= rows[:, 2])).mean())
        assert (abs(rows[:, 0].mean(0) - truth.mean(0)) < 0.08).all()
    assert 0.85 <= np.mean(shares) <= 0.985  # one small cohort alone varies from 0.81 to 1.00


def test_a_risk_that_knows_all_has_a_narrow_interval_and_one_that_knows_little_a_wide_one() -> None:
    def width(hidden: float) -> float:
        (at,) = _fitted(1500, hidden=hidden).at(-2.0, [36.0])
        return at.high - at.low

    assert width(0.01) < 0.5 < 0.7 < width(2.0)


def test_nine_in_ten_new_patients_outlive_the_bound() -> None:
    outlook, new = _fitted(1000), _draw(1500, 2)
    bounds = np.array([outlook.lower_bound(risk) for risk in new.risk])
    assert 0.87 <= np.mean(new.death >= bounds) <= 0.93


def test_nothing_is_said_of_times_that_fewer_than_ten_reference_patients_reached() -> None:
    drawn = _draw(300, 0)
    months = np.minimum(drawn.months, 40.0)
    months[:9] = 140.0
    event = np.where(drawn.months < 40.0, drawn.event, 0)
    found = fit_outlook(drawn.risk, months, event)
    assert found is not None
    assert [one.months for one in found.at(-2.0)] == [12.0, 36.0]
    assert found.last_months == 40.0


def test_a_higher_risk_never_has_the_better_outlook_and_survival_never_rises() -> None:
    outlook = _fitted(350)
    times = np.linspace(0, outlook.last_months, 50)
    curves = np.array([outlook.curve(risk, times)[0] for risk in np.linspace(-4, 0, 9)])
    assert (np.diff(curves, axis=0) <= 1e-12).all()
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    low, high = outlook.curve(-2.0, times)[1:]
    assert ((low <= high) & (low >= 0) & (high <= 1)).all()


def test_too_few_deaths_give_no_outlook() -> None:
    drawn = _draw(60, 0)
    assert fit_outlook(drawn.risk, drawn.months, np.r_[np.ones(9, int), np.zeros(51, int)]) is None


def test_the_same_patients_give_the_same_outlook_bit_for_bit() -> None:
    one, other = _fitted(350), _fitted(350)
    assert one.at(-1.7) == other.at(-1.7)


def test_the_median_is_given_only_where_the_curve_reaches_it() -> None:
    outlook = _fitted(1000)
    assert outlook.median(-3.99) is None
    median = outlook.median(-0.2)
    assert median is not None
    assert outlook.curve(-0.2, [median])[0][0] == pytest.approx(0.5, abs=0.01)
