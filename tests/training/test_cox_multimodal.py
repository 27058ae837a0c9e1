"""The simple baseline: its ridge against lifelines, its choices inside the training fold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from napari_survpgc.training.systems.cox_multimodal import Components
from napari_survpgc.training.systems.parts.elastic_net import RiskSets
from napari_survpgc.training.systems.parts.ridge_cox import fit_ridge, held_out_likelihood


def _patients(n: int = 120, p: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    death, end = rng.exponential(30 * np.exp(-x[:, 0])), rng.uniform(5, 90, n)
    return x, np.minimum(death, end), (death <= end).astype(int)


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_the_ridge_is_that_of_lifelines(penalty: float) -> None:
    x, months, event = _patients()
    x = (x - x.mean(0)) / x.std(0, ddof=1)  # as lifelines standardizes before its penalty
    table = pd.DataFrame(x).assign(months=months, event=event)
    theirs = CoxPHFitter(penalizer=penalty).fit(
        table, "months", "event", fit_options={"step_size": 1.0, "precision": 1e-12}
    )
    ours = fit_ridge(x, RiskSets.of(months, event), penalty)
    np.testing.assert_allclose(ours, theirs.params_, atol=1e-4)


def test_a_strong_ridge_is_chosen_for_noise_and_a_weak_one_for_a_signal() -> None:
    x, months, event = _patients(200)
    parts = np.arange(200) % 5
    penalties = (0.01, 0.1, 10.0)
    assert np.argmax(held_out_likelihood(x, months, event, parts, penalties)) < 2
    noise = np.random.default_rng(1).permutation(200)
    assert np.argmax(held_out_likelihood(x[noise], months, event, parts, penalties)) == 2


def test_components_are_those_of_the_patients_they_were_made_of() -> None:
    x, _, _ = _patients()
    made = Components.of(x[:80], 3, standardize=True)
    scores = made(x[:80])
    assert scores.shape == (80, 3)
    assert scores[:, 0].std() == pytest.approx(1)
    assert (np.abs(np.corrcoef(scores.T) - np.eye(3)) < 1e-9).all()
    np.testing.assert_array_equal(made(x)[:80], scores)
    assert Components.of(np.ones((5, 4)), 3, standardize=True)(np.ones((5, 4))).shape == (5, 0)
