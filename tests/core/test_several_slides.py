"""A patient with several slides: one bag, one risk, and for each slide its maps."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from napari_survpgc.cli import run
from napari_survpgc.core.attention.scores import patch_scores
from napari_survpgc.core.bundle.bundle import Bundle, load_bundle
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.cohort import read_cohort
from napari_survpgc.core.errors import CancelledError, FeatureError, OutputError, SurvPGCError
from napari_survpgc.core.features import compute
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.jobs import one_patient
from napari_survpgc.core.jobs.batch import predict_batch, read_batch
from napari_survpgc.core.jobs.cohort_risks import cohort_results, predict_cohort
from napari_survpgc.core.jobs.one_patient import predict_case
from napari_survpgc.core.jobs.results_folder import read_results
from napari_survpgc.core.output.case_file import load_case, save_case
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.predict.what_if import for_slide, what_if
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.types import Case, JobOptions
from tests.builders import tiny_bundle, tissue_image, write_tiff

CPU = JobOptions("cpu")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path_factory.mktemp("b") / "bundle").path)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """patients.csv and slides: A has two of different pixel size, B one, C one that is there and one that is not."""
    folder = tmp_path_factory.mktemp("list")
    (folder / "slides").mkdir()
    for number, mpp in enumerate((0.5, 0.25, 0.5, 0.5)):
        write_tiff(folder / "slides" / f"S{number}.tiff", tissue_image(1280, 1536, seed=number), mpp=mpp)
    pd.DataFrame(
        {"case_id": ["A", "B", "C"], "slide_ids": ["S0;S1", "S2", "S3;S9"], "age": [50, 60, 70],
         "survival_months": [10, 20, 30], "event": [1, 0, 1]}
    ).to_csv(folder / "patients.csv", index=False)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def results(lists: Path, bundle: Bundle) -> Path:
    items, problems = read_batch(lists / "patients.csv", lists / "slides")
    assert not problems
    assert [[slide.name for slide in item.slides] for item in items] == [
        ["S0.tiff", "S1.tiff"], ["S2.tiff"], ["S3.tiff"],
    ]  # fmt: skip
    report = predict_batch(items, bundle, lists / "results", options=CPU)
    assert report.done == ("A", "B", "C"), report.failed
    assert [case for case, _ in report.notes] == ["C"]
    assert "S9" in report.notes[0][1]
    return lists / "results"


def test_a_batch_gives_the_risk_that_training_sees(
    results: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = tmp_path / "cohort"
    (cohort / "features").mkdir(parents=True)
    for file in results.glob("*/features/*.h5"):
        shutil.copy(file, cohort / "features" / file.name)
    table = pd.read_csv(results.parent / "patients.csv").replace("S3;S9", "S3")
    table.to_csv(cohort / "patients.csv", index=False)
    expected = {
        case.case_id: case.risk for case in predict_cohort(read_cohort(cohort), Predictor(bundle, "cpu"))
    }
    found = {case.case_id: case.risk for case in read_results(results)}
    assert found == pytest.approx(expected)
    # A patient of the training is no new one: the risk of the model that had not seen them is shown, and it is said.
    monkeypatch.setattr(Bundle, "held_out_risk", lambda self, case: -1.5 if case == "A" else None)
    again = cohort_results(read_cohort(cohort), Predictor(bundle, "cpu"))
    assert {case.case_id: case.risk for case in again.cases} == pytest.approx(expected | {"A": -1.5})
    assert "trained on 1 of these 3 patients" in again.notes[0]


def test_every_row_of_the_attention_says_which_slide_it_is_of(results: Path) -> None:
    with h5py.File(results / "A" / "attention.h5") as file:
        assert list(file["slide"].attrs["names"]) == ["S0.tiff", "S1.tiff"]
        number, coords, clinic = file["slide"][:], file["coords"][:], file["clinic"][:]
    counts = []
    for index, name in enumerate(("S0", "S1")):
        bag = read_features(results / "A" / "features" / f"{name}.h5")
        assert np.array_equal(coords[number == index], bag.grid.coords)
        with h5py.File(results / "A" / name / "attention.h5") as file:
            assert "slide" not in file
            assert np.array_equal(file["clinic"][:], clinic[:, number == index])
            assert np.allclose(file["clinic_score"][:], patch_scores(file["clinic"][:]), atol=1e-5)
            assert file["coords"].attrs["patch_px_level0"] == bag.grid.patch_px_level0
        counts.append(len(bag.grid))
    document = json.loads((results / "A" / "prediction.json").read_text())
    assert [slide["n_patches"] for slide in document["slides"]] == counts
    assert document["slide"]["n_patches"] == sum(counts)
    one = json.loads((results / "A" / "S1" / "prediction.json").read_text())
    assert one["risk"] == document["risk"]
    assert one["slide"]["name"] == "S1.tiff"
    assert one["slide"]["n_patches"] == counts[1]
    assert any("2 slides together" in warning for warning in one["warnings"])
    assert "slides" not in json.loads((results / "B" / "prediction.json").read_text())
    for name in ("S0", "S1"):
        made = {path.name for path in (results / "A" / name).iterdir()}
        assert {
            "heatmap_clinic.png",
            "top_genomic",
            "attention.geojson",
            "report.html",
            "case.survpgc",
        } <= made


def test_the_missing_slide_is_kept_with_the_result(results: Path) -> None:
    document = json.loads((results / "C" / "prediction.json").read_text())
    assert any("S9" in warning and "not found" in warning for warning in document["warnings"])


def test_what_if_of_a_reopened_slide_goes_on_from_all_slides(
    results: Path, bundle: Bundle, tmp_path: Path
) -> None:
    (case,) = (case for case in read_results(results) if case.case_id == "A")
    assert [file.parent.name for file in case.case_files] == ["S0", "S1"]
    saved = load_case(case.case_files[1])
    save_case(saved, tmp_path / "again.survpgc")  # the features inside
    predictor = Predictor(bundle, "cpu")
    with open_slide(results.parent / "slides" / "S1.tiff") as slide:
        info = slide.info
    for features in (saved.features, load_case(tmp_path / "again.survpgc").features):
        full = predictor.predict(predictor.prepare_patient(saved.record, None), features, info)
        shown = for_slide(full, info)
        assert shown.risk == pytest.approx(saved.prediction.risk)
        np.testing.assert_allclose(shown.attention["clinic"], saved.prediction.attention["clinic"])
        assert shown.warnings == saved.prediction.warnings
        older = what_if(shown, {"age": 80})
        fresh = predictor.predict(
            predictor.prepare_patient(parse_record({"age": 80}), None), features, info, attribution=False
        )
        assert older.risk == fresh.risk != shown.risk
        assert older.warnings == for_slide(fresh, info).warnings
        for name in ("clinic", "genomic"):
            np.testing.assert_array_equal(older.attention[name], for_slide(fresh, info).attention[name])
        assert np.array_equal(older.coords, saved.prediction.coords)
        assert older.patch_px_level0 == saved.prediction.patch_px_level0
        assert what_if(older, {"age": 50}).attention["clinic"].shape == shown.attention["clinic"].shape
    with (
        open_slide(results.parent / "slides" / "S2.tiff") as other,
        pytest.raises(FeatureError, match="none"),
    ):
        for_slide(full, other.info)


def test_results_of_fewer_slides_are_made_again(lists: Path, bundle: Bundle, tmp_path: Path) -> None:
    items, _ = read_batch(lists / "patients.csv", lists / "slides")
    first = items[0]
    one = replace(first, slides=first.slides[:1])
    predict_case(one, bundle, tmp_path / "A", options=replace(CPU, attribution=False))
    assert (tmp_path / "A" / "report.html").is_file()
    predict_batch(items[:1], bundle, tmp_path, options=CPU)
    assert not (tmp_path / "A" / "report.html").exists(), "that was of one slide alone"
    (case,) = read_results(tmp_path)
    assert len(case.case_files) == 2
    before = (tmp_path / "A" / "prediction.json").stat().st_mtime_ns
    predict_batch(items[:1], bundle, tmp_path, options=CPU)
    assert (tmp_path / "A" / "prediction.json").stat().st_mtime_ns == before


def test_an_interrupted_patient_is_not_taken_for_finished(
    lists: Path, bundle: Bundle, tmp_path: Path
) -> None:
    items, _ = read_batch(lists / "patients.csv", lists / "slides")

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("A: S1.tiff, results"):
            raise CancelledError

    with pytest.raises(CancelledError):
        predict_batch(items[:1], bundle, tmp_path, progress=stop)
    assert not (tmp_path / "A" / "prediction.json").exists()
    assert predict_batch(items[:1], bundle, tmp_path).done == ("A",)


def test_a_refusal_keeps_finished_features_and_what_the_user_has_put_there(
    lists: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, _ = read_batch(lists / "patients.csv", lists / "slides")
    out = tmp_path / "A"
    (out / "top_clinic").mkdir(parents=True)
    (out / "top_clinic" / "notes.txt").write_text("mine")
    calls = []

    def full(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 2:  # of the second slide: what belongs to the first is made already
            (out / "notes.txt").write_text("mine")
            raise OutputError("The disk is full", "Free some space")
        save_case(*args, **kwargs)

    monkeypatch.setattr(one_patient, "save_case", full)
    with pytest.raises(OutputError, match="disk is full"):
        predict_case(items[0], bundle, out, options=replace(CPU, attribution=False))
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert left == {"features/S0.h5", "features/S1.h5", "notes.txt", "top_clinic/notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["A"]
    monkeypatch.undo()
    made = [(out / "features" / f"S{number}.h5").stat().st_mtime_ns for number in (0, 1)]
    predict_case(items[0], bundle, out, options=replace(CPU, attribution=False))
    assert [(out / "features" / f"S{number}.h5").stat().st_mtime_ns for number in (0, 1)] == made
    assert (out / "top_clinic" / "notes.txt").read_text() == "mine"
    assert (out / "S0" / "report.html").is_file()


@pytest.mark.parametrize("rows", [0, 1])
def test_half_made_features_stay_when_the_disk_is_full(
    lists: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    append = compute.Rows.append
    calls = []

    def full(self: compute.Rows, *args: Any) -> None:
        calls.append(args)
        if len(calls) > rows:
            raise OSError(28, "No space left on device")
        append(self, *args)

    monkeypatch.setattr(compute.Rows, "append", full)
    case = Case(slides=(lists / "slides" / "S2.tiff",))
    with pytest.raises(OutputError, match="disk is full"):
        predict_case(case, bundle, tmp_path / "new", options=replace(CPU, batch_size=4, workers=1))
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("rows.bin")]
    assert left == ["new/features/S2.h5.partial/rows.bin"] * rows
    assert (tmp_path / "new").exists() == bool(rows), "a folder with nothing in it goes"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case(), "no slide of the patient"),
        (Case(slides=(Path("a.svs"),), features=(Path("1.h5"), Path("2.h5"))), "several feature files and one"),
        (Case(slides=(Path("a.svs"), Path("b.svs")), features=(Path("1.h5"),)), "2 slides and 1 feature file"),
        (Case(slides=(Path("a.svs"), Path("b.svs")), coords=Path("c.h5")), "--coords belongs to one slide"),
        (Case(slides=(Path("x/a.svs"), Path("y/a.svs"))), "Two slides of the patient are named a"),
        (Case(slides=(Path("a.svs"), Path("features.svs"))), "cannot be named features"),
    ],
)  # fmt: skip
def test_a_case_that_does_not_fit_together_is_refused_before_the_models_are_loaded(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case, message: str
) -> None:
    monkeypatch.setattr(one_patient, "Predictor", None)
    with pytest.raises(SurvPGCError, match=message):
        predict_case(case, bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_takes_several_slides(
    lists: Path, results: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "record.json").write_text('{"age": 50}')
    slides = [str(lists / "slides" / f"S{number}.tiff") for number in (0, 1)]
    features = [str(results / "A" / "features" / f"S{number}.h5") for number in (0, 1)]
    common = [
        "predict", *slides, "--clinical", str(tmp_path / "record.json"), "--bundle", str(bundle.path),
        "--out", str(tmp_path / "out"), "--no-attribution",
    ]  # fmt: skip
    assert run([*common, "--features", features[0], "--features", features[1]]) == 0
    assert "in the folder of each slide" in capsys.readouterr().out
    again, first = (
        json.loads((place / "prediction.json").read_text()) for place in (tmp_path / "out", results / "A")
    )
    assert again["risk"] == pytest.approx(first["risk"])
    assert run([*common, "--features", features[0]]) == 2
    assert "1 feature file" in capsys.readouterr().err
    assert run([*common, "--tissue", "t.geojson"]) == 2
    assert "belongs to one slide" in capsys.readouterr().err
    assert run([*common, "--features", features[1], "--features", features[0]]) == 2
    assert "another slide" in capsys.readouterr().err
