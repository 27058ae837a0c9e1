"""Every model keeps the contract: shapes, devices, masks, memory; our own rules beyond the golden cases."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_survpgc.core.errors import BundleError, CohortError
from napari_survpgc.core.models import MODELS, build_model, model_class
from napari_survpgc.core.models.abmil import PathwayLayers
from napari_survpgc.core.models.base import TwoPathModel
from napari_survpgc.core.models.parts.group_attention import FeedForward
from napari_survpgc.core.models.parts.snn import GeneSetTokenizer
from napari_survpgc.core.models.transmil import pseudo_inverse
from napari_survpgc.core.survival import cosine_loss, cut_bins, hazards, nll_loss, risk, survival
from napari_survpgc.core.types import Modality
from tests.small_models import small_inputs, small_model, token_counts

WITH_PATCHES = [name for name in MODELS if Modality.PATHOLOGY in model_class(name).REQUIRES]
ATTENTION_NAMES = {
    "clinic_to_clinic", "clinic_to_pathology", "pathology_to_clinic", "clinic_to_genomic", "genomic_to_clinic",
    "genomic_to_genomic", "genomic_to_pathology", "pathology_to_genomic", "pathology",
}  # fmt: skip
"""Of the contract: rows to columns; of models that pool, one raw score a patch."""


@pytest.mark.parametrize("n_p", [1, 7])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_logits_and_a_gradient(name: str, batch: int, n_p: int) -> None:
    model = small_model(name, n_bins=5)
    out = model(**small_inputs(name, batch, n_p), return_attention=True)
    assert out.logits.shape == (batch, 5)
    assert out.embedding.shape[0] == batch
    out.logits.sum().backward()
    unused = [key for key, p in model.named_parameters() if p.grad is None]
    assert not unused


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_on_one_device_only(name: str) -> None:
    model = small_model(name).to("meta")
    out = model(**small_inputs(name, 2, 5, "meta"), return_attention=True)
    assert out.logits.device.type == "meta"


def _part(value: object, i: int) -> object:
    return [v[i : i + 1] for v in value] if isinstance(value, list) else value[i : i + 1]  # type: ignore[index]


@pytest.mark.parametrize("name", WITH_PATCHES)
def test_a_padded_batch_gives_what_each_slide_gives_alone(name: str) -> None:
    model = small_model(name).eval()
    x = small_inputs(name, 2, 9)
    patches = x["pathology"]
    assert isinstance(patches, torch.Tensor)
    alone = [
        model(**{**{k: _part(v, i) for k, v in x.items()}, "pathology": patches[i : i + 1, :n]}).logits
        for i, n in enumerate((9, 5))
    ]
    patches[1, 5:] = 100 * torch.randn(4, 20)
    mask = torch.arange(9)[None] < torch.tensor([[9], [5]])
    torch.testing.assert_close(model(**x, patch_mask=mask).logits, torch.cat(alone))


@pytest.mark.parametrize("name", [name for name in WITH_PATCHES if not model_class(name).POSITIONAL])
def test_the_order_of_patches_does_not_matter(name: str) -> None:
    model = small_model(name).eval()
    x = small_inputs(name, 1, 9)
    patches = x["pathology"]
    assert isinstance(patches, torch.Tensor)
    shuffled = model(**{**x, "pathology": patches[:, torch.randperm(9)]}).logits
    torch.testing.assert_close(shuffled, model(**x).logits)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_looks_at_what_it_requires_and_at_nothing_else(name: str) -> None:
    model = small_model(name).eval()
    x = small_inputs(name, 2, 5)
    want = model(**x).logits
    others: dict[str, torch.Tensor | None] = {str(m): None for m in Modality if str(m) not in x}
    torch.testing.assert_close(model(**x, **others, patch_mask=None).logits, want, rtol=0, atol=0)
    others = {key: torch.full((2, 3), torch.nan) for key in others}
    torch.testing.assert_close(model(**x, **others).logits, want, rtol=0, atol=0)
    for modality in set(x) - {str(m) for m in model_class(name).OPTIONAL}:
        with pytest.raises(TypeError, match=modality):
            model(**{key: value for key, value in x.items() if key != modality})


@pytest.mark.parametrize("name", MODELS)
def test_attention_has_the_names_and_shapes_of_the_contract(name: str) -> None:
    model = small_model(name).eval()
    x = small_inputs(name, 3, 7)
    assert not model(**x).attention
    found = model(**x, return_attention=True).attention
    assert set(found) == model.ATTENTION
    assert set(found) <= ATTENTION_NAMES
    tokens = token_counts(name, 7)
    for key, value in found.items():
        assert tuple(value.shape) == (3, *(tokens[end] for end in key.split("_to_")))
    assert not any(value.requires_grad for value in found.values())


def test_the_paths_of_survpgc_can_be_recomputed_alone() -> None:
    model = small_model("survpgc").eval()
    # By its bases: what isinstance finds of a protocol differs between Python 3.11 and 3.12.
    assert isinstance(model, TwoPathModel)
    assert TwoPathModel in type(model).__mro__
    x = small_inputs("survpgc", 1, 9)
    patches = model.encode_pathology(x["pathology"])  # type: ignore[arg-type]
    clinic, genomic = model.clinic_path(patches, x["clinic"]), model.genomic_path(patches, x["genomic"])  # type: ignore[arg-type]
    torch.testing.assert_close(model.head(model.embed(clinic, genomic)), model(**x).logits, rtol=0, atol=0)


def test_a_missing_modality_leaves_its_path_out() -> None:
    model = small_model("survpgc").eval()
    x = small_inputs("survpgc", 2, 9)
    out = model(pathology=x["pathology"], clinic=x["clinic"], genomic=None, return_attention=True)
    assert (out.embedding[:, : model.SMALL["dim"]] == 0).all()
    assert "genomic_to_pathology" not in out.attention
    assert out.logits.isfinite().all()


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("fusion", ["concat", "bilinear"])
@pytest.mark.parametrize("name", ["abmil", "mcat"])
def test_fusions_train_and_treat_every_patient_alone(name: str, fusion: str, gated: bool) -> None:
    sizes: dict[str, object] = {"fusion": fusion, "gated": gated}
    x = small_inputs(name, 2, 9)
    if name == "abmil":
        sizes["composition"] = np.eye(9, 4, dtype=int)
        x["genomic"] = torch.randn(2, 9)
    model = small_model(name, **sizes).eval()
    assert {str(modality) for modality in model.REQUIRES} == {"pathology", "genomic"}
    logits = model(**x).logits
    torch.testing.assert_close(model(**{k: _part(v, 1) for k, v in x.items()}).logits, logits[1:])
    logits.sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None]


def test_fusions_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="fusion must be one of concat, bilinear, not None"):
        small_model("mcat", fusion=None)
    with pytest.raises(ValueError, match="bilinear only"):
        build_model("porpoise", fusion="concat")
    with pytest.raises(ValueError, match="composition"):
        build_model("abmil", fusion="concat")
    with pytest.raises(ValueError, match="8 genes, but the composition of the pathways has 9"):
        build_model("abmil", fusion="concat", composition=np.eye(9, 4), genomic_dim=8)
    model = small_model("abmil", fusion="concat", composition=np.eye(9, 4))
    assert Modality.GENOMIC not in model_class("abmil").REQUIRES
    with pytest.raises(TypeError, match="genomic is missing"):
        model(pathology=torch.randn(1, 2, 20))


def test_genes_reach_only_their_own_pathways() -> None:
    composition = torch.tensor([[1, 0], [0, 1], [0, 0]])
    layers = PathwayLayers(composition, 3, 5)
    assert not [key for key in layers.state_dict() if "member" in key]
    expression = torch.randn(1, 3, requires_grad=True)
    (seen,) = torch.autograd.grad(layers(expression)[0, :5].sum(), expression)
    assert (seen[0, 1:] == 0).all()
    moved = layers(expression + torch.tensor([0.0, 0.0, 5.0]))
    torch.testing.assert_close(moved, layers(expression))


def test_the_pseudo_inverse_inverts() -> None:
    torch.manual_seed(0)
    matrix = (3 * torch.eye(8) + torch.rand(2, 4, 8, 8)).softmax(-1)
    product = matrix @ pseudo_inverse(matrix, 20)
    torch.testing.assert_close(product, torch.eye(8).expand_as(product), atol=1e-4, rtol=0)


def test_the_place_of_a_patch_matters_to_transmil() -> None:
    torch.manual_seed(0)
    model = small_model("transmil").eval()
    patches = torch.randn(1, 9, 20)
    assert not torch.allclose(model(pathology=patches).logits, model(pathology=patches.flip(1)).logits)
    with pytest.raises(ValueError, match="at least one patch"):
        model(pathology=patches, patch_mask=torch.zeros(1, 9, dtype=torch.bool))


def test_survgc_lets_every_clinic_token_see_everything() -> None:
    """Against dense attention under a mask: group rows see all tokens, the others only the group."""
    for published in (False, True):
        model = small_model("survgc", published=published).eval()
        x = small_inputs("survgc", 1, 1)
        size = 4 if published else 6
        tokens = torch.cat([model.clinic_projection(x["clinic"]), model.genomic_projection(x["genomic"])], 1)
        q, k, v = model.attention.to_qkv(model.attention.norm(tokens)).chunk(3, -1)
        sees = (torch.arange(10)[:, None] < size) | (torch.arange(10)[None] < size)
        rows = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees)
        rows = model.feed_forward(rows)
        want = model.head(torch.cat([rows[:, :6].mean(1), rows[:, 6:].mean(1)], -1))
        torch.testing.assert_close(model(**x).logits, want)


def test_gene_sets_have_networks_of_their_own() -> None:
    torch.manual_seed(0)
    tokenizer = GeneSetTokenizer([2, 4], 8).eval()
    a, b = torch.randn(3, 2), torch.randn(3, 4)
    tokens = tokenizer([a, b])
    assert tokens.shape == (3, 2, 8)
    elu = torch.nn.functional.elu
    by_hand = elu(a @ tokenizer.first_weight[0, :2] + tokenizer.first_bias[0])
    by_hand = elu(by_hand @ tokenizer.second_weight[0] + tokenizer.second_bias[0])
    torch.testing.assert_close(tokens[:, 0], by_hand)
    tokens.sum().backward()
    assert tokenizer.first_weight.grad is not None
    assert (tokenizer.first_weight.grad[0, 2:] == 0).all(), "padding gets no gradient"
    with pytest.raises(ValueError, match="at least one gene"):
        GeneSetTokenizer([2, 0], 8)


def test_unknown_models_are_named() -> None:
    with pytest.raises(BundleError, match=r"no model named resnet.*survpgc"):
        build_model("resnet")


@pytest.mark.slow
def test_a_hundred_thousand_patches_fit_in_two_gigabytes() -> None:
    """Peak memory above the input, both paths and all attention maps at the paper's sizes."""
    code = (
        "import resource, torch\n"
        "from napari_survpgc.core.models import build_model\n"
        "torch.set_num_threads(2)\n"
        "model = build_model('survpgc').eval()\n"
        "x = torch.randn(1, 100_000, 1024); c = torch.randn(1, 6, 512); g = torch.randn(1, 4, 768)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with torch.inference_mode(): model(pathology=x, clinic=c, genomic=g, return_attention=True)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2.0


# --- survival -----------------------------------------------------------------------------------------------


def test_survival_falls_and_risk_rises_with_hazard() -> None:
    logits = torch.tensor([[-2.0, 0.0, 1.0, -1.0], [-1.0, 1.0, 2.0, 0.0]])
    curve = survival(hazards(logits))
    assert (curve.diff(dim=1) <= 0).all()
    assert risk(curve)[1] > risk(curve)[0]
    torch.testing.assert_close(
        curve[0, 1], (1 - torch.sigmoid(logits[0, 0])) * (1 - torch.sigmoid(logits[0, 1]))
    )


def test_likelihood_by_hand() -> None:
    logits = torch.zeros(2, 3)  # hazards 1/2, survival 1/2, 1/4, 1/8
    bins, event = torch.tensor([1, 1]), torch.tensor([1, 0])
    each = nll_loss(logits, bins, event, 0.0, "none")
    want = -torch.tensor([np.log(0.5) + np.log(0.5), np.log(0.25)], dtype=torch.float32)
    torch.testing.assert_close(each, want)
    half = nll_loss(logits, bins, event, 0.5, "none")
    torch.testing.assert_close(half, want * torch.tensor([1.0, 0.5]))
    with pytest.raises(ValueError, match="reduction"):
        nll_loss(logits, bins, event, reduction="median")


def test_the_cosine_loss_pushes_apart_only_beyond_the_margin() -> None:
    a = torch.tensor([[1.0, 0.0]])
    assert cosine_loss(a, torch.tensor([[0.1, 1.0]])) == 0
    torch.testing.assert_close(cosine_loss(a, a), torch.tensor(0.8))


def test_bins_are_closed_on_the_left_and_keep_time_zero() -> None:
    months, event = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8]), np.array([0, 1, 1, 1, 1, 1, 1, 1, 0])
    cut = cut_bins(months, event, 2)
    np.testing.assert_allclose(cut.edges, [-1e-6, 4, 8 + 1e-6])
    np.testing.assert_array_equal(cut.bins, [0, 0, 0, 0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(cut.assign([-3, 100]), [0, 1])


@pytest.mark.parametrize(
    ("months", "event", "message"),
    [
        ([1.0, float("nan")], [1, 1], "missing or negative"),
        ([1.0, -2.0], [1, 1], "missing or negative"),
        ([1.0, 2.0], [0, 0], "No patient died"),
        ([1.0, 2.0], [1, 2], "neither 0 nor 1"),
        ([5.0, 5.0, 5.0, 9.0], [1, 1, 1, 0], "too few or too alike"),
        ([1.0], [1, 0], "1 survival times but 2 events"),
    ],
)
def test_follow_up_that_cannot_be_cut_is_refused(months: list[float], event: list[int], message: str) -> None:
    with pytest.raises(CohortError, match=message):
        cut_bins(months, event, 4)
    if "alike" in message:
        assert len(cut_bins(months, event, 4, drop_ties=True).edges) < 5


@pytest.mark.parametrize("n_tokens", [1, 6, 50])
def test_a_feed_forward_of_mixtures_is_that_of_the_mixed_rows(n_tokens: int) -> None:
    torch.manual_seed(n_tokens)
    network = FeedForward(32, dropout=0.0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.2, 0.5)
    values = torch.randn(2, n_tokens, 32, requires_grad=True)
    weights = torch.randn(2, n_tokens, 40).softmax(1).requires_grad_()
    inputs = (weights, values, *network.parameters())
    found, expected = network.of_mixtures(weights, values), network(weights.transpose(1, 2) @ values)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    pull = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, pull), torch.autograd.grad(expected, inputs, pull), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
