"""The elastic net against scikit-survival's and against the definition of the partial likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from sksurv.linear_model import CoxnetSurvivalAnalysis

from napari_survpgc.training.systems.parts.elastic_net import (
    GAP,
    RiskSets,
    duality_gap,
    fit_cross_validated,
    fit_path,
    penalties,
)


def _patients(n: int = 90, p: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    x = (x - x.mean(0)) / x.std(0)
    death = rng.exponential(30, n) * np.exp(-(1.2 * x[:, 0] - 0.8 * x[:, 1]))
    months = np.minimum(death, rng.uniform(5, 90, n)).round()  # rounded: ties
    return x, months, (death <= months + 0.5).astype(int)


def _log_likelihood(months: np.ndarray, event: np.ndarray, eta: np.ndarray) -> float:
    """Cox's partial likelihood by its definition: each death against all who were followed as long (Breslow)."""
    at_risk = months[None, :] >= months[:, None]
    return float(event @ (eta - np.log(at_risk @ np.exp(eta))))


def test_derivatives_are_those_of_the_log_likelihood() -> None:
    x, months, event = _patients()
    sets = RiskSets.of(months, event)
    eta = 0.5 * x[:, 0]
    gradient, weight = sets.derivatives(eta)
    for i in (0, 17, 60):
        step = np.zeros(len(eta))
        step[i] = 1e-4
        up, here, down = (_log_likelihood(months, event, eta + k * step) for k in (1, 0, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-4, abs=1e-5)
        assert weight[i] >= -(up - 2 * here + down) / 1e-8 - 1e-4
    assert sets.loss(eta) == pytest.approx(-_log_likelihood(months, event, eta))


@pytest.mark.parametrize("l1_ratio", [0.1, 0.5, 1.0])
def test_the_path_agrees_with_scikit_survival(l1_ratio: float) -> None:
    x, months, event = _patients()
    sets = RiskSets.of(months, event)
    path = penalties(x, sets, l1_ratio, 12)
    ours = np.stack(list(fit_path(x, sets, l1_ratio, path)))
    y = np.array(list(zip(event.astype(bool), months, strict=True)), dtype=[("e", bool), ("t", float)])
    theirs = CoxnetSurvivalAnalysis(l1_ratio=l1_ratio, alphas=path[1:], tol=1e-10, max_iter=10**6).fit(x, y)
    assert np.abs(ours[0]).max() < 1e-6  # the first penalty just leaves nothing
    np.testing.assert_allclose(ours[1:], theirs.coef_.T, atol=1e-3)


@pytest.mark.parametrize("l1_ratio", [0.1, 0.5])
@pytest.mark.filterwarnings("error")
def test_more_genes_than_patients_converge_by_the_duality_gap(l1_ratio: float) -> None:
    x, months, event = _patients(80, 300)
    x[:, 150:] = x[:, :150] + 0.05 * x[:, 150:]  # in pairs that hardly differ
    x = (x - x.mean(0)) / x.std(0)
    sets = RiskSets.of(months, event)
    path = penalties(x, sets, l1_ratio, 8)
    start = sets.loss(np.zeros(len(x))) / len(x)

    def objective(b: np.ndarray, penalty: float) -> float:
        size = l1_ratio * np.abs(b).sum() + (1 - l1_ratio) / 2 * (b @ b)
        return float(-_log_likelihood(months, event, x @ b) / len(x) + penalty * size)

    found = list(fit_path(x, sets, l1_ratio, path))
    y = np.array(list(zip(event.astype(bool), months, strict=True)), dtype=[("e", bool), ("t", float)])
    theirs = CoxnetSurvivalAnalysis(l1_ratio=l1_ratio, alphas=path[-1:], tol=1e-12, max_iter=10**6).fit(x, y)
    for penalty, beta in zip(path, found, strict=True):
        slope = x.T @ sets.derivatives(x @ beta)[0] / len(x)
        gap = duality_gap(beta, slope, l1_ratio, penalty, start)
        assert -1e-12 < gap <= GAP * start
    best = objective(theirs.coef_[:, 0], path[-1])
    assert (
        objective(found[-1], path[-1]) - best <= GAP * start
    )  # no other solver finds a point lower than the gap says


def test_the_penalty_is_chosen_by_patients_left_out() -> None:
    x, months, event = _patients()
    parts = np.arange(len(x)) % 5
    net = fit_cross_validated(x, months, event, parts, 0.5, 20)
    assert set(np.argsort(-np.abs(net.coefficients))[:2]) == {0, 1}
    assert net.penalty == net.scores[np.argmax(net.scores[:, 1]), 0]
    noise = np.random.default_rng(1).permutation(len(x))
    shuffled = fit_cross_validated(x, months[noise], event[noise], parts, 0.5, 20)
    assert shuffled.scores[:, 1].max() < net.scores[:, 1].max() - 0.1
