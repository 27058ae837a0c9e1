"""Every model agrees with the published code within each output's own tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.models import build_model, load_published_state_dict
from napari_survpgc.core.survival import hazards, risk, survival

Load = Callable[[str], dict[str, Any]]
SURVPGC = ("small", "full", "batch", "lowvar", "one_patch", "padded")
ATTENTION = {
    "attn_gene_gene": "genomic_to_genomic",
    "attn_gene_patch": "genomic_to_pathology",
    "attn_patch_gene": "pathology_to_genomic",
    "attn_clinic_clinic": "clinic_to_clinic",
    "attn_clinic_patch": "clinic_to_pathology",
    "attn_patch_clinic": "pathology_to_clinic",
}


def _tensors(values: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in values.items()}


def _agree(case: dict[str, Any], found: dict[str, torch.Tensor]) -> None:
    compared = 0
    for name, value in found.items():
        if name in case["out"]:
            expected = case["out"][name]
            got = value.detach().numpy().reshape(expected.shape)
            np.testing.assert_allclose(
                got, expected, rtol=0, atol=case["meta"]["out"][name]["atol"], err_msg=name
            )
            compared += 1
    assert compared >= 4


def _agree_in_every_output(case: dict[str, Any], found: dict[str, torch.Tensor]) -> None:
    missing = set(case["out"]) - set(found)
    assert not missing
    _agree(case, found)


def _outcome(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    h = hazards(logits)
    return {"logits": logits, "hazards": h, "survival": survival(h), "risk": risk(survival(h))}


def _survpgc(case: dict[str, Any]) -> torch.nn.Module:
    c = case["meta"]["constructor"]
    model = build_model(
        "survpgc",
        n_bins=c.get("num_classes", 4),
        dim=c.get("wsi_projection_dim", 256),
        pathology_dim=c.get("wsi_embedding_dim", 1024),
        clinic_dim=c.get("clinic_embedding_dim", 512),
        genomic_dim=c.get("gene_embedding_dim", 768),
    )
    load_published_state_dict(model, _tensors(case["weights"]))
    return model.eval()


@pytest.mark.parametrize("name", SURVPGC)
def test_survpgc_agrees_in_every_output(load_golden: Load, name: str) -> None:
    case = load_golden(f"survpgc_f_{name}")
    x = _tensors(case["in"])
    out = _survpgc(case)(
        pathology=x["x_path"],
        clinic=x["x_clinic"],
        genomic=x["x_omic"],
        patch_mask=None,
        return_attention=True,
    )
    half = out.embedding.shape[-1] // 2
    found = {
        **_outcome(out.logits),
        "embedding": out.embedding,
        "tensor_gp": out.embedding[:, :half],
        "tensor_cp": out.embedding[:, half:],
        **{theirs: out.attention[ours] for theirs, ours in ATTENTION.items()},
    }
    _agree(case, found)


def test_masked_padding_gives_the_unpadded_answer(load_golden: Load) -> None:
    case = load_golden("survpgc_f_padded")
    x = _tensors(case["in"])
    mask = (x["x_path"] != 0).any(-1)
    assert not mask.all()
    out = _survpgc(case)(pathology=x["x_path"], clinic=x["x_clinic"], genomic=x["x_omic"], patch_mask=mask)
    expected = case["out"]["unpadded_logits"]
    atol = case["meta"]["out"]["unpadded_logits"]["atol"]
    np.testing.assert_allclose(out.logits.detach().numpy(), expected, rtol=0, atol=atol)


SMALL = {
    "mlpsingle": ("mlp_clinic", "clinic", "x_clinic", {"dim": "projection_dim", "clinic_dim": "input_dim"}),
    "snnsingle": ("snn_clinic", "clinic", "x_clinic", {"clinic_dim": "input_dim"}),
    "mlpomics": (
        "mlp_genomic",
        "genomic",
        "data_omics",
        {"dim": "projection_dim", "genomic_dim": "input_dim"},
    ),
    "snnomics": (
        "snn_genomic",
        "genomic",
        "data_omics",
        {"genomic_dim": "omic_input_dim", "size": "model_size_omic"},
    ),
    "snnomics_big": (
        "snn_genomic",
        "genomic",
        "data_omics",
        {"genomic_dim": "omic_input_dim", "size": "model_size_omic"},
    ),
    "mlpwsi": (
        "mlp_pathology",
        "pathology",
        "data_WSI",
        {"dim": "wsi_projection_dim", "pathology_dim": "wsi_embedding_dim"},
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_single_modality_models_agree(load_golden: Load, name: str) -> None:
    case = load_golden(name)
    ours, modality, key, sizes = SMALL[name]
    constructor = case["meta"]["constructor"]
    model = build_model(ours, **{mine: constructor[theirs] for mine, theirs in sizes.items()})
    load_published_state_dict(model, _tensors(case["weights"]))
    out = model.eval()(**{modality: torch.from_numpy(case["in"][key])})
    _agree(case, _outcome(out.logits))


def _run(
    case: dict[str, Any],
    model: str,
    sizes: dict[str, str],
    inputs: dict[str, str],
    attention: dict[str, str] | None = None,
    inner: dict[str, tuple[str, Callable[[Any], torch.Tensor]]] | None = None,
    **more: Any,
) -> dict[str, torch.Tensor]:
    """Run a case.

    ``sizes`` ours -> constructor's, ``inputs`` modality -> key, ``attention`` theirs -> ours, ``inner`` theirs ->
    the name of our submodule and what to take of its output.
    """
    constructor, x = case["meta"]["constructor"], _tensors(case["in"])
    built = build_model(model, **{mine: constructor[theirs] for mine, theirs in sizes.items()}, **more)
    load_published_state_dict(built, _tensors(case["weights"]))
    given: dict[str, Any] = {modality: x[key] for modality, key in inputs.items() if key in x}
    if "pathology" in given:
        given["pathology"] = given["pathology"].reshape(-1, *given["pathology"].shape[-2:])
    if "x_omic1" in x:
        given["genomic"] = [x[f"x_omic{i + 1}"][None] for i in range(len(constructor["omic_sizes"]))]
    seen: dict[str, torch.Tensor] = {}
    for theirs, (part, take) in (inner or {}).items():
        built.get_submodule(part).register_forward_hook(
            lambda _module, _inputs, output, theirs=theirs, take=take: seen.update({theirs: take(output)})
        )
    with torch.inference_mode():
        out = built.eval()(**given, return_attention=True)
    found = {
        **seen,
        **_outcome(out.logits),
        "captum_risk": _outcome(out.logits)["risk"],
        "embedding": out.embedding,
    }
    return {**found, **{theirs: out.attention[ours] for theirs, ours in (attention or {}).items()}}


WSI = {"pathology_dim": "wsi_embedding_dim", "dim": "wsi_projection_dim"}
ONE_PATH = {
    "survpc_f": (
        "survpc",
        {**WSI, "clinic_dim": "clinic_embedding_dim"},
        {"pathology": "x_path", "clinic": "x_clinic"},
        {theirs: ours for theirs, ours in ATTENTION.items() if "clinic" in ours},
    ),
    "survpc": (
        "approach_c",
        {**WSI, "clinic_dim": "clinic_size"},
        {"pathology": "x_path", "clinic": "x_clinic"},
        {theirs: ours for theirs, ours in ATTENTION.items() if "clinic" in ours},
    ),
    "survpath": (
        "survpath",
        {**WSI, "gene_set_sizes": "omic_sizes"},
        {"pathology": "x_path"},
        {theirs.replace("gene", "pathway"): ours for theirs, ours in ATTENTION.items() if "genomic" in ours},
    ),
}


@pytest.mark.parametrize("name", ONE_PATH)
def test_models_with_one_path_agree_in_every_output(load_golden: Load, name: str) -> None:
    case = load_golden(name)
    _agree_in_every_output(case, _run(case, *ONE_PATH[name]))


def test_survgc_agrees_when_it_groups_as_published(load_golden: Load) -> None:
    case = load_golden("survgc_f")
    sizes = {
        "clinic_dim": "clinic_embedding_dim",
        "genomic_dim": "gene_embedding_dim",
        "dim": "gene_projection_dim",
    }
    inputs = {"clinic": "x_clinic", "genomic": "x_omic"}
    attention = {
        "attn_first4_first4": "group_to_group",
        "attn_first4_rest": "group_to_rest",
        "attn_rest_first4": "rest_to_group",
    }
    _agree_in_every_output(case, _run(case, "survgc", sizes, inputs, attention, published=True))
    right = _run(case, "survgc", sizes, inputs)
    assert not np.allclose(right["logits"], case["out"]["logits"], atol=1e-3)


def test_approach_b_agrees(load_golden: Load) -> None:
    case = load_golden("mlppc_concat")
    inputs = {"pathology": "x_path", "clinic": "x_clinic"}
    _agree_in_every_output(case, _run(case, "approach_b", {**WSI, "clinic_dim": "clinic_dim"}, inputs))


@pytest.mark.parametrize("fusion", ["concat", "bilinear"])
def test_mcat_agrees_in_every_output(load_golden: Load, fusion: str) -> None:
    case = load_golden(f"mcat_{fusion}")
    inner = {
        "coattn_out": ("co_attention", lambda out: out[0]),
        "attn_path_raw": ("pathology_summary.pooling", lambda out: out[1]),
        "attn_omic_raw": ("genomic_summary.pooling", lambda out: out[1]),
    }
    sizes = {"gene_set_sizes": "omic_sizes", "fusion": "fusion"}
    attention = {"attn_coattn_raw": "genomic_to_pathology"}
    _agree_in_every_output(case, _run(case, "mcat", sizes, {"pathology": "x_path"}, attention, inner))


@pytest.mark.parametrize("name", ["porpoise", "porpoise_nogate"])
def test_porpoise_agrees_in_every_output(load_golden: Load, name: str) -> None:
    case = load_golden(name)
    sizes = {"pathology_dim": "path_input_dim", "genomic_dim": "omic_input_dim", "fusion": "fusion"}
    inputs = {"pathology": "x_path", "genomic": "x_omic"}
    found = _run(case, "porpoise", sizes, inputs, {"attn_raw": "pathology"}, gated=name == "porpoise")
    _agree_in_every_output(case, {**found, "fused": found["embedding"]})


@pytest.mark.parametrize("name", ["abmil_wsi", "abmil_concat", "abmil_bilinear"])
def test_abmil_agrees_in_every_output(load_golden: Load, name: str) -> None:
    case = load_golden(name)
    sizes = {"fusion": "fusion", "composition": "df_comp", "genomic_dim": "omic_input_dim"}
    inputs = {"pathology": "data_WSI", "genomic": "data_omics"}
    _agree_in_every_output(case, _run(case, "abmil", sizes, inputs, {"attn_raw": "pathology"}))


@pytest.mark.parametrize("name", ["transmil_37", "transmil_300"])
def test_transmil_agrees_in_every_output(load_golden: Load, name: str) -> None:
    case = load_golden(name)
    inner = {
        "layer1_cls": ("layer1", lambda out: out[:, 0]),
        "pos_layer_first3": ("positions", lambda out: out[:, :3]),
    }
    sizes = {"pathology_dim": "input_dim", "n_bins": "n_classes"}
    _agree_in_every_output(case, _run(case, "transmil", sizes, {"pathology": "data_WSI"}, inner=inner))


UNUSED = {
    "mlppc_concat": ("approach_b", {"dim": 32, "pathology_dim": 48, "clinic_dim": 24}, "layer_norm.running"),
    "porpoise_nogate": (
        "porpoise",
        {"pathology_dim": 48, "genomic_dim": 30, "gated": False},
        "mm.linear_z3.0.bias",
    ),
    "mlpwsi": ("mlp_pathology", None, "feed_forward.net.9.bias"),
}


@pytest.mark.parametrize("name", UNUSED)
def test_only_the_known_unused_keys_are_dropped(load_golden: Load, name: str) -> None:
    case = load_golden(name)
    model, sizes, surprise = UNUSED[name]
    if sizes is None:
        sizes = {ours: case["meta"]["constructor"][theirs] for ours, theirs in WSI.items()}
    state = {**_tensors(case["weights"]), surprise: torch.zeros(1)}
    with pytest.raises(BundleError, match="left over"):
        load_published_state_dict(build_model(model, **sizes), state)


def test_weights_that_do_not_fit_are_named(load_golden: Load) -> None:
    case = load_golden("survpgc_f_small")
    model = build_model("survpgc", dim=32, pathology_dim=48, clinic_dim=40, genomic_dim=56)
    state = _tensors(case["weights"])
    state["surprise"] = torch.zeros(1)
    del state["layer_norm.bias"]
    state["to_logits.0.bias"] = torch.zeros(3)
    with pytest.raises(BundleError, match=r"final_norm\.bias.*surprise.*head\.0\.bias is \(3,\), not \(8,\)"):
        load_published_state_dict(model, state)
