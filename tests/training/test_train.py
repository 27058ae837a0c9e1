"""Training is repeatable, resumable, honest, and ends in a bundle that predicts the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from napari_survpgc.cli import run as run_cli
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort.folds import make_folds
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import BundleError, CancelledError, CohortError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.genomics.normalize import normalize_profile
from napari_survpgc.core.metrics import c_index
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.types import ClinicalRecord
from napari_survpgc.training.crossval import train
from napari_survpgc.training.fitting.feed import sample_patches
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.seeds import seed_of
from napari_survpgc.training.settings import Settings, load_settings, settings_toml

GENES = [f"GENE{i}" for i in range(8)]
SMALL = {"dim": 16, "dropout": 0.1}


def make_cohort(folder: Path, n: int = 60, seed: int = 0) -> Path:
    """Write a cohort in which age, a gene and the patches each carry part of the risk."""
    rng = np.random.default_rng(seed)
    age, gene, image = rng.normal(60, 12, n).round(), rng.normal(0, 1, (n, len(GENES))), rng.normal(0, 1, n)
    log_hazard = 0.8 * (age - 60) / 12 + gene[:, 0] + image
    death, censoring = rng.exponential(40, n) * np.exp(-log_hazard), rng.uniform(20, 150, n)
    ids = [f"P{i:02d}" for i in range(n)]
    folder.mkdir(parents=True)
    (folder / "features").mkdir()
    for i, case in enumerate(ids):
        rows = rng.normal(0, 1, (12, 10)).astype(np.float32)
        rows[:, 0] += 2 * image[i]
        with h5py.File(folder / "features" / f"{case}.h5", "w") as file:
            file["features"], file["coords"] = rows, np.arange(24).reshape(12, 2) * 256
            file["coords"].attrs.update({"patch_size": 256, "patch_size_level0": 256})
            file["features"].attrs["encoder"] = "efficientnet-lite0"
            file.attrs["mpp"] = 0.5
    pd.DataFrame(
        {
            "case_id": ids, "slide_ids": [f"{c}.svs" for c in ids], "age": age, "sex": "female", "stage": "Stage II",
            "staging_edition": "7th", "subtype": "", "race": "white",
            "survival_months": np.minimum(death, censoring).round(2), "event": (death <= censoring).astype(int),
            "site": "05",
        }
    ).to_csv(folder / "patients.csv", index=False)  # fmt: skip
    frame = pd.DataFrame(gene.round(4), columns=GENES)
    frame.insert(0, "case_id", ids)
    frame.to_csv(folder / "expression.csv.gz", index=False)
    (folder / "gene_sets.gmt").write_text(
        "a\t\t" + "\t".join(GENES[:4]) + "\nb\t\t" + "\t".join(GENES[4:]) + "\n"
    )
    return folder


@pytest.fixture(scope="module")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("train") / "cohort")


def _settings(**more: object) -> Settings:
    return Settings(
        **{"model": "survpgc_gene_sets", "model_config": SMALL, "epochs": 2, "n_folds": 3, **more}
    )  # type: ignore[arg-type]


def _bytes(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


def test_a_run_can_be_repeated_bit_for_bit(cohort_dir: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_dir)
    for name in "ab":
        train(cohort, _settings(), tmp_path / name)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    other = train(cohort, _settings(seed=1), tmp_path / "c")
    assert other.pooled != json.loads((tmp_path / "a" / "run.json").read_text())["c_index_pooled"]


def test_a_stopped_run_ends_where_an_unbroken_one_does(cohort_dir: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_dir)
    train(cohort, _settings(), tmp_path / "whole")
    calls = []

    def stop(stage: str, done: int, total: int) -> None:
        calls.extend([stage] * (stage != "slides"))
        if len(calls) == 3:  # after the first epoch of the second fold
            raise CancelledError

    with pytest.raises(CancelledError):
        train(cohort, _settings(), tmp_path / "broken", progress=stop)
    assert (tmp_path / "broken" / "folds" / "1" / "checkpoint.pt").is_file()
    train(cohort, _settings(), tmp_path / "broken")
    assert _bytes(tmp_path / "whole") == _bytes(tmp_path / "broken")
    with pytest.raises(CohortError, match="other settings"):
        train(cohort, _settings(epochs=3), tmp_path / "broken")


def test_the_loss_falls_and_the_training_patients_are_ranked(cohort_dir: Path, tmp_path: Path) -> None:
    settings = _settings(epochs=20, model_config={"dim": 64}, folds=(0,), lr=2e-3)
    result = train(read_cohort(cohort_dir), settings, tmp_path / "run")
    log = pd.read_csv(tmp_path / "run" / "folds" / "0" / "log.csv")
    assert log["loss"].iloc[-1] < 0.9 * log["loss"].iloc[0]
    table = pd.read_csv(tmp_path / "run" / "folds" / "0" / "predictions.csv")
    seen = table[table["split"] == "train"]
    assert c_index(seen["survival_months"], seen["event"], seen["risk"]) > 0.7
    assert "optimistic" not in result.describe()


def test_the_published_protocol_is_marked_optimistic(cohort_dir: Path, tmp_path: Path) -> None:
    result = train(
        read_cohort(cohort_dir),
        _settings(protocol="published", first_kept_epoch=0, epochs=3),
        tmp_path / "run",
    )
    assert "optimistic" in result.describe()
    log = pd.read_csv(tmp_path / "run" / "folds" / "0" / "log.csv")
    kept = json.loads((tmp_path / "run" / "folds" / "0" / "fold.json").read_text())
    best = log["test_c_index_optimistic"].max()
    assert kept["test_c_index"] == pytest.approx(best)
    assert kept["epoch"] == log.index[log["test_c_index_optimistic"] == best].max()


def test_the_bundle_predicts_what_the_trainers_table_says(cohort_dir: Path, tmp_path: Path) -> None:
    train(read_cohort(cohort_dir), _settings(), tmp_path / "run")
    bundle = make_bundle(tmp_path / "run", tmp_path / "bundle")
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    predictor = Predictor(load_bundle(tmp_path / "bundle"), "cpu")
    cohort = read_cohort(cohort_dir)
    for case in ("P03", "P17", "P41"):
        row = table[table["case_id"] == case].iloc[0]
        profile = read_expression(cohort_dir / "expression.csv.gz", sample=case)
        patient = predictor.prepare_patient(cohort.records[case], profile)
        features = read_features(cohort_dir / "features" / f"{case}.h5")
        prediction = predictor.predict(patient, features, attribution=False)
        assert prediction.fold_risks[int(row["fold"])] == pytest.approx(row["risk"], abs=1e-5)
    assert len(bundle.reference) == 60
    assert bundle.config.bin_edges_months[0] == 0
    assert not any(b"P03" in p.read_bytes() for p in bundle.path.iterdir())
    with pytest.raises(BundleError, match="not a finished run"):
        make_bundle(tmp_path, tmp_path / "x")


@pytest.mark.parametrize("model", ["mlp_clinic", "snn_genomic", "mlp_pathology"])
def test_single_modality_models_train_through_the_same_door(
    cohort_dir: Path, tmp_path: Path, model: str
) -> None:
    result = train(read_cohort(cohort_dir), Settings(model=model, epochs=1, n_folds=2), tmp_path / "run")
    assert len(result.c_index) == 2
    assert all(0 <= value <= 1 for value in result.c_index)


def test_modality_dropout_and_the_cosine_loss_run(cohort_dir: Path, tmp_path: Path) -> None:
    settings = _settings(
        genomic_dropout=0.5, clinic_dropout=0.3, beta=0.3, weighted_sampling=True, folds=(0,)
    )
    assert np.isfinite(train(read_cohort(cohort_dir), settings, tmp_path / "run").pooled)


def test_settings_survive_their_file(tmp_path: Path) -> None:
    settings = _settings(folds=(0, 2), templates='odd "name"', modalities=("clinic", "pathology"))
    (tmp_path / "s.toml").write_text(settings_toml(settings))
    assert load_settings(tmp_path / "s.toml") == settings
    odd = _settings(model_config={"dim": 16, "mlp": {"widths": [8, 4], "name": "a\nb"}, "none": None})
    (tmp_path / "s.toml").write_text(settings_toml(odd))
    assert load_settings(tmp_path / "s.toml").model_config == {"dim": 16, "mlp": odd.model_config["mlp"]}
    (tmp_path / "bad.toml").write_text("learning = 1")
    with pytest.raises(CohortError, match="unknown setting learning"):
        load_settings(tmp_path / "bad.toml", model="survpgc")
    with pytest.raises(CohortError, match="alpha must lie between 0 and 1"):
        Settings(model="survpgc", alpha=3)


def test_patches_are_drawn_in_order_without_repeats() -> None:
    import torch

    bag = torch.arange(50)[:, None]
    drawn = sample_patches(bag, 20, np.random.default_rng(0)).flatten().tolist()
    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn)
    assert sample_patches(bag, 60, np.random.default_rng(0)) is bag
    assert seed_of(1, 2) != seed_of(12) != seed_of(2, 1)


# --- cohorts ------------------------------------------------------------------------------------------------


def test_all_problems_of_a_cohort_are_told_at_once(cohort_dir: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(cohort_dir, bad)
    table = pd.read_csv(bad / "patients.csv", dtype=str)
    table.loc[0, "survival_months"] = "-3"
    table.loc[1, "survival_months"] = ""
    table.loc[2, "event"] = "2"
    table.loc[3, "age"] = "430"
    table.loc[4, "case_id"] = "P05"
    table.to_csv(bad / "patients.csv", index=False)
    (bad / "features" / "P10.h5").unlink()
    (bad / "folds").mkdir()
    (bad / "folds" / "fold_0.csv").write_text("case_id,split\nP20,train\nP20,test\nP99,train\n")
    with pytest.raises(CohortError) as error:
        read_cohort(bad)
    for words in (
        "patients P00, P01 have no usable survival_months", "patient P02 has no usable event", "P03: ", "P05 is listed twice",
        "P10 has no features for slide P10.svs", "names the unknown patient P99", "1 patients in train and in val or test",
    ):  # fmt: skip
        assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("events", "message"), [(0, "0 deaths"), (1, "1 death, at least 2")])
def test_too_few_deaths_are_said_before_training(
    cohort_dir: Path, tmp_path: Path, events: int, message: str
) -> None:
    shutil.copytree(cohort_dir, tmp_path / "c")
    table = pd.read_csv(tmp_path / "c" / "patients.csv", dtype={"site": str})
    table["event"] = [1] * events + [0] * (len(table) - events)
    table.to_csv(tmp_path / "c" / "patients.csv", index=False)
    with pytest.raises(CohortError, match=message):
        read_cohort(tmp_path / "c")


def test_damage_and_contradictions_are_told_together_before_training(
    cohort_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(cohort_dir, bad)
    table = pd.read_csv(bad / "patients.csv", dtype=str)
    table.loc[1, "slide_ids"] = "P00.svs"
    table.to_csv(bad / "patients.csv", index=False)
    cut = bad / "features" / "P02.h5"
    cut.write_bytes(cut.read_bytes()[:900])
    for i in range(3, 12):
        (bad / "features" / f"P{i:02d}.h5").unlink()
    frame = pd.read_csv(bad / "expression.csv.gz", index_col=0)
    frame.columns = [*frame.columns[:-1], frame.columns[0]]
    frame.to_csv(bad / "expression.csv.gz")
    (bad / "folds").mkdir()
    for name in ("fold_1", "fold_01"):
        (bad / "folds" / f"{name}.csv").write_text("case_id,split\nP20,train\nP21,test\n")
    assert (
        run_cli(["train", str(bad), "--model", "mlp_genomic,cox_clinic", "--out", str(tmp_path / "run")]) == 2
    )
    said = capsys.readouterr().err
    for words in (
        "slide P00.svs belongs to the patients P00 and P01", "patient P02: ", "P07 has no features", "4 more of that kind",
        "has the gene GENE0 twice", "two files of folds/ have the number 1",
    ):  # fmt: skip
        assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_values_that_are_not_there_are_told_before_training(
    cohort_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(cohort_dir, bad)
    frame = pd.read_csv(bad / "expression.csv.gz", index_col=0)
    frame.loc["elsewhere"] = np.nan  # a sample of nobody in the cohort
    frame.to_csv(bad / "expression.csv.gz")
    read_cohort(bad)
    frame.loc["P04", "GENE2"] = np.nan
    frame.to_csv(bad / "expression.csv.gz")
    line = ["train", str(bad), "--model", "mlp_pathology", "--n-folds", "2", "--out", str(tmp_path / "run")]
    assert run_cli(line) == 2
    assert "expression.csv.gz lacks 1 value, e.g. of gene GENE2 in patient P04" in capsys.readouterr().err
    shutil.copy(cohort_dir / "expression.csv.gz", bad / "expression.csv.gz")
    for case in ("P07", "P31"):
        with h5py.File(bad / "features" / f"{case}.h5", "r+") as file:
            file["features"][3, 2] = np.nan
    assert run_cli(line) == 2
    said = capsys.readouterr().err
    assert "patient P07: 1 of 12 feature rows in P07.h5 are not numbers" in said
    assert "patient P31: 1 of 12 feature rows in P31.h5 are not numbers" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run" / "folds").exists()


def _damage(raw: bytes) -> bytes:
    return raw[:60] + bytes(255 - b for b in raw[60:120]) + raw[120:]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("expression.csv.gz", _damage, "expression.csv.gz is damaged"),
        ("expression.csv.gz", lambda raw: raw[: len(raw) // 2], "expression.csv.gz is damaged"),
        ("expression.csv.gz", lambda raw: b"hello", "expression.csv.gz has one column"),
        ("patients.csv", lambda raw: b"", "patients.csv is empty"),
        ("patients.csv", lambda raw: raw.splitlines()[0] + b"\n", "patients.csv has no patients"),
        ("patients.csv", lambda raw: raw.replace(b"race", b"event", 1), "has the column event twice"),
        ("patients.csv", lambda raw: raw.replace(b"\nP05,", b"\nP05,x,y,z,", 1), "Line 7 of patients.csv has 14 cells where the header has 11"),
        ("patients.csv", lambda raw: raw.replace(b"survival_months", b"months", 1), "has no column survival_months"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_refused_in_one_sentence(
    cohort_dir: Path, tmp_path: Path, file: str, change: Callable[[bytes], bytes], message: str
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(cohort_dir, bad)
    (bad / file).write_bytes(change((bad / file).read_bytes()))
    with pytest.raises(CohortError, match=message) as error:
        read_cohort(bad)
    assert "\n" not in str(error.value)


def test_a_fold_without_deaths_to_learn_from_is_named(cohort_dir: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(cohort_dir, bad)
    patients = read_cohort(bad).patients
    dead, alive = patients.index[patients["event"] == 1], patients.index[patients["event"] == 0]
    (bad / "folds").mkdir()
    for number, learned in enumerate((list(alive), [*alive, dead[0]])):
        tested = [case for case in patients.index if case not in learned]
        rows = ["case_id,split", *(f"{c},train" for c in learned), *(f"{c},test" for c in tested)]
        (bad / "folds" / f"fold_{number}.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(CohortError, match=r"Fold 0 has 0 deaths .*; Fold 1 has 1 death among its training"):
        train(read_cohort(bad), _settings(model="cox_clinic", model_config={}), tmp_path / "run")


def test_one_model_that_cannot_be_fed_does_not_stop_the_others(
    cohort_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(cohort_dir, bare, ignore=shutil.ignore_patterns("expression*"))
    line = ["train", str(bare), "--out", str(tmp_path / "runs"), "--n-folds", "2", "--model"]
    assert run_cli([*line, "mlp_genomic,cox_clinic"]) == 2
    shown = capsys.readouterr()
    assert "survpgc: mlp_genomic: The cohort bare has no expression" in shown.err
    assert "cox_clinic: C-index" in shown.out
    assert run_cli([*line, "cox_clinic,nonsense"]) == 2
    assert "There is no model named nonsense" in capsys.readouterr().err


def test_sites_stay_text_and_folds_keep_them_together(cohort_dir: Path) -> None:
    cohort = read_cohort(cohort_dir)
    assert set(cohort.patients["site"]) == {"05"}
    folds = make_folds(cohort, 4, seed=1, val_share=0.1)
    tested = [case for fold in folds for case in fold.test]
    assert sorted(tested) == sorted(cohort.patients.index)
    for fold in folds:
        assert not set(fold.test) & (set(fold.train) | set(fold.val))
        deaths = cohort.patients.loc[list(fold.test), "event"].mean()
        assert abs(deaths - cohort.patients["event"].mean()) < 0.12
    assert make_folds(cohort, 4, seed=1, val_share=0.1) == folds


def test_real_cohorts_are_read_with_their_oddities(shared_dir: Path) -> None:
    lihc = read_cohort(shared_dir / "tcga" / "lihc")
    assert (len(lihc.patients), int(lihc.patients["event"].sum())) == (354, 125)
    assert (lihc.patients["survival_months"] == 0).sum() == 5
    tested = {case for fold in lihc.folds for case in fold.test}
    assert len(tested) == 353
    brca = read_cohort(shared_dir / "tcga" / "brca")
    assert len(brca.patients) == 1035
    assert "05" in set(brca.patients["site"]) | {"05"}
    by_site = make_folds(brca, by="site")
    sites = [set(brca.patients.loc[list(f.test), "site"]) for f in by_site]
    assert all(not a & b for i, a in enumerate(sites) for b in sites[i + 1 :])
    assert brca.records[brca.patients.index[0]] != ClinicalRecord()


def test_a_real_patient_goes_through_the_demo_bundle(shared_dir: Path) -> None:
    from napari_survpgc.resources import resource_path

    bundle = load_bundle(resource_path("demo_bundle"))
    assert bundle.gene_reference is not None
    profile = read_expression(shared_dir / "tcga" / "brca" / "expression.csv.gz", sample="TCGA-3C-AALI")
    assert normalize_profile(profile, bundle.gene_reference).overlap >= 0.8


def test_the_demo_bundle_ranks_its_reference_patients() -> None:
    from napari_survpgc.resources import resource_path

    bundle = load_bundle(resource_path("demo_bundle"))
    table = bundle.reference
    assert len(bundle.load_models()) == 5
    assert c_index(table["survival_months"], table["event"], table["risk"]) > 0.78
    assert bundle.config.demonstration
    assert sum(p.stat().st_size for p in resource_path().rglob("*") if p.is_file()) < 20e6
