"""A run on scFoundation's tokens: from a table of expression to a bundle that predicts what the run says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import BundleError, EncoderError, ExpressionError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.jobs.cohort_risks import cohort_patient
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.predict.what_if import what_if
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit
from napari_survpgc.training.crossval import train
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.runs.held_out import HeldOutPredictor
from napari_survpgc.training.runs.run_folder import read_run
from napari_survpgc.training.settings import Settings
from tests.builders import install_scfoundation
from tests.training.test_train import make_cohort

LIST = (*(f"GENE{i}" for i in range(36)), "CD274", "TP53", "EGFR", "VEGFA")
SETTINGS = Settings(
    model="survpgc", model_config={"dim": 16}, epochs=1, n_folds=2, gene_encoder="scfoundation", device="cpu"
)


def _cohort(folder: Path, kind: str, genes: tuple[str, ...] = (*LIST[:36], "PDL1", "TP53", "NOVEL1")) -> Path:
    """Write a cohort whose table has 38 of the list's 40 genes, one under a former name, and one other gene."""
    make_cohort(folder, n=24)
    rng = np.random.default_rng(3)
    values = rng.lognormal(4, 1, (24, len(genes))) * rng.uniform(0.5, 2, (24, 1))
    if kind == "counts":
        values = values.round()
    elif kind == "log2":
        values = np.log2(values + 1).round(4)
    elif kind == "z":
        values = rng.normal(size=values.shape)
    frame = pd.DataFrame(values, columns=list(genes))
    frame.insert(0, "case_id", [f"P{i:02d}" for i in range(24)])
    frame.to_csv(folder / "expression.csv.gz", index=False)
    return folder


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install_scfoundation(tmp_path, LIST, monkeypatch)


@pytest.mark.parametrize("kind", ["counts", "tpm", "log2"])
def test_the_bundle_predicts_what_the_run_says(weights: Path, tmp_path: Path, kind: str) -> None:
    folder = _cohort(tmp_path / "cohort", kind)
    cohort = read_cohort(folder)
    steps: list[tuple[str, int, int]] = []
    result = train(cohort, SETTINGS, tmp_path / "run", progress=lambda *step: steps.append(step))
    assert ("genes", 24, 24) in steps
    assert "38 of the encoder's 40 genes were found (1 under another symbol)" in result.describe()

    make_bundle(tmp_path / "run", tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.gene_reference is not None
    scale = bundle.gene_reference.scale
    assert scale is not None
    assert scale.unit is (ExpressionUnit.COUNTS if kind == "counts" else ExpressionUnit.TPM)
    assert cohort.expression is not None
    linear = cohort.expression.drop(columns="NOVEL1").to_numpy()
    linear = 2**linear - 1 if kind == "log2" else linear
    assert scale.total == pytest.approx(np.median(linear.sum(1)))
    assert bundle.config.min_gene_overlap == 0.6
    assert bundle.config.encoders["genomic"].id == "scfoundation"

    table = pd.read_csv(tmp_path / "run" / "predictions.csv").set_index("case_id")
    predictor = Predictor(bundle, "cpu")
    for case in ("P03", "P17"):
        features = read_features(folder / "features" / f"{case}.h5")
        # Once as a person gives the file, once out of the cohort folder as the window takes it.
        for profile in (
            read_expression(folder / "expression.csv.gz", sample=case),
            cohort_patient(cohort, case).profile,
        ):
            patient = predictor.prepare_patient(cohort.records[case], profile)
            found = predictor.predict(patient, features, attribution=False)
            assert found.fold_risks[int(table["fold"][case])] == pytest.approx(table["risk"][case], abs=1e-5)
    with HeldOutPredictor(read_run(tmp_path / "run"), cohort) as held_out:
        assert held_out.predict("P05").prediction.risk == pytest.approx(table["risk"]["P05"], abs=1e-5)


def test_an_average_patient_stands_for_a_missing_file_and_z_scores_change_single_genes(
    weights: Path, tmp_path: Path
) -> None:
    folder = _cohort(tmp_path / "cohort", "tpm")
    cohort = read_cohort(folder)
    train(cohort, SETTINGS, tmp_path / "run")
    predictor = Predictor(make_bundle(tmp_path / "run", tmp_path / "bundle"), "cpu")
    reference = predictor.bundle.gene_reference
    assert reference is not None
    assert reference.mean is not None
    assert reference.sd is not None
    features = read_features(folder / "features" / "P03.h5")
    record = cohort.records["P03"]
    average = predictor.predict(predictor.prepare_patient(record, None), features)
    assert average.attribution is not None
    for name, share in average.attribution.tokens.items():
        if name.startswith("genomic:"):
            assert share == pytest.approx(0, abs=1e-6), "an average patient is not unlike an average one"

    changed = what_if(average, genes={"TP53": 2.0})
    k = reference.genes.index("TP53")
    log2 = reference.mean.copy()
    log2[k] += 2 * reference.sd[k]
    same = ExpressionProfile(
        dict(zip(reference.genes, log2.tolist(), strict=True)),
        ExpressionUnit.LOG2_TPM,
        True,
        "P03",
        "made.csv",
    )
    given = predictor.predict(predictor.prepare_patient(record, same), features, attribution=False)
    assert changed.risk == pytest.approx(given.risk, abs=1e-5)
    assert changed.risk != pytest.approx(average.risk, abs=1e-7)

    few = ExpressionProfile(dict.fromkeys(LIST[:20], 3.0), ExpressionUnit.TPM, True, "s", "panel.csv")
    with pytest.raises(ExpressionError, match=r"panel\.csv has 20 of the model's 38 genes"):
        predictor.prepare_patient(record, few)
    z = ExpressionProfile(dict.fromkeys(LIST, 0.1), ExpressionUnit.ZSCORE, True, "s", "z.csv")
    with pytest.raises(ExpressionError, match=r"z\.csv holds z-scores, but .*\. Give counts, TPM or FPKM"):
        predictor.prepare_patient(record, z)


def test_a_table_that_it_cannot_read_is_refused_before_anything_is_trained(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExpressionError, match=r"cohort z holds z-scores, but the gene encoder scfoundation"):
        train(read_cohort(_cohort(tmp_path / "z", "z")), SETTINGS, tmp_path / "run")
    panel = _cohort(tmp_path / "panel", "tpm", LIST[:20])
    with pytest.raises(ExpressionError, match="expression of panel has 20 of the 40 genes that scFoundation"):
        train(read_cohort(panel), SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_the_weights_says_so(weights: Path, tmp_path: Path) -> None:
    shutil.rmtree(weights)
    with pytest.raises(EncoderError, match="weights of scFoundation are not on this machine"):
        train(read_cohort(_cohort(tmp_path / "cohort", "tpm")), SETTINGS, tmp_path / "run")


def test_a_bundle_without_its_total_is_refused(weights: Path, tmp_path: Path) -> None:
    folder = _cohort(tmp_path / "cohort", "tpm")
    train(read_cohort(folder), SETTINGS, tmp_path / "run")
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    del document["expression"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(document))
    predictor = Predictor(make_bundle(tmp_path / "run", tmp_path / "bundle"), "cpu")
    patient = predictor.prepare_patient(read_cohort(folder).records["P03"], None)
    with pytest.raises(BundleError, match="does not keep what scfoundation needs"):
        predictor.predict(patient, read_features(folder / "features" / "P03.h5"))
