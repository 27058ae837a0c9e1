"""A bundle comes back as it was written, and refuses to be anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from napari_survpgc.core.bundle.bundle import Bundle, load_bundle
from napari_survpgc.core.bundle.config import BundleConfig, EncoderSpec
from napari_survpgc.core.bundle.write import write_bundle
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.genomics.normalize import GeneReference
from napari_survpgc.core.models import build_model
from napari_survpgc.core.types import GeneSet

SETS = (GeneSet("one", "made up", ("TP53", "EGFR")), GeneSet("two", "made up", ("MKI67",)))
SIZES = {
    "n_bins": 4,
    "dim": 16,
    "pathology_dim": 12,
    "clinic_dim": 10,
    "gene_set_sizes": [2, 1],
}


def _write(out: Path, n_folds: int = 2) -> Bundle:
    torch.manual_seed(0)
    states = [build_model("survpgc_gene_sets", **SIZES).state_dict() for _ in range(n_folds)]
    config = BundleConfig(
        name="test",
        model="survpgc_gene_sets",
        model_config=SIZES,
        encoders={
            "pathology": EncoderSpec("efficientnet-lite0", 12, patch_px=256, mpp=0.5),
            "clinic": EncoderSpec("minilm", 10, 6),
            "genomic": EncoderSpec("gene-sets", 0, 2),
        },
        bin_edges_months=(0.0, 10.0, 20.0, 40.0, 90.5),
        fold_bin_edges_months=((0.0, 10.0, 20.0, 40.0, 90.5),) * n_folds,
        endpoint="overall survival",
        cohort="made up",
        vocabulary={"sex": ("female", "male")},
        training={"seed": 0},
    )
    reference = pd.DataFrame(
        {
            "case_id": [f"P{i}" for i in range(9)],
            "fold": [0, 1, 0] * 3,
            "risk": np.linspace(-3, -1, 9),
            "survival_months": np.arange(9.0),
            "event": [0, 1, 1] * 3,
        }
    )
    genes = GeneReference(("TP53", "EGFR", "MKI67"), np.array([1.0, 2, 3]), np.array([1.0, 1, 0.5]))
    return write_bundle(out, config, states, reference, gene_reference=genes, gene_sets=SETS)


def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = _write(tmp_path / "b")
    read = load_bundle(tmp_path / "b")
    assert read.config == written.config
    assert read.gene_sets == SETS
    assert read.gene_reference is not None
    assert read.gene_reference.genes == ("TP53", "EGFR", "MKI67")
    np.testing.assert_array_equal(read.gene_reference.sd, [1, 1, 0.5])
    assert len(read.load_models()) == 2
    low, high = read.risk_cuts
    assert low == pytest.approx(-3 + 2 / 3)
    assert high == pytest.approx(-1 - 2 / 3)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    _write(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_no_identifier_of_a_patient_gets_into_the_bundle(tmp_path: Path) -> None:
    bundle = _write(tmp_path / "b")
    assert list(bundle.reference.columns) == ["fold", "risk", "survival_months", "event"]
    assert not any(b"P3" in path.read_bytes() for path in bundle.path.glob("*.csv"))


def test_a_new_bundle_replaces_an_old_one_and_leaves_no_scrap(tmp_path: Path) -> None:
    _write(tmp_path / "b", n_folds=3)
    assert len(_write(tmp_path / "b", n_folds=1).fold_files) == 1
    assert not (tmp_path / "b" / "fold_2.safetensors").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_folder_of_other_things_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle"):
        _write(tmp_path / "b")
    assert (tmp_path / "b" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["fold_1.safetensors", "reference.csv", "genes.csv", "gene_sets.gmt"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "b")
    path = tmp_path / "b" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}.*was changed"):
        load_bundle(tmp_path / "b").load_models()


def test_a_missing_weight_file_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "b")
    (tmp_path / "b" / "fold_0.safetensors").unlink()
    with pytest.raises(BundleError, match=r"lacks its file fold_0\.safetensors"):
        load_bundle(tmp_path / "b")


def _edit(folder: Path, change: object) -> None:
    path = folder / "bundle.json"
    document = json.loads(path.read_text())
    change(document)  # type: ignore[operator]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("model"), "damaged"),
        (lambda d: d.update(bin_edges_months=[0, 5, 5]), "damaged"),
        (lambda d: d.update(format=99), "format 99"),
        (lambda d: d["files"].update({"../../etc/passwd": "0"}), "outside its folder"),
        (lambda d: d["files"].pop("reference.csv"), r"reference\.csv"),
        (lambda d: d["encoders"].update(tea={"id": "x", "dim": 1}), "damaged"),
        (lambda d: d["expression"].update(unit="tpm", reference_total=0), "damaged"),
        (lambda d: d["expression"].update(unit="z-score", reference_total=9), "damaged"),
        (lambda d: d["expression"].update(reference_total=9), "damaged"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, change: object, message: str) -> None:
    _write(tmp_path / "b")
    _edit(tmp_path / "b", change)
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path / "b")


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "b")
    _edit(tmp_path / "b", lambda d: d["model"]["config"].update(dim=32))
    with pytest.raises(BundleError, match="do not fit"):
        load_bundle(tmp_path / "b").load_models()


@pytest.mark.parametrize("content", [None, "", "[]", "{", "nonsense"])
def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(BundleError):
        load_bundle(tmp_path)
    with pytest.raises(BundleError, match="no bundle folder"):
        load_bundle(tmp_path / "nowhere")
