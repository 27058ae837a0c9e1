"""Checkpoints as the authors save them, whole modules of classes that are not here, become bundles that predict."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from napari_survpgc.cli import run
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.checkpoints.importing import ImportFacts, import_checkpoint
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.models import build_model
from tests.builders import tissue_image, write_tiff

Load = Callable[[str], dict[str, Any]]
N_GENES = 40
GENES = [f"GENE{i}" for i in range(N_GENES)]


@pytest.fixture(scope="module")
def load_golden(shared_dir: Path) -> Load:
    folder = shared_dir / "golden"
    spec = importlib.util.spec_from_file_location("golden_io", folder / "golden_io.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name: module.load_case(str(folder / f"{name}.json"))


def _module(weights: Mapping[str, Any]) -> nn.Module:
    """Return a module tree with these parameter names, of a class that no reader could import."""
    invented = type("Invented", (nn.Module,), {"__module__": "authors.models", "__qualname__": "Invented"})
    root = invented()
    for name, value in weights.items():
        *parents, last = name.split(".")
        at = root
        for part in parents:
            if part not in at._modules:
                at.add_module(part, nn.Module())
            at = at._modules[part]
        at.register_parameter(last, nn.Parameter(torch.as_tensor(value), requires_grad=False))
    root.loss_history, root.size = [1.0], torch.Size([3])
    return root


def _save(weights: Mapping[str, Any], path: Path, whole: bool = True) -> Path:
    import sys
    import types

    state = {k: torch.as_tensor(v) for k, v in weights.items()}
    model = _module(weights)
    package, models = types.ModuleType("authors"), types.ModuleType("authors.models")
    models.Invented = type(model)  # type: ignore[attr-defined]  # pickle looks it up while saving only
    sys.modules.update({"authors": package, "authors.models": models})
    try:
        torch.save(model if whole else state, path)
    finally:
        del sys.modules["authors"], sys.modules["authors.models"]
    return path


def _reference(folder: Path) -> Path:
    path = folder / "reference.csv"
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "risk": rng.uniform(-3.5, -0.5, 30),
            "survival_months": rng.uniform(1, 90, 30).round(1),
            "event": [0, 1] * 15,
        }
    )
    table.to_csv(path, index=False)
    return path


def _genes(folder: Path, count: int) -> Path:
    path = folder / f"genes{count}.txt"
    path.write_text("".join(f"{g}\n" for g in GENES[:count]))
    return path


def _gmt(folder: Path, sizes: list[int]) -> Path:
    path = folder / "sets.gmt"
    starts = np.cumsum([0, *sizes])
    lines = ["\t".join([f"set{i}", "", *GENES[starts[i] : starts[i] + n]]) for i, n in enumerate(sizes)]
    path.write_text("\n".join(lines))
    return path


def _facts(folder: Path, **more: Any) -> ImportFacts:
    given: dict[str, Any] = {
        "bin_edges": (12.0, 24.0, 36.0), "reference": _reference(folder), "image_encoder": "theirs", "patch_px": 256,
        "mpp": 0.5, "text_encoder": "their-text", "gene_encoder": "their-genes", "genes": _genes(folder, N_GENES),
        **more,
    }  # fmt: skip
    return ImportFacts(**given)


SIX = [5, 9, 4, 12, 7, 3]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "survpgc_f_small": ("survpgc", {}),
    "survpgc_f_full": ("survpgc", {"image_encoder": "uni", "text_encoder": "conch", "gene_encoder": "scfoundation"}),
    "survpc_f": ("survpc", {}),
    "survgc_f": ("survgc", {}),
    "survpath": ("survpath", {"sets": SIX}),
    "mcat_concat": ("mcat", {"sets": SIX}),
    "mcat_bilinear": ("mcat", {"sets": SIX}),
    "porpoise": ("porpoise", {"n_genes": 30}),
    "porpoise_nogate": ("porpoise", {"n_genes": 30, "sizes": {"gated": False}}),
    "abmil_wsi": ("abmil", {}),
    "abmil_concat": ("abmil", {"n_genes": 20, "composition": True}),
    "abmil_bilinear": ("abmil", {"n_genes": 20, "composition": True}),
    "transmil_37": ("transmil", {}),
    "mlpwsi": ("mlp_pathology", {}),
    "mlpsingle": ("mlp_clinic", {}),
    "snnsingle": ("snn_clinic", {}),
    "mlpomics": ("mlp_genomic", {"n_genes": 50}),
    "snnomics": ("snn_genomic", {"n_genes": 50}),
    "snnomics_big": ("snn_genomic", {"n_genes": 50}),
}  # fmt: skip


def _case(case: dict[str, Any], folder: Path, options: dict[str, Any]) -> ImportFacts:
    more = dict(options)
    if "sets" in more:
        more["gene_sets"] = _gmt(folder, more.pop("sets"))
    if "n_genes" in more:
        path = folder / "genes.csv"
        count = more.pop("n_genes")
        pd.DataFrame({"gene": [f"GENE{i}" for i in range(count)], "mean": 2.0, "sd": 1.5}).to_csv(
            path, index=False
        )
        more["genes"] = path
    if more.pop("composition", False):
        member = np.array(case["meta"]["constructor"]["df_comp"])
        lines = [
            "\t".join([f"p{j}", "", *[f"GENE{i}" for i in np.flatnonzero(member[:, j])]]) for j in range(5)
        ]
        (folder / "sets.gmt").write_text("\n".join(lines))
        more["gene_sets"] = folder / "sets.gmt"
    return _facts(folder, **more)


@pytest.mark.parametrize("whole", [True, False], ids=["whole module", "state dict"])
@pytest.mark.parametrize("name", CASES)
def test_every_published_system_becomes_a_bundle_that_computes_the_same(
    load_golden: Load, tmp_path: Path, name: str, whole: bool
) -> None:
    case = load_golden(name)
    model, options = CASES[name]
    file = _save(case["weights"], tmp_path / "s_0_checkpoint.pt", whole)
    done = import_checkpoint([file, file], model, tmp_path / "bundle", _case(case, tmp_path, options))
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.config == done.bundle.config
    assert len(bundle.load_models()) == 2
    assert bundle.config.bin_edges_months[:4] == (0, 12, 24, 36)
    assert bundle.config.bin_edges_months[4] == bundle.reference["survival_months"].max()
    x = {key: torch.from_numpy(value) for key, value in case["in"].items()}
    given: dict[str, Any] = {}
    names = {"x_path": "pathology", "data_WSI": "pathology", "x_clinic": "clinic", "x_omic": "genomic"}
    for key, modality in {**names, "data_omics": "genomic"}.items():
        if key in x:
            given[modality] = x[key]
    if "pathology" in given:
        given["pathology"] = given["pathology"].reshape(-1, *given["pathology"].shape[-2:])
    if "x_omic1" in x:
        given["genomic"] = [x[f"x_omic{i + 1}"][None] for i in range(len(SIX))]
    out = bundle.load_models()[1](**given)
    expected = case["out"]["logits"]
    atol = case["meta"]["out"]["logits"]["atol"]
    np.testing.assert_allclose(out.logits.numpy().reshape(expected.shape), expected, rtol=0, atol=atol)


def test_what_a_checkpoint_cannot_say_is_asked_for_at_once(load_golden: Load, tmp_path: Path) -> None:
    file = _save(load_golden("survpgc_f_small")["weights"], tmp_path / "m.pt")
    with pytest.raises(BundleError) as caught:
        import_checkpoint([file], "survpgc", tmp_path / "b", ImportFacts())
    for option in ("--bin-edges (the 3 inner", "--reference", "--image-encoder (its features are 48 wide)", "--patch-px",
                   "--mpp", "--text-encoder", "--gene-encoder", "--genes"):  # fmt: skip
        assert option in caught.value.problem
    assert not (tmp_path / "b").exists()
    file = _save(load_golden("survpath")["weights"], tmp_path / "p.pt")
    with pytest.raises(BundleError, match="--gene-sets"):
        import_checkpoint([file], "survpath", tmp_path / "b", ImportFacts())


def test_another_system_is_named(load_golden: Load, tmp_path: Path) -> None:
    file = _save(load_golden("survpc_f")["weights"], tmp_path / "m.pt")
    with pytest.raises(
        BundleError, match=r"m\.pt.*survpgc.*gene_projection_net\.0\.weight.*begins with .*--model survpc:"
    ):
        import_checkpoint([file], "survpgc", tmp_path / "b", _facts(tmp_path))
    weights = dict(load_golden("survpgc_f_small")["weights"])
    file = _save({**weights, "surprise": np.zeros(1, np.float32)}, tmp_path / "n.pt")
    with pytest.raises(BundleError, match=r"n\.pt.*left over: surprise"):
        import_checkpoint([file], "survpgc", tmp_path / "b", _facts(tmp_path))
    del weights["layer_norm.bias"]
    file = _save(weights, tmp_path / "o.pt")
    with pytest.raises(BundleError, match=r"missing: feed_forward\.final_norm\.bias"):
        import_checkpoint([file], "survpgc", tmp_path / "b", _facts(tmp_path))
    for model in ("approach_b", "approach_c", "survpgc_gene_sets"):
        with pytest.raises(BundleError, match="cannot become a bundle"):
            import_checkpoint([file], model, tmp_path / "b", _facts(tmp_path))
    with pytest.raises(BundleError, match="no model named"):
        import_checkpoint([file], "os.system", tmp_path / "b", _facts(tmp_path))


def test_shapes_that_ask_for_a_giant_are_refused(load_golden: Load, tmp_path: Path) -> None:
    weights = dict(load_golden("survpgc_f_small")["weights"])
    weights["wsi_projection_net.0.weight"] = np.zeros((200_000, 1), np.float32)
    file = _save(weights, tmp_path / "m.pt")
    with pytest.raises(BundleError, match="do not fit together"):
        import_checkpoint([file], "survpgc", tmp_path / "b", _facts(tmp_path))


def test_folds_of_two_models_are_refused(load_golden: Load, tmp_path: Path) -> None:
    files = [_save(load_golden(f"survpgc_f_{n}")["weights"], tmp_path / f"{n}.pt") for n in ("small", "full")]
    with pytest.raises(BundleError, match=r"full\.pt has another dim than small\.pt"):
        import_checkpoint(files, "survpgc", tmp_path / "b", _facts(tmp_path))


def _bad(folder: Path, name: str) -> tuple[ImportFacts, str]:
    def table(text: str) -> Path:
        (folder / "t.csv").write_text(text)
        return folder / "t.csv"

    match name:
        case "too few edges":
            return _facts(folder, bin_edges=(12.0, 24.0)), "has 2 values, but the checkpoint has 4 intervals"
        case "edges that fall":
            return _facts(folder, bin_edges=(12.0, 36.0, 24.0)), "does not increase"
        case "edges beyond the follow-up":
            return _facts(folder, bin_edges=(12.0, 24.0, 300.0)), "does not increase"
        case "reference without risks":
            return _facts(folder, reference=table("survival_months,event\n1,1\n")), "lacks risk"
        case "reference with text":
            return _facts(folder, reference=table("risk,survival_months,event\n-1,2,dead\n")), "Row 2"
        case "risks of another kind":
            return _facts(
                folder, reference=table("risk,survival_months,event\n1.3,2,1\n")
            ), "between -4 and 0"
        case "no such reference":
            return _facts(folder, reference=folder / "nowhere.csv"), "cannot be read"
        case "another width":
            return _facts(folder, image_encoder="virchow2"), "gives 2560 numbers.*trained on 48"
        case "repeated gene":
            return _facts(folder, genes=table("gene\nA\nB\nA\n")), "the gene A twice"
        case "unknown setting":
            return _facts(folder, sizes={"colour": 3}), "colour"
        case _:
            return _facts(folder, templates=folder / "none.toml"), "none.toml"


@pytest.mark.parametrize(
    "name",
    ["too few edges", "edges that fall", "edges beyond the follow-up", "reference without risks", "reference with text",
     "risks of another kind", "no such reference", "another width", "repeated gene", "unknown setting", "no templates"],
)  # fmt: skip
def test_bad_facts_are_refused_in_one_sentence(load_golden: Load, tmp_path: Path, name: str) -> None:
    from napari_survpgc.core.errors import SurvPGCError

    file = _save(load_golden("survpgc_f_small")["weights"], tmp_path / "m.pt")
    facts, message = _bad(tmp_path, name)
    with pytest.raises(SurvPGCError, match=message):
        import_checkpoint([file], "survpgc", tmp_path / "b", facts)
    assert not (tmp_path / "b").exists()


def test_gene_sets_of_other_sizes_are_named(load_golden: Load, tmp_path: Path) -> None:
    file = _save(load_golden("survpath")["weights"], tmp_path / "m.pt")
    facts = _facts(tmp_path, gene_sets=_gmt(tmp_path, [5, 9, 4, 11, 7, 3]))
    with pytest.raises(BundleError, match="set3 has 11 genes, but its part of the checkpoint takes 12"):
        import_checkpoint([file], "survpath", tmp_path / "b", facts)
    facts = _facts(tmp_path, gene_sets=_gmt(tmp_path, [5, 9]))
    with pytest.raises(BundleError, match="has 2 gene sets, but the checkpoint 6"):
        import_checkpoint([file], "survpath", tmp_path / "b", facts)


# --- the command line ---------------------------------------------------------------------------------------


def _published_names(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of our SurvPGC under the authors' names."""
    theirs = {
        "genomic_projection.": "gene_projection_net.0.", "pathology_projection.": "wsi_projection_net.0.",
        "clinic_projection.": "clinic_projection_net.0.", "genomic_attention.norm.": "cross_attender1.norm.",
        "genomic_attention.to_qkv.": "cross_attender1.attn.to_qkv.", "clinic_attention.norm.": "cross_attender2.norm.",
        "clinic_attention.to_qkv.": "cross_attender2.attn.to_qkv.", "feed_forward.norm.": "feed_forward.norm.",
        "feed_forward.inner.": "feed_forward.net.0.", "feed_forward.outer.": "feed_forward.net.3.",
        "feed_forward.final_norm.": "layer_norm.", "head.": "to_logits.",
    }  # fmt: skip
    return {
        next(t + key[len(o) :] for o, t in theirs.items() if key.startswith(o)): value
        for key, value in model.state_dict().items()
    }


def _arguments(folder: Path, *files: Path) -> list[str]:
    return [
        "import-checkpoint", *map(str, files), "--model", "survpgc", "--bin-edges", "12,24,36",
        "--reference", str(_reference(folder)), "--image-encoder", "efficientnet-lite0", "--text-encoder", "minilm",
        "--gene-encoder", "gene-projection", "--genes", str(_genes(folder, N_GENES)), "--patch-px", "256",
        "--mpp", "0.5", "--name", "Theirs", "--out", str(folder / "bundle"),
    ]  # fmt: skip


def test_an_imported_checkpoint_predicts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    files = []
    for fold in range(2):
        model = build_model(
            "survpgc", dim=16, pathology_dim=1280, clinic_dim=384, genomic_dim=768
        ).requires_grad_(False)
        files.append(_save(_published_names(model), tmp_path / f"s_{fold}_checkpoint.pt"))
    assert run(_arguments(tmp_path, *files)) == 0
    said = capsys.readouterr().out
    assert "Bundle 'Theirs' with 2 fold models" in said
    assert "dim 16" in said
    write_tiff(tmp_path / "slide.tiff", tissue_image(1024, 1024))
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["features"] = rng.normal(size=(9, 1280)).astype(np.float32)
        file["features"].attrs["encoder"] = "efficientnet-lite0"
        file["coords"] = np.stack(np.meshgrid([0, 256, 512], [0, 256, 512]), -1).reshape(-1, 2)
        file["coords"].attrs.update(patch_size=256, patch_size_level0=256)
    (tmp_path / "record.json").write_text('{"age": 58, "sex": "female"}')
    (tmp_path / "z.csv").write_text(
        "gene,z-score\n" + "".join(f"{g},{i % 5 - 2}\n" for i, g in enumerate(GENES))
    )
    predict = [
        "predict", str(tmp_path / "slide.tiff"), "--clinical", str(tmp_path / "record.json"), "--device", "cpu",
        "--expression", str(tmp_path / "z.csv"), "--features", str(tmp_path / "f.h5"), "--bundle",
        str(tmp_path / "bundle"), "--out", str(tmp_path / "result"), "--no-attribution",
    ]  # fmt: skip
    assert run(predict) == 0
    document = json.loads((tmp_path / "result" / "prediction.json").read_text())
    assert len(document["fold_risks"]) == 2
    assert document["bundle"]["name"] == "Theirs"
    assert 0 <= document["risk_percentile"] <= 100


def test_bad_checkpoints_end_in_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "words.pt").write_text("these are words")
    assert run(_arguments(tmp_path, tmp_path / "words.pt")) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("survpgc: words.pt cannot be read as a checkpoint")
    assert "\n" not in error
    assert not (tmp_path / "bundle").exists()
    assert run(["import-checkpoint", "x.pt", "--model", "survpgc", "--out", "b", "--bin-edges", "a,b"]) == 2
    assert "list of numbers" in capsys.readouterr().err
    assert run([*_arguments(tmp_path, tmp_path / "words.pt"), "--set", "gated"]) == 2
    assert "--set gated has no value" in capsys.readouterr().err
