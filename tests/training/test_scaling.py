"""Nothing of a test patient changes a weight; each fold model keeps the scale of its own training patients."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort.folds import make_folds, write_folds
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import CohortError
from napari_survpgc.training.crossval import train
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.runs.held_out import HeldOutPredictor
from napari_survpgc.training.runs.run_folder import read_run
from napari_survpgc.training.settings import Settings, load_settings, same_settings, settings_toml

from .test_train import GENES, make_cohort


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cohort with TPM, and the same with everything of the test patients of fold 0 changed."""
    folder = tmp_path_factory.mktemp("scaling")
    first = make_cohort(folder / "a" / "cohort", n=36)
    rng = np.random.default_rng(1)
    table = pd.read_csv(first / "expression.csv.gz")
    table[GENES] = np.exp2(table[GENES] + 4).round(3)
    table.to_csv(first / "expression.csv.gz", index=False)
    write_folds(make_folds(read_cohort(first), 3, seed=0, by="event"), first / "folds")
    second = folder / "b" / "cohort"
    shutil.copytree(first, second)
    tested = read_cohort(first).folds[0].test
    patients = pd.read_csv(second / "patients.csv", dtype=str, keep_default_na=False).set_index("case_id")
    for case in tested:
        patients.loc[case, ["survival_months", "event"]] = [
            f"{rng.uniform(1, 200):.2f}",
            str(rng.integers(0, 2)),
        ]
        patients.loc[case, ["age", "sex", "stage", "race"]] = ["33", "male", "Stage IV", "other"]
        with h5py.File(second / "features" / f"{case}.h5", "r+") as file:
            file["features"][:] = rng.normal(9, 3, file["features"].shape)
    patients.to_csv(second / "patients.csv")
    table = table.set_index("case_id")
    table.loc[list(tested)] = np.exp2(rng.normal(9, 4, (len(tested), len(GENES))))
    table.to_csv(second / "expression.csv.gz")
    return first, second


def _fold(cohort: Path, out: Path, model: str, **more: object) -> Path:
    settings = Settings(model=model, epochs=1, n_bins=2, folds=(0,), device="cpu", **more)  # type: ignore[arg-type]
    train(read_cohort(cohort), settings, out)
    return out / "folds" / "0"


@pytest.mark.parametrize("model", ["survpgc_gene_sets", "survpgc", "cox_clinic", "cox_multimodal"])
def test_no_weight_knows_anything_of_the_test_patients(
    cohorts: tuple[Path, Path], tmp_path: Path, model: str
) -> None:
    more = {"model_config": {"dim": 8}} if model.startswith("survpgc") else {}
    first, second = (_fold(c, tmp_path / str(k), model, **more) for k, c in enumerate(cohorts))
    kept = [json.loads((place / "fold.json").read_text()) for place in (first, second)]
    for facts in kept:
        facts.pop("test_c_index")
    assert kept[0] == kept[1]
    if more:
        assert (first / "weights.safetensors").read_bytes() == (second / "weights.safetensors").read_bytes()
    tables = [pd.read_csv(place / "predictions.csv") for place in (first, second)]
    pd.testing.assert_frame_equal(*(t[t["split"] == "train"] for t in tables), check_exact=True)
    assert not tables[0][tables[0]["split"] == "test"].equals(tables[1][tables[1]["split"] == "test"])


def test_the_published_scale_of_the_whole_cohort_does_know(
    cohorts: tuple[Path, Path], tmp_path: Path
) -> None:
    places = [
        _fold(c, tmp_path / str(k), "survpgc_gene_sets", model_config={"dim": 8}, scaling="cohort")
        for k, c in enumerate(cohorts)
    ]
    first, second = ((place / "weights.safetensors").read_bytes() for place in places)
    assert first != second
    assert not (places[0] / "genes.csv").exists()


def test_a_bundle_keeps_the_scale_of_each_fold_and_predicts_what_the_run_says(
    cohorts: tuple[Path, Path], tmp_path: Path
) -> None:
    cohort = read_cohort(cohorts[0])
    settings = Settings(model="survpgc_gene_sets", model_config={"dim": 8}, epochs=1, n_bins=2, device="cpu")
    train(cohort, settings, tmp_path / "run")
    run = read_run(tmp_path / "run")
    bundle = make_bundle(tmp_path / "run", tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["format"] == 2
    assert bundle.gene_reference is not None
    assert len(bundle.gene_reference.folds) == 3
    for one, fold in zip(bundle.gene_reference.folds, cohort.folds, strict=True):
        assert cohort.expression is not None
        logs = np.log2(cohort.expression.loc[list(fold.train), list(bundle.gene_reference.genes)] + 1)
        np.testing.assert_allclose(one.mean, logs.mean(), rtol=1e-12)
    with HeldOutPredictor(run, cohort) as predictor:  # refuses a risk that is not the saved one
        for fold in cohort.folds:
            predictor.predict(fold.test[0])
    assert load_bundle(tmp_path / "bundle").gene_reference is not None


def test_a_run_that_did_not_say_was_scaled_by_the_cohort(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    text = settings_toml(Settings(model="mlp_genomic", scaling="cohort"))
    path.write_text(text.replace('scaling = "cohort"\n', ""))
    assert same_settings(path, text)
    assert not same_settings(path, settings_toml(Settings(model="mlp_genomic")))
    assert load_settings(path, kept=True).scaling == "cohort"
    with pytest.raises(CohortError, match="scaling"):
        Settings(model="mlp_genomic", scaling="mine")
