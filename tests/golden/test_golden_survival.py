"""Losses, bins, schedule, sampling, training steps, attention scores, attribution and metrics agree with the
published code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from napari_survpgc.core.attention.scores import bottom_k, patch_scores, percentiles, row_scores, top_k
from napari_survpgc.core.metrics import auc_at, brier, c_index, c_index_ipcw, integrated_auc, integrated_brier
from napari_survpgc.core.models import build_model, load_published_state_dict
from napari_survpgc.core.predict.attribution import integrated_gradients
from napari_survpgc.core.survival import cosine_loss, cut_bins, hazards, nll_loss, risk, survival
from napari_survpgc.training.fitting.fit import flatten, learning_rate_factor
from napari_survpgc.training.fitting.optimizer import radam

Load = Callable[[str], dict[str, Any]]


def _close(case: dict[str, Any], name: str, value: Any) -> None:
    expected = case["out"][name]
    got = np.asarray(value, expected.dtype).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=0, atol=case["meta"]["out"][name]["atol"], err_msg=name)


@pytest.mark.parametrize("alpha", ["0", "0.5", "1"])
def test_likelihood_and_its_gradient(load_golden: Load, alpha: str) -> None:
    case = load_golden("losses")
    logits = torch.from_numpy(case["in"]["logits"]).requires_grad_()
    bins, event = torch.from_numpy(case["in"]["y"]), 1 - torch.from_numpy(case["in"]["censored"])
    _close(case, f"nll_a{alpha}_each", nll_loss(logits, bins, event, float(alpha), "none").detach())
    _close(case, f"nll_a{alpha}_mean", nll_loss(logits, bins, event, float(alpha), "mean").detach())
    total = nll_loss(logits, bins, event, float(alpha))
    total.backward()
    _close(case, f"nll_a{alpha}_sum", total.detach())
    _close(case, f"nll_a{alpha}_grad", logits.grad)


def test_cosine_loss(load_golden: Load) -> None:
    case = load_golden("losses")
    name = next(n for n in case["out"] if n.startswith(("cos", "diff")) and case["out"][n].size == 1)
    _close(
        case,
        name,
        cosine_loss(torch.from_numpy(case["in"]["tensor1"]), torch.from_numpy(case["in"]["tensor2"])),
    )


@pytest.mark.parametrize("cohort", ["lihc", "brca", "coadread"])
def test_bins(load_golden: Load, cohort: str) -> None:
    case = load_golden(f"bins_{cohort}_os")
    found = cut_bins(case["in"]["months"], 1 - case["in"]["censored"], 4)
    _close(case, "bins", found.edges)
    np.testing.assert_array_equal(found.bins, case["out"]["disc_label"])
    np.testing.assert_array_equal(found.assign(case["in"]["months"]), case["out"]["disc_label"])


@pytest.mark.parametrize("steps", [7, 283])
def test_learning_rate(load_golden: Load, steps: int) -> None:
    case = load_golden("lr_schedule")
    factors = [learning_rate_factor(i, steps, 20) for i in range(steps * 20)]
    _close(case, f"lr_L{steps}_E20", 5e-4 * np.array(factors))


@pytest.mark.parametrize(
    ("name", "decay"),
    [
        ("train_nll_a0.5", 1e-3),
        ("train_nll_a0.5_8steps", 1e-3),
        ("train_nll_a0.5_cosine", 1e-3),
        ("train_diff_b0.3", 1e-3),
        ("train_sensitive", 0.1),
    ],
)
def test_training_steps(load_golden: Load, name: str, decay: float) -> None:
    case = load_golden(name)
    c = case["meta"]["constructor"]
    model = build_model(
        "survpgc",
        dim=c["wsi_projection_dim"],
        pathology_dim=c["wsi_embedding_dim"],
        clinic_dim=c["clinic_embedding_dim"],
        genomic_dim=c["gene_embedding_dim"],
        dropout=0.0,
    )
    load_published_state_dict(model, {k: torch.from_numpy(v) for k, v in case["weights"].items()})
    model.train()
    optimizer = radam(flatten(model), lr=5e-4, weight_decay=decay)
    x = {k: torch.from_numpy(v) for k, v in case["in"].items()}
    combined = "nll_diff_surv" in case["meta"]["call"]
    losses = []
    for step, rate in enumerate(case["out"]["lr"]):
        i = slice(step % len(x["y"]), step % len(x["y"]) + 1)
        out = model(pathology=x["x_path"][i], clinic=x["x_clinic"][i], genomic=x["x_omic"][i])
        loss = nll_loss(out.logits, x["y"][i], 1 - x["censored"][i], 0.0 if combined else 0.5)
        if combined:
            half = out.embedding.shape[-1] // 2
            loss = 0.7 * loss + 0.3 * cosine_loss(out.embedding[:, half:], out.embedding[:, :half])
        losses.append(float(loss.detach()))
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
    _close(case, "loss", losses)
    published = {n.removeprefix("weight."): v for n, v in case["out"].items() if n.startswith("weight.")}
    expected = model.from_published({k: torch.from_numpy(v) for k, v in published.items()})
    assert set(expected) == set(model.state_dict())
    atol = {
        ours: case["meta"]["out"][f"weight.{theirs}"]["atol"]
        for theirs in published
        for ours in model.from_published({theirs: torch.from_numpy(published[theirs])})
    }
    for key, value in model.state_dict().items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=atol[key], err_msg=key)


@pytest.mark.parametrize("path", ["acp", "agp"])
def test_attention_scores(load_golden: Load, path: str) -> None:
    case = load_golden("attention_scores")
    matrix = case["out"][f"{path}_raw"]
    scores = patch_scores(matrix)
    _close(case, f"{path}_zscore", row_scores(matrix))
    _close(case, f"{path}_score", scores)
    _close(case, f"{path}_percentile", percentiles(scores))
    np.testing.assert_array_equal(top_k(scores, 50), case["out"][f"{path}_top50"])
    assert set(bottom_k(scores, 50)) == set(case["out"][f"{path}_bottom50"])


def test_tied_scores_share_their_percentile(load_golden: Load) -> None:
    case = load_golden("attention_roi")
    ranks = percentiles(case["in"]["tied_score"])
    _close(case, "tied_percentile", ranks)
    _close(case, "tied_top50_percentile", ranks[top_k(ranks, 50)])


@pytest.mark.parametrize("target", [0, 1, 2, 3])
def test_integrated_gradients_of_the_head(load_golden: Load, target: int) -> None:
    case = load_golden("integrated_gradients")
    model = build_model("survpgc", dim=32, pathology_dim=48, clinic_dim=40, genomic_dim=56)
    load_published_state_dict(model, {k: torch.from_numpy(v) for k, v in case["weights"].items()})
    for order, name in (("model", "fixed"), ("published", "published")):
        e = torch.from_numpy(case["out"][f"embedding_{order}_order"])
        (found,) = integrated_gradients(lambda x: model.head(x)[:, target], (e,), (torch.zeros_like(e),))
        _close(case, f"{name}_target{target}", found)


@pytest.mark.parametrize("name", ["main", "ties"])
def test_metrics(load_golden: Load, name: str) -> None:
    case = load_golden(f"metrics_{name}")
    x, out = case["in"], case["out"]
    curve = survival(hazards(torch.from_numpy(x["test_logits"])))
    risks = risk(curve).numpy()
    months, event = x["test_months_f32"].astype(float), 1 - x["test_censored"]
    reference = x["reference_months"], x["reference_event"]
    assert c_index(months, event, risks) == pytest.approx(float(out["c_index"]), abs=1e-9)
    assert c_index_ipcw(months, event, risks, *reference) == pytest.approx(
        float(out["c_index_ipcw"]), abs=1e-9
    )
    times = out["times"]
    _close(case, "brier", brier(months, event, curve.numpy(), times, *reference))
    assert integrated_brier(months, event, curve.numpy(), times, *reference) == pytest.approx(
        float(out["ibs"]), abs=1e-6
    )
    estimate = 1 - curve.numpy()[:, 1:]
    np.testing.assert_allclose(
        auc_at(months, event, estimate, times[1:], *reference), out["iauc_list"][:-1], rtol=0, atol=1e-9
    )
    assert integrated_auc(months, event, estimate, times[1:], *reference) == pytest.approx(
        float(out["iauc"]), abs=1e-9
    )
