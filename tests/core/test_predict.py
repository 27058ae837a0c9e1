"""From features to an answer, its explanation, its change and its files."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from napari_survpgc.core.attention import maps as attention_maps
from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.attention.scores import patch_scores, percentiles, top_k
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.errors import (
    BundleError,
    CancelledError,
    ClinicalError,
    ExpressionError,
    FeatureError,
    OutputError,
)
from napari_survpgc.core.output import folder as export_module
from napari_survpgc.core.output.folder import write_joint_outputs, write_outputs
from napari_survpgc.core.output.report import ReportFacts
from napari_survpgc.core.predict.attribution import path_attribution
from napari_survpgc.core.predict.predictor import Predictor, predict
from napari_survpgc.core.predict.what_if import attribute, what_if
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit, PatchFeatures, PatchGrid, Prediction
from tests.builders import GENES, tiny_bundle, tissue_image, write_tiff

RECORD = parse_record({"age": 58, "sex": "F", "stage": "IIIA", "subtype": "<b>Odd & long</b> name"})
PROFILE = ExpressionProfile(dict.fromkeys(GENES, 0.5), ExpressionUnit.ZSCORE, True, "s", "genes.csv")


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", n_folds=3).path


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("s") / "made.tiff", tissue_image(2048, 2560))


def _bag(n_columns: int = 10, n_rows: int = 8, width: int = 1280) -> PatchFeatures:
    y, x = np.mgrid[0 : n_rows * 256 : 256, 0 : n_columns * 256 : 256]
    grid = PatchGrid(np.stack([x.ravel(), y.ravel()], 1).astype(np.int32), 256, 0.5, 256.0, (2560, 2048))
    rows = np.random.default_rng(0).normal(size=(len(grid), width)).astype(np.float32)
    return PatchFeatures(rows, grid, "efficientnet-lite0", np.zeros((0, 2), np.int32))


@pytest.fixture(scope="module")
def prediction(bundle_dir: Path, tiff: Path) -> Prediction:
    with open_slide(tiff) as slide:
        return predict(load_bundle(bundle_dir), RECORD, PROFILE, _bag(), slide.info, device="cpu")


def test_hazards_survival_and_risk_agree(prediction: Prediction) -> None:
    np.testing.assert_allclose(np.cumprod(1 - prediction.hazards), prediction.survival)
    assert prediction.risk == pytest.approx(-prediction.survival.sum())
    assert prediction.risk == pytest.approx(prediction.fold_risks.mean())
    np.testing.assert_allclose(prediction.fold_survival, np.cumprod(1 - prediction.fold_hazards, axis=1))
    assert prediction.fold_risks.std() > 0, "the fold models differ"


def test_the_answer_is_the_mean_of_the_models_run_plainly(prediction: Prediction, bundle_dir: Path) -> None:
    predictor = Predictor(load_bundle(bundle_dir), "cpu")
    patient = predictor.prepare_patient(RECORD, PROFILE)
    assert patient.clinic is not None
    risks, maps = [], []
    for model in predictor.models:
        out = model(  # type: ignore[operator]
            pathology=torch.from_numpy(_bag().features)[None],
            clinic=torch.from_numpy(patient.clinic)[None],
            genomic=[torch.full((1, 3), 0.5), torch.full((1, 2), 0.5)],
            return_attention=True,
        )
        risks.append(-torch.cumprod(1 - torch.sigmoid(out.logits.double()), 1).sum().item())
        maps.append(out.attention["clinic_to_pathology"][0])
    np.testing.assert_allclose(prediction.fold_risks, risks, rtol=0, atol=1e-6)
    np.testing.assert_allclose(prediction.attention["clinic"], torch.stack(maps).mean(0), rtol=0, atol=1e-5)
    assert prediction.attention["genomic"].shape == (2, 80)
    assert prediction.token_names["genomic"] == ("growth", "immune_hypoxia")


def test_attribution_is_complete(prediction: Prediction) -> None:
    assert prediction.attribution is not None
    assert set(prediction.attribution.paths) == {"clinic", "genomic"}
    assert set(prediction.attribution.tokens) == {
        "clinic:age", "clinic:sex", "clinic:stage", "clinic:staging_edition", "clinic:subtype", "clinic:race",
        "genomic:growth", "genomic:immune_hypoxia",
    }  # fmt: skip
    assert max(prediction.attribution.completeness_error.values()) < 1e-3
    # Unknown fields are compared with themselves.
    assert prediction.attribution.tokens["clinic:race"] == pytest.approx(0, abs=1e-6)
    assert abs(prediction.attribution.tokens["clinic:age"]) > 1e-6


def test_attribution_sums_to_the_change_from_zero(prediction: Prediction) -> None:
    fold, model = prediction.state.folds[0], prediction.state.predictor.models[0]
    found = path_attribution(model, fold.clinic, fold.genomic)
    with torch.no_grad():
        e = model.embed(fold.clinic, fold.genomic)
        ends = [-torch.cumprod(1 - torch.sigmoid(model.head(x).double()), 1).sum().item() for x in (e, 0 * e)]
    missed = abs(sum(found.paths.values()) - (ends[0] - ends[1]))
    assert missed == pytest.approx(found.completeness_error["paths"], abs=1e-6)
    assert missed < 1e-3


def test_warnings_tell_what_a_reader_must_know(prediction: Prediction, bundle_dir: Path) -> None:
    assert any("Unknown clinical fields: staging edition, race" in w for w in prediction.warnings)
    predictor = Predictor(load_bundle(bundle_dir), "cpu")
    alone = predictor.predict(predictor.prepare_patient(RECORD, None), _bag(), attribution=False)
    assert any("No expression file" in w for w in alone.warnings)
    assert alone.attribution is None


def test_what_if_gives_what_a_new_prediction_would(prediction: Prediction, bundle_dir: Path) -> None:
    changed = what_if(
        prediction, {"stage": "IV", "race": "asian"}, genes={"TP53": 3.0}, gene_sets={"immune_hypoxia": -1.0}
    )
    record = dataclasses.replace(RECORD, stage="Stage IV", race="asian")
    values = {"TP53": 3.0, "EGFR": 0.5, "MKI67": 0.5, "CD8A": -0.5, "VEGFA": -0.5}
    profile = dataclasses.replace(PROFILE, values=values)
    fresh = predict(load_bundle(bundle_dir), record, profile, _bag(), device="cpu", attribution=False)
    np.testing.assert_array_equal(changed.fold_risks, fresh.fold_risks)
    for name in ("clinic", "genomic"):
        np.testing.assert_array_equal(changed.attention[name], fresh.attention[name])
    assert changed.risk != prediction.risk
    assert not any("race" in w for w in changed.warnings)
    back = what_if(changed, {"stage": "IIIA", "race": None}, genes=dict.fromkeys(GENES, 0.5))
    np.testing.assert_array_equal(back.fold_risks, prediction.fold_risks)


def test_what_if_recomputes_only_the_path_that_changed(
    prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    model_type = type(prediction.state.predictor.models[0])
    for name in ("encode_pathology", "genomic_path", "clinic_path"):
        original = getattr(model_type, name)
        monkeypatch.setattr(
            model_type, name, lambda self, *a, _o=original, _n=name: (calls.append(_n), _o(self, *a))[1]
        )
    what_if(prediction, {"age": 70})
    assert set(calls) == {"clinic_path"}
    calls.clear()
    what_if(prediction, genes={"EGFR": -2})
    assert set(calls) == {"genomic_path"}
    calls.clear()
    what_if(prediction, {"age": 58})
    assert calls == []
    both = what_if(prediction, {"age": 70}, genes={"EGFR": -2})
    calls.clear()
    again = what_if(prediction, {"age": 71}, genes={"EGFR": -2}, latest=both)
    assert set(calls) == {"clinic_path"}
    assert again.attention["genomic"] is both.attention["genomic"]
    calls.clear()
    fresh = what_if(prediction, {"age": 71}, genes={"EGFR": -2})
    assert set(calls) == {"clinic_path", "genomic_path"}
    assert again.risk == fresh.risk


def test_maps_of_what_has_not_changed_are_not_ranked_again(
    prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = AttentionMaps(prediction).ranked()
    token = maps.map("genomic", 1)
    changed = what_if(prediction, {"age": 70})
    ranked: list[int] = []
    monkeypatch.setattr(
        attention_maps, "percentiles", lambda scores: (ranked.append(1), percentiles(scores))[1]
    )
    after = AttentionMaps(changed, maps).ranked()
    assert len(ranked) == 1
    assert after.cells is maps.cells
    assert after.map("genomic", 1) is token
    fresh = AttentionMaps(changed)
    for name in ("clinic", "genomic"):
        np.testing.assert_array_equal(after.map(name).percentiles, fresh.map(name).percentiles)
    assert not np.array_equal(after.map("clinic").scores, maps.map("clinic").scores)


def test_a_listed_value_is_known_before_it_is_chosen(
    bundle_dir: Path, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(load_bundle(bundle_dir), "cpu")
    steps = sum(1 for _ in predictor.inputs.foresee(RECORD))
    assert steps > 80  # the ages alone
    calls = []
    monkeypatch.setattr(
        type(predictor.inputs.text_encoder),
        "forward",
        lambda *args: calls.append(args) or pytest.fail("encoded"),
    )
    patient = predictor.prepare_patient(RECORD, PROFILE)
    for change in ({"age": 31.0}, {"sex": "male"}, {"stage": None}, {"race": "asian"}):
        changed = predictor.inputs.with_record(patient, dataclasses.replace(RECORD, **change))
        assert not np.array_equal(changed.clinic, patient.clinic)
    assert not calls


def test_contributions_of_a_change_can_be_given_up_within_a_fold_model(
    prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    changed = what_if(prediction, {"age": 70})

    def stop(stage: str, done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 6:
            raise CancelledError

    heads: list[int] = []
    model_type = type(prediction.state.predictor.models[0])
    clinic_path = model_type.clinic_path
    monkeypatch.setattr(
        model_type, "clinic_path", lambda self, *args: (heads.append(1), clinic_path(self, *args))[1]
    )
    with pytest.raises(CancelledError):
        attribute(changed, stop)
    assert seen == [(0, 3)] * 6
    assert len(heads) == 4, "no step after the cancel"
    attribute(changed, lambda *args: seen.append(args[1:]))
    assert seen[-1] == (2, 3)


def test_a_run_is_cancelled_within_the_contributions_of_its_fold_models(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(load_bundle(bundle_dir), "cpu")
    patient = predictor.prepare_patient(RECORD, PROFILE)
    steps: list[int] = []

    def stop(stage: str, done: int, total: int) -> None:
        steps.append(done)
        if len(steps) > 6:
            raise CancelledError

    with pytest.raises(CancelledError):
        predictor.predict(patient, _bag(), progress=stop)
    assert set(steps) == {0}, "before any fold model was ready"
    assert len(steps) <= 6 + 1 + 3, "each fold model ends at its next step"


def test_what_if_refuses_nonsense(prediction: Prediction) -> None:
    with pytest.raises(ClinicalError, match="430"):
        what_if(prediction, {"age": 430})
    with pytest.raises(ExpressionError, match="does not use KRAS"):
        what_if(prediction, genes={"KRAS": 1.0})
    with pytest.raises(BundleError, match="without its models"):
        what_if(dataclasses.replace(prediction, state=None), {"age": 3})


def test_features_that_do_not_fit_are_refused(bundle_dir: Path, tiff: Path) -> None:
    predictor = Predictor(load_bundle(bundle_dir), "cpu")
    with pytest.raises(FeatureError, match="made with the encoder uni"):
        predictor.check_features(dataclasses.replace(_bag(), encoder="uni"), None)
    with pytest.raises(FeatureError, match="7 numbers wide"):
        predictor.check_features(dataclasses.replace(_bag(width=7), encoder=None), None)
    with open_slide(tiff) as slide, pytest.raises(FeatureError, match=r"another slide than made\.tiff"):
        predictor.check_features(dataclasses.replace(_bag(), slide_fingerprint="other"), slide.info)
    assert "assumed" in predictor.check_features(dataclasses.replace(_bag(), encoder=None), None).warnings[0]


# --- files --------------------------------------------------------------------------------------------------


@pytest.fixture
def written(prediction: Prediction, tiff: Path, bundle_dir: Path, tmp_path: Path) -> Path:
    with open_slide(tiff) as slide:
        write_outputs(
            prediction,
            slide,
            tmp_path / "out",
            ReportFacts(
                RECORD,
                ("a", "b", "c", "d", "e", "f"),
                ("All genes <found>.",),
                load_bundle(bundle_dir).reference,
            ),
        )
    return tmp_path / "out"


def test_every_file_of_the_contract_is_there(written: Path, prediction: Prediction) -> None:
    assert {p.name for p in written.iterdir()} == {
        "prediction.json", "attention.h5", "heatmap_clinic.png", "heatmap_genomic.png", "top_clinic", "top_genomic",
        "attention.geojson", "report.html",
    }  # fmt: skip
    document = json.loads((written / "prediction.json").read_text())
    assert {
        "risk", "risk_percentile", "risk_group", "hazards", "survival", "bin_edges_months", "fold_risks", "attribution",
        "bundle", "encoders", "slide", "warnings", "version",
    } <= set(document)  # fmt: skip
    assert document["risk"] == prediction.risk
    assert document["expression_sample"] == "s"
    assert document["slide"]["name"] == "made.tiff"
    assert {"fingerprint", "mpp", "mpp_source", "n_patches"} <= set(document["slide"])
    with h5py.File(written / "attention.h5") as file:
        assert set(file) == {"coords", "clinic", "genomic", "clinic_score", "genomic_score"}
        assert file["clinic"].shape == (6, 80)
        np.testing.assert_allclose(file["clinic_score"][:], patch_scores(file["clinic"][:]), atol=1e-5)


def test_galleries_hold_the_best_patches_in_order(written: Path, prediction: Prediction, tiff: Path) -> None:
    scores = patch_scores(prediction.attention["genomic"])
    best = top_k(scores, 50)
    table = pd.read_csv(written / "top_genomic" / "patches.csv", float_precision="round_trip")
    assert table.columns.tolist() == ["rank", "x", "y", "score", "percentile"]
    np.testing.assert_array_equal(table[["x", "y"]], prediction.coords[best])
    np.testing.assert_array_equal(table["score"], scores[best])
    np.testing.assert_array_equal(table["percentile"], percentiles(scores)[best])
    pictures = sorted((written / "top_genomic").glob("*.png"))
    assert len(pictures) == 50
    with open_slide(tiff) as slide:
        x, y = (int(v) for v in prediction.coords[best[0]])
        np.testing.assert_array_equal(
            np.asarray(Image.open(pictures[0])), slide.read_square(x, y, 256.0, 256)
        )


def test_the_heatmap_colors_each_patch_at_its_place(
    written: Path, prediction: Prediction, tiff: Path
) -> None:
    from matplotlib import colormaps

    from napari_survpgc.core.output.heatmap import heatmap_image

    ranks = percentiles(patch_scores(prediction.attention["clinic"]))
    with open_slide(tiff) as slide:
        thumbnail = slide.thumbnail(640)
    image = heatmap_image(thumbnail, (2560, 2048), prediction.coords, ranks, 256.0, opacity=1.0)
    for (x, y), rank in zip(prediction.coords // 4, ranks, strict=True):
        want = np.array(colormaps["cividis"](rank / 100)[:3]) * 255
        cell = image[y + 1 : y + 63, x + 1 : x + 63].reshape(-1, 3)
        assert np.abs(cell - want).max() <= 1.5
    with Image.open(written / "heatmap_clinic.png") as picture:
        assert min(picture.size) > 1000


def test_geojson_opens_in_qupath(written: Path, prediction: Prediction) -> None:
    document = json.loads((written / "attention.geojson").read_text())
    assert len(document["features"]) == 80
    first = document["features"][0]
    assert first["geometry"]["coordinates"][0][2] == [256, 256]
    assert {"clinic score", "genomic percentile"} <= set(first["properties"]["measurements"])
    said = [feature["properties"] for feature in document["features"]]
    assert {each["objectType"] for each in said} == {"tile"}
    assert said[4]["name"] == "Patch 5"
    for each in said:
        percentile = each["measurements"]["clinic percentile"]
        assert (each["classification"]["name"] == "clinic top 10 %") == (percentile > 90)
        assert all(0 <= value <= 255 for value in each["classification"]["color"])


def test_the_report_is_one_safe_readable_page(written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    assert page.count("Research use only") >= 1
    assert "&lt;b&gt;Odd &amp; long&lt;/b&gt;" in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert "link rel" not in page
    assert "unknown" in page
    assert "higher than that of" in page
    assert page.count("data:image") >= 25
    assert page.count("data:image/png") <= 4  # figures; what is a photograph is JPEG
    for name in ("clinic", "genomic"):
        with Image.open(written / f"heatmap_{name}.png") as picture:
            assert max(picture.size) <= 2050


def test_an_earlier_gallery_goes_whole_and_other_files_stay(
    written: Path, prediction: Prediction, tiff: Path
) -> None:
    (written / "my_notes.txt").write_text("keep")
    (written / "top_clinic" / "rank_99_old.png").write_bytes(b"old")
    lone = dataclasses.replace(prediction, attention={"clinic": prediction.attention["clinic"]})
    with open_slide(tiff) as slide:
        write_outputs(lone, slide, written, k=3)
    assert (written / "my_notes.txt").read_text() == "keep"
    assert len(list((written / "top_clinic").glob("*.png"))) == 3
    assert not (written / "top_genomic").exists()
    assert not (written / "heatmap_genomic.png").exists()


def test_a_users_own_file_stays_in_a_gallery_that_is_written_again_or_goes(
    written: Path, prediction: Prediction, tiff: Path
) -> None:
    for name in ("top_clinic", "top_genomic"):
        (written / name / "notes.txt").write_text("keep")
    lone = dataclasses.replace(prediction, attention={"clinic": prediction.attention["clinic"]})
    with open_slide(tiff) as slide:
        files = write_outputs(lone, slide, written, k=3)
    assert (written / "top_clinic" / "notes.txt").read_text() == "keep"
    assert len(list((written / "top_clinic").iterdir())) == 1 + 1 + 3
    assert [path.name for path in (written / "top_genomic").iterdir()] == ["notes.txt"]
    assert written / "top_clinic" / "notes.txt" not in files
    assert all(path.is_file() for path in files)
    write_joint_outputs(prediction, written)
    assert sorted(path.relative_to(written).as_posix() for path in written.rglob("*")) == [
        "attention.h5", "prediction.json", "top_clinic", "top_clinic/notes.txt", "top_genomic", "top_genomic/notes.txt",
    ]  # fmt: skip


def test_a_users_folder_with_the_name_of_an_output_is_refused_before_anything_is_replaced(
    written: Path, prediction: Prediction, tiff: Path
) -> None:
    (written / "report.html").unlink()
    (written / "report.html").mkdir()
    (written / "report.html" / "mine.txt").write_text("keep")
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*") if path.is_file()}
    with open_slide(tiff) as slide, pytest.raises(OutputError, match=r"report\.html is in the way"):
        write_outputs(prediction, slide, written, k=3)
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*") if path.is_file()} == before


def test_one_entry_adds_an_output(
    prediction: Prediction, tiff: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def risk(contents: export_module.Contents, path: Path) -> None:
        path.write_text(f"{contents.prediction.risk:.3f} {contents.facts.record}")

    def size(contents: export_module.Contents, path: Path) -> None:
        path.mkdir()
        (path / "size.txt").write_text(str(contents.shown.info.size))

    toys = (
        export_module.Output("risk.txt", risk),
        export_module.Output("sizes", size, frozenset({export_module.SLIDE}), ("size.txt",)),
    )
    monkeypatch.setattr(export_module, "OUTPUTS", (*export_module.OUTPUTS, *toys))
    out = tmp_path / "out"
    with open_slide(tiff) as slide:
        files = write_outputs(prediction, slide, out, ReportFacts(RECORD), k=3)
    assert {out / "risk.txt", out / "sizes" / "size.txt"} <= set(files)
    assert (out / "sizes" / "size.txt").read_text() == "(2560, 2048)"
    assert (out / "risk.txt").read_text() == f"{prediction.risk:.3f} {RECORD}"
    write_joint_outputs(prediction, out)
    assert {path.name for path in out.iterdir()} == {"prediction.json", "attention.h5", "risk.txt"}
    assert (out / "risk.txt").read_text() == f"{prediction.risk:.3f} None"


def test_the_readme_names_every_output() -> None:
    lines = iter((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith("| output |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    names = [name.rstrip("/") for row in rows for name in re.findall("`([^`]+)`", row.split("|")[1])]
    assert sorted(names) == sorted(output.name for output in export_module.OUTPUTS)


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_leaves_nothing(
    prediction: Prediction,
    tiff: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: BaseException,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise problem

    monkeypatch.setattr(export_module, "report_html", fail)
    expected = OutputError if isinstance(problem, OSError) else KeyboardInterrupt
    with open_slide(tiff) as slide, pytest.raises(expected):
        write_outputs(prediction, slide, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
