"""run.json and fold.json: what is written comes back, what is damaged is said in one sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_survpgc.core.bundle.config import EncoderSpec
from napari_survpgc.core.clinical.encoding import fit_encoding
from napari_survpgc.core.errors import BundleError, CohortError
from napari_survpgc.core.types import ClinicalRecord, ExpressionUnit
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.runs.record import (
    ExpressionFacts,
    FoldRecord,
    RunRecord,
    read_fold_record,
    read_run_record,
    write_fold_record,
    write_run_record,
)

RECORD = RunRecord(
    version="0.2.0",
    cohort="lihc",
    model="survpgc",
    model_config={"dim": 16, "fusion": None},
    encoders={"pathology": EncoderSpec("uni", 1024, patch_px=256, mpp=0.5)},
    protocol="honest",
    folds=(0, 1),
    edges=((0.0, 12.0, 30.0), (0.0, 11.0, 28.5)),
    epochs_kept=(3, 4),
    c_index=(0.625, None),
    n_patients=40,
    left_out={"P3": "no slide"},
    vocabulary={"sex": ("female", "male")},
    expression=ExpressionFacts(0.5, ExpressionUnit.TPM, 1e6),
    notes=("Read as TPM",),
)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_run_record(tmp_path, RECORD)
    assert read_run_record(tmp_path) == RECORD
    encoding = fit_encoding([ClinicalRecord(age=50, sex="male"), ClinicalRecord(age=70)])
    facts = {
        "clinical_encoding": encoding,
        "coefficients": {"age": np.float64(0.25)},
        "penalty": np.float32(2),
    }
    write_fold_record(tmp_path, FoldRecord((0.0, 12.0, 30.0), 7, None), facts)
    assert read_fold_record(tmp_path) == FoldRecord((0.0, 12.0, 30.0), 7, None, encoding)
    kept = json.loads((tmp_path / "fold.json").read_text())
    assert list(kept) == ["edges", "epoch", "test_c_index", "clinical_encoding", "coefficients", "penalty"]
    assert kept["coefficients"] == {"age": 0.25}


def test_what_does_not_apply_is_left_out_and_what_is_not_known_is_null(tmp_path: Path) -> None:
    plain = RunRecord(cohort="lihc", model="cox_clinic", protocol="honest", folds=(0,))
    write_run_record(tmp_path, plain)
    document = json.loads((tmp_path / "run.json").read_text())
    assert {"expression", "notes"}.isdisjoint(document)
    assert document["c_index_pooled"] is None


def _document(**changes: Any) -> str:
    whole = {"model": "survpgc", "protocol": "honest", "cohort": "lihc", "folds": [0, 1]}
    return json.dumps({name: value for name, value in {**whole, **changes}.items() if value is not ...})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_document(model=...), "model is missing"),
        (_document(folds="01"), 'folds is "01", not a list'),
        (_document(folds=[0, "1"]), r'folds\[1\] is "1", not a whole number'),
        (_document(c_index=[0.5, float("nan")]), "NaN is no number"),
        (_document(edges=[[0, True]]), r"edges\[0\]\[1\] is true, not a finite number"),
        (_document(encoders={"clinic": {"dim": 3}}), r"encoders\['clinic'\]\.id is missing"),
        (_document(encoders=[]), "encoders has another form"),
        (_document(expression={"min_gene_overlap": 0, "unit": "litre", "reference_total": 1}), '"litre", not one of'),
        (_document(format=2), "later version"),
        (_document(finished=False), "not a finished run"),
        (_document()[:-9], "not valid JSON"),
        ("", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("null", "does not hold the facts"),
        ("\ud800", "is damaged"),
        (None, "has no run.json"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_one_sentence_that_names_the_file(
    tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CohortError, match=said) as error:
        read_run_record(tmp_path)
    assert str(tmp_path) in error.value.problem
    assert "\n" not in str(error.value)


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(_document(weather="fine", edges=[[0, 12], [0, 14.5]]))
    assert read_run_record(tmp_path).edges == ((0, 12), (0, 14.5))


def test_no_bundle_is_made_of_a_run_that_is_not_finished_or_lacks_its_edges(tmp_path: Path) -> None:
    for text, said in (
        (_document(finished=False), "not a finished run"),
        (_document(), "lacks what a bundle needs"),
        (_document()[:20], "is damaged"),
    ):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(BundleError, match=said):
            make_bundle(tmp_path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
