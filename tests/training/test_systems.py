"""What every system of the trainer must do, networks and Cox models alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import BundleError, SurvPGCError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.models import MODELS, model_class
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.predict.what_if import what_if
from napari_survpgc.training.crossval import train
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.settings import Settings, load_settings
from napari_survpgc.training.systems import SYSTEMS, build_system, system_module

from .test_train import make_cohort

DESIGN = {
    "survpgc", "survpgc_gene_sets", "survpc", "survgc", "approach_a", "approach_b", "approach_c", "survpath", "mcat",
    "porpoise", "abmil", "transmil", "mlp_pathology", "mlp_clinic", "snn_clinic", "mlp_genomic", "snn_genomic",
    "cox_clinic", "cox_elastic_net", "cox_clinic_risk",
}  # fmt: skip


@pytest.fixture(scope="module")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("systems") / "cohort")


@pytest.fixture(scope="module")
def risk_run(cohort_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("risk") / "run"
    train(read_cohort(cohort_dir), Settings(model="mlp_pathology", epochs=8, n_folds=2), out)
    return out


def _takes_run(model: str) -> bool:
    return "run" in getattr(system_module(model), "OPTIONS", {})


def _settings(model: str, risk_run: Path, **more: Any) -> Settings:
    config = dict(model_class(model).SMALL if model in MODELS else getattr(system_module(model), "SMALL", {}))
    if _takes_run(model):
        config["run"] = str(risk_run)
    config.update(more.pop("model_config", {}))
    return Settings(**{"model": model, "model_config": config, "epochs": 2, "n_folds": 2, **more})


def test_every_system_of_the_design_is_there() -> None:
    assert set(SYSTEMS) >= DESIGN


@pytest.mark.parametrize("model", sorted(SYSTEMS))
def test_every_system_trains_into_the_same_run_folder_and_predicts_from_its_bundle(
    cohort_dir: Path, tmp_path: Path, model: str, request: pytest.FixtureRequest
) -> None:
    cohort = read_cohort(cohort_dir)
    settings = _settings(model, request.getfixturevalue("risk_run") if _takes_run(model) else tmp_path)
    result = train(cohort, settings, tmp_path / "run")
    assert len(result.c_index) == 2
    assert all(0 <= value <= 1 for value in result.c_index)
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert sorted(table["case_id"]) == sorted(cohort.patients.index)
    hazards = table[[f"hazard_{k}" for k in range(4)]].to_numpy()
    assert ((hazards >= 0) & (hazards <= 1)).all()
    np.testing.assert_allclose(table["risk"], -np.cumprod(1 - hazards, axis=1).sum(1), atol=1e-12)
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert document["model"] == model
    assert document["model_config"]["n_bins"] == 4
    for fold in (0, 1):
        own = json.loads((tmp_path / "run" / "folds" / str(fold) / "fold.json").read_text())
        assert len(own["edges"]) == 5
        parts = pd.read_csv(tmp_path / "run" / "folds" / f"fold_{fold}.csv")
        assert set(parts["split"]) == {"train", "test"}
    before = (tmp_path / "run" / "predictions.csv").read_bytes()
    train(cohort, settings, tmp_path / "run")  # a finished run is read back
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == before
    if model not in MODELS:
        with pytest.raises(BundleError, match="cannot become a bundle"):
            make_bundle(tmp_path / "run", tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
        return
    make_bundle(tmp_path / "run", tmp_path / "bundle")
    _predicts_the_same(cohort_dir, tmp_path / "bundle", table)


def _predicts_the_same(cohort_dir: Path, bundle: Path, table: pd.DataFrame) -> None:
    """The bundle, fed with the files of a test patient, says what the trainer's table says."""
    predictor = Predictor(load_bundle(bundle), "cpu")
    cohort = read_cohort(cohort_dir)
    for case in ("P03", "P41"):
        row = table[table["case_id"] == case].iloc[0]
        profile = read_expression(cohort_dir / "expression.csv.gz", sample=case)
        patient = predictor.prepare_patient(cohort.records[case], profile)
        features = read_features(cohort_dir / "features" / f"{case}.h5")
        prediction = predictor.predict(patient, features)
        assert prediction.fold_risks[int(row["fold"])] == pytest.approx(row["risk"], abs=1e-5)
        assert prediction.attribution is not None
        size = abs(prediction.risk) * 0.02 + 1e-3
        assert all(error < size for error in prediction.attribution.completeness_error.values())
        for name, matrix in prediction.attention.items():
            assert matrix.shape == (len(prediction.token_names[name]), len(features.grid))
        older = what_if(prediction, {"age": 95})
        looks_at_record = "clinic" in predictor.bundle.config.encoders
        assert (older.risk != prediction.risk) == looks_at_record


@pytest.mark.parametrize("fusion", ["concat", "bilinear"])
def test_abmil_fuses_the_genes_of_the_gene_sets(
    cohort_dir: Path, risk_run: Path, tmp_path: Path, fusion: str
) -> None:
    settings = _settings("abmil", risk_run, model_config={"fusion": fusion}, epochs=1)
    assert build_system(settings).forms.pathways
    train(read_cohort(cohort_dir), settings, tmp_path / "run")
    make_bundle(tmp_path / "run", tmp_path / "bundle")
    _predicts_the_same(cohort_dir, tmp_path / "bundle", pd.read_csv(tmp_path / "run" / "predictions.csv"))


def test_a_system_refuses_what_it_does_not_have(cohort_dir: Path, risk_run: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_dir)
    for settings, message in (
        (_settings("survpgc_gene_sets", risk_run, model_config={"width": 3}), "no setting named width"),
        (_settings("cox_clinic", risk_run, model_config={"dim": 3}), "no setting named dim"),
        (_settings("survpath", risk_run, genomic_dropout=0.5), "cannot go without genomic"),
        (_settings("survpc", risk_run, modalities=("pathology",)), "cannot go without clinic"),
        (_settings("approach_a", risk_run, model_config={"pathology_model": "mlp_clinic"}), "slide alone"),
        (_settings("cox_clinic_risk", risk_run, model_config={"run": str(tmp_path)}), "not a finished run"),
        (
            _settings("cox_clinic", risk_run, model_config={"fields": ["height"]}),
            "no clinical field 'height'",
        ),
        (Settings(model="survpcg"), "no model named survpcg"),
    ):
        with pytest.raises(SurvPGCError, match=message):
            train(cohort, settings, tmp_path / "run")


def test_the_cox_models_rank_patients_by_what_carries_the_risk(
    cohort_dir: Path, risk_run: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_dir)
    clinic = train(cohort, _settings("cox_clinic", risk_run), tmp_path / "clinic")
    both = train(cohort, _settings("cox_clinic_risk", risk_run), tmp_path / "both")
    genes = train(cohort, _settings("cox_elastic_net", risk_run), tmp_path / "genes")
    assert clinic.pooled > 0.55
    assert both.pooled > clinic.pooled  # the slide carries risk that the record does not
    assert genes.pooled > 0.55
    kept = json.loads((tmp_path / "genes" / "folds" / "0" / "fold.json").read_text())["coefficients"]
    assert max(kept, key=lambda gene: abs(kept[gene])) == "GENE0"
    fitted = json.loads((tmp_path / "clinic" / "folds" / "0" / "fold.json").read_text())["coefficients"]
    assert fitted["age"] > 0
    assert set(fitted) == {"age", "sex=female", "stage", "staging_edition=7th", "race=white"}


def test_the_published_settings_are_the_defaults() -> None:
    settings = load_settings(None, model="survpgc")
    assert (settings.alpha, settings.lr, settings.weight_decay) == (0.0, 5e-4, 1e-3)
    assert (settings.epochs, settings.max_patches, settings.n_bins) == (20, 4096, 4)
    assert settings.batch_size == 1
