"""Folds, interruptions, missing modalities, precision and devices."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort.folds import make_folds
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import CancelledError, CohortError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.models import MODELS
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.survival import nll_loss
from napari_survpgc.training.crossval import train
from napari_survpgc.training.data.dataset import load_dataset
from napari_survpgc.training.fitting.fit import flatten
from napari_survpgc.training.fitting.optimizer import radam
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.settings import Settings, load_settings
from napari_survpgc.training.systems import build_system
from tests.small_models import small_inputs, small_model

from .test_train import make_cohort


@pytest.fixture(scope="module")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("robust") / "cohort")


def _settings(**more: Any) -> Settings:
    base: dict[str, Any] = {"model": "mlp_pathology", "model_config": {"dim": 16}, "epochs": 3, "n_folds": 3}
    return Settings(**{**base, **more})


def _with_sites(cohort_dir: Path, folder: Path) -> Path:
    shutil.copytree(cohort_dir, folder)
    table = pd.read_csv(folder / "patients.csv")
    table["site"] = [("05", "3C", "A2", "BH", "E9", "ZZ")[min(i // 11, 5)] for i in range(len(table))]
    table.loc[table["site"] == "ZZ", "event"] = 0
    table.to_csv(folder / "patients.csv", index=False)
    return folder


# --- folds --------------------------------------------------------------------------------------------------


def test_folds_by_site_keep_sites_whole_and_are_written_into_the_run(
    cohort_dir: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(_with_sites(cohort_dir, tmp_path / "cohort"))
    train(cohort, _settings(folds_by="site", epochs=1), tmp_path / "run")
    site = cohort.patients["site"]
    seen: list[str] = []
    for number in range(3):
        table = pd.read_csv(tmp_path / "run" / "folds" / f"fold_{number}.csv", dtype=str)
        test = set(table["case_id"][table["split"] == "test"])
        rest = set(table["case_id"]) - test
        assert not {site[c] for c in test} & {site[c] for c in rest}
        seen += sorted(test)
    assert sorted(seen) == sorted(cohort.patients.index)
    assert "05" in set(site)


def test_leaving_sites_out_tests_each_site_alone(cohort_dir: Path, tmp_path: Path) -> None:
    cohort = read_cohort(_with_sites(cohort_dir, tmp_path / "cohort"))
    folds = make_folds(cohort, by="leave-site-out")
    tested = [{cohort.patients["site"][c] for c in fold.test} for fold in folds]
    assert tested == [{"05"}, {"3C"}, {"A2"}, {"BH"}, {"E9"}, {"ZZ"}]  # no death in ZZ: it comes last
    result = train(
        cohort, _settings(model="cox_clinic", model_config={}, folds_by="leave-site-out"), tmp_path / "run"
    )
    assert len(result.c_index) == 6
    assert np.isnan(result.c_index[-1])  # nobody died there: nothing can be compared, and nothing is made up
    assert "nan" not in (tmp_path / "run" / "run.json").read_text().lower()


@pytest.mark.parametrize("by", ["event", "patient", "site"])
def test_folds_are_even_and_repeatable(cohort_dir: Path, tmp_path: Path, by: str) -> None:
    cohort = read_cohort(_with_sites(cohort_dir, tmp_path / "cohort"))
    folds = make_folds(cohort, 3, seed=4, by=by, val_share=0.2)
    assert folds == make_folds(cohort, 3, seed=4, by=by, val_share=0.2)
    assert sorted(c for fold in folds for c in fold.test) == sorted(cohort.patients.index)
    for fold in folds:
        assert fold.val
        assert not set(fold.val) & (set(fold.train) | set(fold.test))
        assert len(fold.train) + len(fold.val) + len(fold.test) == len(cohort.patients)
    deaths = [cohort.patients["event"].loc[list(f.test)].sum() for f in folds]
    assert by != "event" or max(deaths) - min(deaths) <= 1


def test_impossible_folds_are_refused(cohort_dir: Path) -> None:
    cohort = read_cohort(cohort_dir)
    with pytest.raises(CohortError, match="1 sites are too few for 5 folds"):
        make_folds(cohort, by="site")
    with pytest.raises(CohortError, match="cannot be made by hospital"):
        make_folds(cohort, by="hospital")


def test_an_inner_split_chooses_the_epoch_without_the_test_fold(cohort_dir: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_dir)
    settings = _settings(stopping="inner", inner_share=0.3, first_kept_epoch=0, epochs=6, patience=2)
    train(cohort, settings, tmp_path / "run")
    place = tmp_path / "run" / "folds" / "0"
    log, table = pd.read_csv(place / "log.csv"), pd.read_csv(place / "predictions.csv")
    kept = pd.read_json(place / "fold.json", typ="series")["epoch"]
    assert log["inner_c_index"].iloc[kept] == log["inner_c_index"].max()
    assert len(log) <= kept + 1 + 3
    assert set(table["split"]) == {"train", "inner", "test"}
    inner = table[table["split"] == "inner"]
    assert len(inner) == round(0.3 * (len(table) - (table["split"] == "test").sum()))
    # Other labels of the test patients change nothing about the weights.
    other = tmp_path / "other"
    shutil.copytree(cohort_dir, other)
    patients = pd.read_csv(other / "patients.csv", dtype=str)
    tested = patients["case_id"].isin(table["case_id"][table["split"] == "test"])
    patients.loc[tested, "survival_months"] = "3.5"
    patients.to_csv(other / "patients.csv", index=False)
    (other / "folds").mkdir()
    shutil.copy(tmp_path / "run" / "folds" / "fold_0.csv", other / "folds" / "fold_0.csv")
    train(read_cohort(other), settings, tmp_path / "again")
    weights = "folds/0/weights.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()


def test_stopping_on_val_needs_val_patients(cohort_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "cohort"
    shutil.copytree(cohort_dir, other)
    cases = list(read_cohort(cohort_dir).patients.index)
    rows = ["case_id,split", *(f"{c},train" for c in cases[20:])]
    rows += [f"{c},{split}" for c in cases[:20] for split in ("val", "test")]
    (other / "folds").mkdir()
    (other / "folds" / "fold_3.csv").write_text("\n".join(rows) + "\n")
    cohort = read_cohort(other)
    assert cohort.folds[0].number == 3
    with pytest.raises(CohortError, match="Fold 3 has no val patients apart from its test patients"):
        train(cohort, _settings(stopping="val"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(cohort, _settings(epochs=1), tmp_path / "run").c_index
    # Val patients who are the test patients are never trained on, asked for or not.
    train(cohort, _settings(epochs=1, train_on_val=True), tmp_path / "both")
    table = pd.read_csv(tmp_path / "both" / "folds" / "3" / "predictions.csv")
    assert set(table["case_id"][table["split"] == "train"]) == set(cases[20:])


def test_val_patients_who_choose_nothing_can_be_trained_on(cohort_dir: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_dir)
    fold = make_folds(cohort, 3, seed=4, by="event", val_share=0.2)[0]
    cohort = dataclasses.replace(cohort, folds=(fold,))
    train(cohort, _settings(train_on_val=True, epochs=1), tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "folds" / "0" / "predictions.csv")
    assert set(table["case_id"][table["split"] == "train"]) == {*fold.train, *fold.val}
    assert set(table["case_id"][table["split"] == "test"]) == set(fold.test)
    assert "val_c_index" not in pd.read_csv(tmp_path / "run" / "folds" / "0" / "log.csv")
    with pytest.raises(CohortError, match="train_on_val needs another stopping"):
        _settings(train_on_val=True, stopping="val")


# --- what a cohort may hold ---------------------------------------------------------------------------------


def test_damaged_and_mixed_features_are_listed_before_training(cohort_dir: Path, tmp_path: Path) -> None:
    bad = tmp_path / "cohort"
    shutil.copytree(cohort_dir, bad)
    whole = (bad / "features" / "P04.h5").read_bytes()
    (bad / "features" / "P04.h5").write_bytes(whole[: len(whole) // 2])
    (bad / "features" / "P05.h5").write_bytes(b"no features")
    with h5py.File(bad / "features" / "P06.h5", "r+") as file:
        file["features"].attrs["encoder"] = "uni"
    with h5py.File(bad / "features" / "P07.h5", "r+") as file:
        del file["coords"]
        file["coords"] = np.zeros((3, 2), int)
    with pytest.raises(CohortError) as error:
        train(read_cohort(bad), _settings(), tmp_path / "run")
    for words in (
        "patient P04: P04.h5 is not an HDF5 file or is damaged", "patient P05: P05.h5 is not an HDF5 file",
        "patient P07: P07.h5 has 12 feature rows but coordinates of shape (3, 2)", "P06.h5: uni, width 10",
    ):  # fmt: skip
        assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_all_slides_of_a_patient_are_one_bag(cohort_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "cohort"
    shutil.copytree(cohort_dir, other)
    shutil.copy(other / "features" / "P01.h5", other / "features" / "second.h5")
    table = pd.read_csv(other / "patients.csv", dtype=str)
    table.loc[0, "slide_ids"] = "P00.svs; second"
    table.to_csv(other / "patients.csv", index=False)
    train(read_cohort(other), _settings(folds=(0,)), tmp_path / "run")
    data = load_dataset(read_cohort(other), _settings(), build_system(_settings()).forms)
    assert data.bag("P00").shape == (24, 10)
    data.prefetch("P02")
    torch.testing.assert_close(
        data.bag("P02"), torch.from_numpy(read_features(other / "features" / "P02.h5").features)
    )


def test_equal_times_of_death_take_fewer_bins_in_all_folds(cohort_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "cohort"
    shutil.copytree(cohort_dir, other)
    table = pd.read_csv(other / "patients.csv", dtype={"site": str})
    table.loc[table["event"] == 1, "survival_months"] = np.where(
        np.arange((table["event"] == 1).sum()) % 3, 12.0, 24.0
    )
    table.to_csv(other / "patients.csv", index=False)
    train(read_cohort(other), _settings(epochs=1), tmp_path / "run")
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert [c for c in predictions if c.startswith("hazard_")] == ["hazard_0", "hazard_1"]
    assert make_bundle(tmp_path / "run", tmp_path / "bundle").n_bins == 2


def test_a_model_trained_with_missing_genes_predicts_without_them(cohort_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "cohort"
    shutil.copytree(cohort_dir, other)
    frame = pd.read_csv(other / "expression.csv.gz", dtype={"case_id": str})
    frame[~frame["case_id"].isin(["P00", "P01", "P02"])].to_csv(other / "expression.csv.gz", index=False)
    cohort = read_cohort(other)
    settings = _settings(model="survpgc_gene_sets", epochs=2)
    assert train(cohort, settings, tmp_path / "rigid").left_out.keys() == {"P00", "P01", "P02"}
    loose = load_settings(
        None, ["genomic_dropout=0.4", "model_config.dim=16"], model="survpgc_gene_sets", epochs=2, n_folds=3
    )
    result = train(cohort, loose, tmp_path / "run")
    assert not result.left_out
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    make_bundle(tmp_path / "run", tmp_path / "bundle")
    predictor = Predictor(load_bundle(tmp_path / "bundle"), "cpu")
    row = table[table["case_id"] == "P01"].iloc[0]
    patient = predictor.prepare_patient(cohort.records["P01"], None)
    prediction = predictor.predict(patient, read_features(other / "features" / "P01.h5"))
    assert prediction.fold_risks[int(row["fold"])] == pytest.approx(row["risk"], abs=1e-5)
    assert set(prediction.attention) == {"clinic"}
    assert any("leaves the genomic path out" in warning for warning in prediction.warnings)


# --- interruptions ------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_to_the_same_bits(cohort_dir: Path, tmp_path: Path) -> None:
    line = [
        sys.executable, "-m", "napari_survpgc.cli", "train", str(cohort_dir), "--model", "mlp_pathology", "--n-folds", "2",
        "--set", "epochs=40", "--out",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*line, str(tmp_path / "killed")], env=environment, stdout=subprocess.DEVNULL)
    log = tmp_path / "killed" / "folds" / "0" / "log.csv"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.is_file() and len(log.read_text().splitlines()) > 3:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait(60) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "run.json").exists()
    settings = load_settings(None, ["epochs=40"], model="mlp_pathology", n_folds=2)
    cohort = read_cohort(cohort_dir)
    train(cohort, settings, tmp_path / "killed")
    train(cohort, settings, tmp_path / "whole")
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file():
            assert (
                tmp_path / "killed" / path.relative_to(tmp_path / "whole")
            ).read_bytes() == path.read_bytes()


def test_processes_give_the_same_bits_report_epochs_and_can_be_cancelled(
    cohort_dir: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_dir)
    settings = _settings(epochs=4)
    seen: list[tuple[int, int]] = []

    def cancel(stage: str, done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        train(cohort, settings, tmp_path / "processes", processes=2, progress=cancel)
    train(
        cohort,
        settings,
        tmp_path / "processes",
        processes=2,
        progress=lambda _, done, total: seen.append((done, total)),
    )
    train(cohort, settings, tmp_path / "alone")
    for name in ("predictions.csv", "folds/1/weights.safetensors", "folds/2/log.csv", "run.json"):
        assert (tmp_path / "processes" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert seen
    assert all(0 <= done <= total for done, total in seen)


# --- precision and devices ----------------------------------------------------------------------------------


def test_bfloat16_training_ends_near_float32(cohort_dir: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_dir)
    config = {"dim": 16, "dropout": 0.0, "tokenizer_dropout": 0.0}
    settings = _settings(model="survpgc_gene_sets", model_config=config, folds=(0,))
    full = train(cohort, settings, tmp_path / "full")
    half = train(cohort, load_settings(None, ["precision=bfloat16"], **_given(settings)), tmp_path / "half")
    a, b = (pd.read_csv(r.out / "predictions.csv")["risk"] for r in (full, half))
    assert not a.equals(b)
    np.testing.assert_allclose(a, b, atol=0.05)


def _given(settings: Settings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    del values["precision"]
    return values


@pytest.mark.parametrize("model", MODELS)
def test_a_training_step_stays_on_its_device(model: str) -> None:
    """On the meta device every tensor that were made elsewhere would be refused, as on a GPU."""
    network = small_model(model).to("meta")
    whole = flatten(network)
    optimizer = radam(whole, lr=5e-4, weight_decay=1e-3)
    out = network(**small_inputs(model, 1, 9, "meta"))
    bins = torch.zeros(1, dtype=torch.int64, device="meta")
    loss = nll_loss(out.logits, bins, bins, 0.5)
    loss.backward()
    optimizer.step()
    assert loss.device.type == whole.device.type == out.embedding.device.type == "meta"


# --- settings -----------------------------------------------------------------------------------------------


def test_single_settings_win_over_the_file_and_bad_ones_are_named(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('protocol = "published"\nalpha = 0.2\n[model_config]\ndim = 32\n')
    settings = load_settings(file, ["alpha=0.5", "model_config.dropout=0.3"], model="survpgc", protocol=None)
    assert (settings.protocol, settings.alpha) == (
        "published",
        0.5,
    )  # an option that is not given leaves the file's
    assert settings.model_config == {"dim": 32, "dropout": 0.3}
    for changes, message in (
        (["alpha"], "is not a setting"),
        (["colour=red"], "unknown setting colour"),
        (["stopping=never"], "stopping 'never' is not one of last, val, inner"),
        (["alpha=high"], "wrong kind"),
        (["protocol=published", "stopping=inner"], "stopping must be last"),
    ):
        with pytest.raises(CohortError, match=message):
            load_settings(None, changes, model="survpgc")
