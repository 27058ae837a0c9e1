"""Files of version 0.1.0, kept as it wrote them, open and give the numbers that they gave."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core import documents
from napari_survpgc.core.bundle import load_bundle
from napari_survpgc.core.bundle.config import config_to_json
from napari_survpgc.core.clinical import read_record
from napari_survpgc.core.features import read_features
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.genomics import read_expression
from napari_survpgc.core.jobs.results_folder import read_results
from napari_survpgc.core.output.case_file import load_case
from napari_survpgc.core.output.prediction_json import read_prediction_json
from napari_survpgc.core.predict import Predictor, what_if
from napari_survpgc.core.types import PatchFeatures, Prediction
from napari_survpgc.training.evaluation.evaluation import evaluate
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.runs.record import FORMAT, read_run_record
from napari_survpgc.training.runs.run_folder import read_run
from napari_survpgc.training.settings import going_on, load_settings, same_settings, settings_toml
from napari_survpgc.training.tables.run_store import digested

OLD = Path(__file__).parent / "data" / "version_0_1_0"
SAID: dict[str, Any] = json.loads((OLD / "expected.json").read_text())
MODELS = ("survpgc_gene_sets", "approach_c")


def _bag(*names: str) -> PatchFeatures:
    bags = [read_features(OLD / "features" / f"{name}.h5") for name in names]
    return bags[0] if len(bags) == 1 else join_slides(bags, [f"{name}.tiff" for name in names])


def _predict(model: str, features: PatchFeatures) -> Prediction:
    predictor = Predictor(load_bundle(OLD / "bundles" / model), "cpu")
    record, profile = read_record(OLD / "patient.json"), read_expression(OLD / "expression.csv")
    return predictor.predict(predictor.prepare_patient(record, profile), features)


def test_feature_files_hold_the_same_rows() -> None:
    bag = _bag("P03")
    assert bag.features.astype(float).sum() == pytest.approx(SAID["features_sum"], rel=1e-9)
    assert (bag.encoder, bag.grid.patch_px_level0, bag.grid.mpp) == ("efficientnet-lite0", 256, 0.5)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_is_known_by_its_settings(model: str) -> None:
    kept = OLD / "runs" / model / "settings.toml"
    settings = load_settings(kept, kept=True)
    assert going_on(load_settings(kept), kept) == settings
    assert same_settings(kept, settings_toml(settings))
    assert not same_settings(kept, settings_toml(dataclasses.replace(settings, alpha=0.5)))
    # The folder of a run of a table is named by a digest of this text.
    assert digested(settings) == kept.read_text()


def test_bundles_give_the_same_risk() -> None:
    one = _predict("survpgc_gene_sets", _bag("P03"))
    assert one.risk == pytest.approx(SAID["one"], abs=1e-6)
    assert one.attribution is not None
    assert one.attribution.paths == pytest.approx(SAID["attribution"], abs=1e-5)
    assert _predict("survpgc_gene_sets", _bag("P03", "P04")).risk == pytest.approx(SAID["two"], abs=1e-6)
    assert _predict("approach_c", _bag("P03")).risk == pytest.approx(SAID["approach_c"], abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_the_manifest_of_a_bundle_is_written_as_it_was(model: str) -> None:
    bundle = load_bundle(OLD / "bundles" / model)
    document = {
        "format": 1,
        "version": bundle.version,
        "files": bundle.hashes,
        **config_to_json(bundle.config),
    }
    assert documents.dump(document, sort_keys=True).encode() == (bundle.path / "bundle.json").read_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_runs_become_the_same_bundle(model: str, tmp_path: Path) -> None:
    made, old = make_bundle(OLD / "runs" / model, tmp_path / "bundle"), load_bundle(OLD / "bundles" / model)
    # What newer bundles have more: hashed ids of the patients, beside the same risks and outcomes.
    assert dataclasses.replace(made.config, salt="") == old.config
    assert {**made.hashes, "reference.csv": ""} == {**old.hashes, "reference.csv": ""}
    pd.testing.assert_frame_equal(made.reference[old.reference.columns], old.reference)


@pytest.mark.parametrize("model", MODELS)
def test_runs_have_the_same_scores(model: str) -> None:
    found = evaluate(read_run(OLD / "runs" / model), resamples=50)
    said = dict(SAID["runs"][model])
    assert found.pooled == pytest.approx(said.pop("pooled"), abs=1e-12)
    assert set(found.scores) == set(said)
    for name, score in found.scores.items():
        values = (score.mean, score.sd, score.interval.lower, score.interval.upper)
        expected = [math.nan if value is None else value for value in said[name]]
        assert values == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_a_run_that_states_no_format_is_a_finished_one() -> None:
    place = OLD / "runs" / "survpgc_gene_sets"
    document, record = json.loads((place / "run.json").read_text()), read_run_record(place)
    assert "format" not in document
    assert (record.format, record.finished) == (FORMAT, True)
    again = documents.unstructure(record)
    assert {name: again[name] for name in document} == document


def test_a_case_opens_with_its_answer_and_its_what_if() -> None:
    case = load_case(OLD / "results" / "one" / "case.survpgc")
    assert case.record == read_record(OLD / "patient.json")
    assert case.prediction.risk == pytest.approx(SAID["one"], abs=1e-6)
    assert case.features is not None
    fresh = _predict("survpgc_gene_sets", case.features)
    assert fresh.risk == pytest.approx(SAID["one"], abs=1e-6)
    for name, matrix in case.prediction.attention.items():
        np.testing.assert_allclose(fresh.attention[name], matrix, atol=1e-5)
    assert what_if(fresh, {"age": 95}).risk != fresh.risk


def test_results_are_listed_and_written_as_they_were() -> None:
    risks = {result.case_id: result.risk for result in read_results(OLD / "results")}
    assert risks == pytest.approx({"one": SAID["one"], "two": SAID["two"]}, abs=1e-6)
    for name, slides in (("one", ("P03.tiff",)), ("two", ("P03.tiff", "P04.tiff"))):
        path = OLD / "results" / name / "prediction.json"
        document = read_prediction_json(path)
        assert document.slide_names == slides
        assert documents.dump(document).encode() == path.read_bytes()
