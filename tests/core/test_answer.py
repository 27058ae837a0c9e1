"""What is said first of a prediction, and when nothing is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.bundle.answer import answer, answer_of, place_sentence, survival_sentence
from napari_survpgc.core.bundle.bundle import Bundle, load_bundle
from napari_survpgc.core.bundle.reference import hashed, main_stage, place_of, quality_of, with_fields
from napari_survpgc.core.features.drift import FeatureProfile
from napari_survpgc.core.output.prediction_json import read_prediction_json, write_prediction_json
from napari_survpgc.core.predict.fit import check_features
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.types import ClinicalRecord, PatchFeatures, PatchGrid
from tests.builders import tiny_bundle

RECORD = ClinicalRecord(age=60, stage="Stage IIA")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("answer") / "bundle")


def _bag(shift: float = 0.0) -> PatchFeatures:
    rows = np.random.default_rng(0).standard_normal((30, 1280)).astype(np.float32) + shift
    coords = np.stack([np.arange(30) * 256, np.zeros(30)], 1).astype(np.int32)
    return PatchFeatures(
        rows, PatchGrid(coords, 256, 0.5, 256.0), "efficientnet-lite0", np.zeros((0, 2), np.int32)
    )


def _profiled(bundle: Bundle, n_slides: int) -> Bundle:
    profile = FeatureProfile(
        np.zeros(1280, np.float32),
        np.full(1280, 0.3, np.float32),
        np.linspace(0.5, 1.5, n_slides, dtype=np.float32),
    )
    return dataclasses.replace(bundle, feature_profile=profile)


def test_a_slide_far_from_many_training_slides_is_not_answered_and_what_if_says_so_too(
    bundle: Bundle,
) -> None:
    from napari_survpgc.core.predict.what_if import what_if

    predictor = Predictor(_profiled(bundle, 19), "cpu")
    patient = predictor.prepare_patient(RECORD, None)
    far = predictor.predict(patient, _bag(5.0), attribution=False)
    near = predictor.predict(patient, _bag(), attribution=False)
    found = answer_of(far)
    assert found is not None
    assert not found.answered
    assert "unlike the training data" in found.not_answered_because[0]
    assert answer_of(near).answered  # type: ignore[union-attr]
    assert not answer_of(what_if(far, {"stage": "Stage IV"})).answered  # type: ignore[union-attr]


def test_few_training_slides_only_warn(bundle: Bundle) -> None:
    """With 18 slides more than one in twenty new ones like them lies farther out than all."""
    fit = check_features(_profiled(bundle, 18), _bag(5.0), None)
    assert fit.warnings
    assert not fit.outside


def test_prediction_json_holds_the_answer_and_is_read_back(bundle: Bundle, tmp_path: Path) -> None:
    predictor = Predictor(bundle, "cpu")
    prediction = predictor.predict(predictor.prepare_patient(RECORD, None), _bag(), attribution=False)
    path = tmp_path / "prediction.json"
    write_prediction_json(prediction, path, RECORD, ())
    document = json.loads(path.read_text())
    assert [at["months"] for at in document["survival_at"]] == [12, 36, 60]
    for at in document["survival_at"]:
        assert set(at) == {"months", "survival", "low", "high"}
        assert 0 <= at["low"] <= at["survival"] <= at["high"] <= 1
    assert document["answered"] is True
    assert document["not_answered_because"] == []
    assert set(document["model"]) == {"protocol", "c_index", "c_index_low", "c_index_high", "n_reference"}
    assert document["place"] == {"all": prediction.risk_percentile, "same_stage": None}
    assert read_prediction_json(path).answered is True


def test_an_old_bundle_says_that_it_does_not_know_stages(bundle: Bundle) -> None:
    found = answer(bundle, -2.0, RECORD, ())
    assert "bundled before stages were kept" in place_sentence(found.place, "made up", 60)
    assert bundle.held_out_risk("TCGA-AA-0001") is None


def test_the_place_among_the_same_stage_counts_its_subdivisions_together() -> None:
    stages = ["Stage I", "Stage IIA", "Stage IIB", "Stage II"] * 10
    reference = pd.DataFrame({"risk": np.arange(40.0), "stage": stages})
    place = place_of(reference, 19.5, "Stage IIC")
    assert place.n_same_stage == 30
    assert place.same_stage == pytest.approx(100 * 15 / 30)
    assert place.all == 50
    assert place_of(reference, 1.0, None).same_stage is None
    assert "Only 0" in place_of(reference, 1.0, "Stage IV").why_not


@pytest.mark.parametrize(
    ("stage", "main"),
    [
        ("Stage IIIC1", "III"),
        ("Stage IV", "IV"),
        ("stage ia", "I"),
        ("Stage 0", "0"),
        (None, None),
        (np.nan, None),
    ],
)
def test_the_main_stage_is_the_roman_number(stage: object, main: str | None) -> None:
    assert main_stage(stage) == main


def test_a_training_patient_is_known_by_a_hash_and_nobody_by_name(tmp_path: Path, bundle: Bundle) -> None:
    from napari_survpgc.core.bundle.write import write_bundle

    test = pd.DataFrame(
        {
            "case_id": ["TCGA-AA-0001", "TCGA-AA-0002"] * 10,
            "risk": np.arange(20.0),
            "survival_months": 5.0,
            "event": 1,
        }
    ).assign(case_id=lambda t: [f"{c}-{i}" for i, c in enumerate(t["case_id"])])
    fields = {"TCGA-AA-0001-0": {"age": 63.2, "sex": "male", "stage": "Stage II"}}
    config = dataclasses.replace(bundle.config, salt="abc")
    states = [{k: v for k, v in m.state_dict().items()} for m in bundle.load_models()]
    made = write_bundle(
        tmp_path / "b",
        config,
        states,
        with_fields(test, fields, "abc"),
        gene_reference=bundle.gene_reference,
        gene_sets=bundle.gene_sets,
    )
    text = (made.path / "reference.csv").read_text()
    assert "TCGA" not in text
    assert load_bundle(made.path).held_out_risk("tcga.aa.0001.0") == 0.0  # as R writes it
    assert made.held_out_risk("TCGA-ZZ-9999") is None
    assert made.reference["age"].dropna().tolist() == [65.0]
    assert hashed("a", "abc") != hashed("a", "abd")


def test_the_quality_of_a_model_without_comparable_pairs_is_unknown() -> None:
    reference = pd.DataFrame({"risk": [1.0, 2.0], "survival_months": [3.0, 3.0], "event": [0, 0]})
    found = quality_of(reference, "honest")
    assert found.c_index is None


def test_survival_is_said_in_years(bundle: Bundle) -> None:
    found = answer(bundle, -2.0, ClinicalRecord(), ())
    assert survival_sentence(found).startswith("Alive at 1 year ")
    assert any("stage is not known" in doubt for doubt in found.doubts)
