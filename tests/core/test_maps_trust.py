"""The case without some patches, what each patch and region does to the risk, and how far the maps can be trusted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_survpgc.core.attention.scores import patch_scores, top_k
from napari_survpgc.core.attention.trust import MapTrust, agreement, measured_trust, trust_sentence
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.errors import BundleError, FeatureError, SlideError, TissueError
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.jobs.one_patient import predict_case
from napari_survpgc.core.models.base import PatchState, TwoPathModel
from napari_survpgc.core.output.case_file import load_case
from napari_survpgc.core.output.prediction_json import read_prediction_json
from napari_survpgc.core.predict import (
    Predictor,
    for_slide,
    patch_contributions,
    predict,
    region_risks,
    what_if,
    without,
)
from napari_survpgc.core.predict.fold_run import run_fold
from napari_survpgc.core.predict.left_out import FoldCase, Groups, gradients, occlusion, risks_without
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.tissue.geojson import Annotation, read_regions
from napari_survpgc.core.types import (
    Case,
    ExpressionProfile,
    ExpressionUnit,
    JobOptions,
    PatchFeatures,
    PatchGrid,
    Polygon,
    Prediction,
)
from tests.builders import GENES, tiny_bundle, tissue_image, write_tiff
from tests.small_models import small_inputs, small_model

RECORD = parse_record({"age": 58, "sex": "F", "stage": "IIIA"})
PROFILE = ExpressionProfile(dict.fromkeys(GENES, 0.5), ExpressionUnit.ZSCORE, True, "s", "genes.csv")


def _bag(n: int = 40) -> PatchFeatures:
    number = np.arange(n)
    coords = np.stack([number % 10 * 256, number // 10 * 256], 1).astype(np.int32)
    rows = np.random.default_rng(0).normal(size=(n, 1280)).astype(np.float32)
    rows[3:4] *= 30  # one patch that some tokens look at with nearly all their weight
    grid = PatchGrid(coords, 256, 0.5, 256.0, (2560, 2048))
    return PatchFeatures(rows, grid, "efficientnet-lite0", np.zeros((0, 2), np.int32))


def _kept(bag: PatchFeatures, left: NDArray[np.int64]) -> PatchFeatures:
    grid = dataclasses.replace(bag.grid, coords=bag.grid.coords[left])
    return dataclasses.replace(bag, features=bag.features[left], grid=grid)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(load_bundle(tiny_bundle(tmp_path_factory.mktemp("b") / "b", n_folds=3).path), "cpu")


@pytest.fixture(scope="module")
def prediction(predictor: Predictor) -> Prediction:
    return predictor.predict(predictor.prepare_patient(RECORD, PROFILE), _bag(), attribution=False)


def test_without_gives_what_a_prediction_from_the_other_patches_would(
    prediction: Prediction, predictor: Predictor
) -> None:
    left = np.setdiff1d(np.arange(40), [0, 3, 17])
    found = without(prediction, [17, 0, 3])
    plain = predictor.predict(
        predictor.prepare_patient(RECORD, PROFILE), _kept(_bag(), left), attribution=False
    )
    np.testing.assert_allclose(found.fold_survival, plain.fold_survival, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.attention["genomic"], plain.attention["genomic"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found.coords, plain.coords)
    assert found.provenance["slide"]["n_patches"] == 37
    assert "map_trust" not in found.provenance, "it was measured of other maps"


def test_patches_can_be_taken_out_one_after_the_other_and_after_a_what_if(prediction: Prediction) -> None:
    together = without(prediction, [0, 1, 2])
    assert without(without(prediction, [0]), [0, 1]).risk == pytest.approx(together.risk, abs=1e-6)
    changed = what_if(together, {"stage": "IV"})
    assert changed.risk == pytest.approx(
        without(what_if(prediction, {"stage": "IV"}), [0, 1, 2]).risk, abs=1e-6
    )
    assert without(prediction, []).risk == pytest.approx(prediction.risk, abs=1e-6)
    mask = np.isin(np.arange(40), [0, 1, 2])
    assert without(prediction, mask).risk == together.risk


@pytest.mark.parametrize("indices", [[40], [-1], [0.5], [[1]], [True, False]], ids=str)
def test_what_is_no_patch_is_refused(prediction: Prediction, indices: list[object]) -> None:
    with pytest.raises(FeatureError, match="numbered from 0 to 39"):
        without(prediction, indices)


def test_without_all_patches_nothing_can_be_said(prediction: Prediction) -> None:
    with pytest.raises(FeatureError, match="nothing is left"):
        without(prediction, np.arange(40))
    with pytest.raises(BundleError, match="Predict again"):
        without(dataclasses.replace(prediction, state=None), [0])
    with pytest.raises(BundleError, match="Predict again"):
        patch_contributions(dataclasses.replace(prediction, state=None))


def test_occlusion_is_the_risk_minus_the_risk_without_each_patch(prediction: Prediction) -> None:
    brute = [prediction.risk - without(prediction, [i]).risk for i in range(40)]
    found = patch_contributions(prediction)
    assert found.shape == (40,)
    np.testing.assert_allclose(found, brute, rtol=0, atol=1e-5)
    assert np.abs(brute).max() > 1e-3, "the patches move the risk"


def test_a_patch_whose_absence_lowers_the_risk_counts_positive(prediction: Prediction) -> None:
    found = patch_contributions(prediction)
    raising, lowering = int(found.argmax()), int(found.argmin())
    assert found[raising] > 0 > found[lowering]
    assert without(prediction, [raising]).risk < prediction.risk < without(prediction, [lowering]).risk


def test_occlusion_is_exact_where_one_patch_has_all_the_weight() -> None:
    """The rest of a softmax sum, as the whole minus that patch, would be lost in rounding."""
    model = small_model("survpgc").eval()
    assert isinstance(model, TwoPathModel)
    given = small_inputs("survpgc", 1, 20)
    with torch.no_grad():
        model.clinic_attention.to_qkv.weight.mul_(20)
        fold = run_fold(model, given["pathology"], given["clinic"], given["genomic"])
    assert fold.clinic is not None
    assert fold.clinic.to_pathology is not None
    assert fold.clinic.to_pathology.softmax(-1).max() > 1 - 1e-7
    case = FoldCase(model, fold, given["pathology"], given["clinic"], given["genomic"])
    # Against the model in float64: with such weights float32 itself is not exact to 1e-5.
    double = small_model("survpgc").double().eval()
    double.load_state_dict(model.state_dict())
    rows = FoldCase(double, fold, *(given[k].double() for k in ("pathology", "clinic", "genomic")))
    with torch.no_grad():
        whole = rows.risk_of(rows.pathology)
        brute = [
            float(whole - rows.risk_of(rows.pathology[:, torch.arange(20) != number])) for number in range(20)
        ]
    encoded = double.encode_pathology(rows.pathology)  # type: ignore[operator]
    exact = dataclasses.replace(rows, fold=dataclasses.replace(fold, patches=encoded))
    np.testing.assert_allclose(occlusion(exact), brute, rtol=0, atol=1e-9)
    np.testing.assert_allclose(occlusion(case), brute, rtol=0, atol=1e-3)


def test_padding_contributes_nothing_and_moves_nothing() -> None:
    model = small_model("survpgc").eval()
    given = small_inputs("survpgc", 1, 12)
    rows = given["pathology"]
    padded = torch.cat([rows, torch.full((1, 4, rows.shape[2]), 7.0)], 1)
    mask = torch.arange(16)[None] < 12
    with torch.no_grad():
        fold = run_fold(model, rows, given["clinic"], given["genomic"])
        state: PatchState = model.encode_pathology(padded, mask)  # type: ignore[operator]
    plain = FoldCase(model, fold, rows, given["clinic"], given["genomic"])
    with_padding = FoldCase(
        model, dataclasses.replace(fold, patches=state), padded, given["clinic"], given["genomic"]
    )
    found = occlusion(with_padding)
    np.testing.assert_allclose(found[:12], occlusion(plain), rtol=0, atol=1e-7)
    np.testing.assert_allclose(found[12:], 0, atol=1e-9)


@pytest.mark.parametrize("absent", ["clinic", "genomic"])
def test_occlusion_holds_for_a_patient_who_lacks_a_modality(absent: str) -> None:
    model = small_model("survpgc").eval()
    given = {**small_inputs("survpgc", 1, 9), absent: None}
    fold = run_fold(model, given["pathology"], given["clinic"], given["genomic"])
    case = FoldCase(model, fold, given["pathology"], given["clinic"], given["genomic"])
    with torch.no_grad():
        whole = case.risk_of(case.pathology)
        brute = [float(whole - case.risk_of(case.pathology[:, torch.arange(9) != i])) for i in range(9)]
    np.testing.assert_allclose(occlusion(case), brute, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["survpgc", "survpgc_gene_sets", "mcat", "abmil"])
def test_groups_left_out_give_what_the_model_says_of_the_others(name: str) -> None:
    model = small_model(name).eval()
    given = {"clinic": None, "genomic": None, **small_inputs(name, 1, 15)}
    fold = run_fold(model, given["pathology"], given["clinic"], given["genomic"])
    case = FoldCase(model, fold, given["pathology"], given["clinic"], given["genomic"])
    of = np.arange(15) % 4
    (found, alone) = risks_without(case, [Groups(of, 4), Groups.inside(np.ones(15, bool))])
    with torch.no_grad():
        brute = [float(case.risk_of(case.pathology[:, torch.from_numpy(of) != g])[0]) for g in range(4)]
        whole = float(case.risk_of(case.pathology)[0])
    np.testing.assert_allclose(found, brute, rtol=0, atol=1e-5)
    assert alone[0] == pytest.approx(whole, abs=1e-5)
    assert np.isnan(alone[1]), "nothing is left"


def test_occlusion_of_other_models_runs_them_again_up_to_a_number_of_patches(
    prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("mcat").eval()
    given = {"clinic": None, **small_inputs("mcat", 1, 6)}
    case = FoldCase(
        model,
        run_fold(model, given["pathology"], given["clinic"], given["genomic"]),
        given["pathology"],
        given["clinic"],
        given["genomic"],
    )
    found = occlusion(case)
    (each,) = risks_without(case, [Groups(np.arange(6), 6)])
    with torch.no_grad():
        np.testing.assert_allclose(found, float(case.risk_of(case.pathology)[0]) - each, rtol=0, atol=1e-9)
    assert gradients(case).shape == (6,)
    monkeypatch.setattr(FoldCase, "by_structure", False)
    monkeypatch.setattr("napari_survpgc.core.predict.patches.MAX_ONE_BY_ONE", 39)
    with pytest.raises(BundleError, match="without each of 40 patches, which is offered up to 39"):
        patch_contributions(prediction)


def test_gradients_share_the_difference_from_a_slide_of_average_patches(predictor: Predictor) -> None:
    bag = _bag()
    bag.features[3] /= 30
    prediction = predictor.predict(predictor.prepare_patient(RECORD, PROFILE), bag, attribution=False)
    found = patch_contributions(prediction, method="gradients")
    differences = []
    with torch.no_grad():
        for number, fold in enumerate(prediction.state.folds):  # type: ignore[attr-defined]
            model = predictor.models[number]
            mean = fold.patches.normalized.mean(1, keepdim=True).expand_as(fold.patches.normalized)
            clinic = predictor.inputs.clinic(prediction.state.patient, number)  # type: ignore[attr-defined]
            genomic = predictor.inputs.genomic(prediction.state.patient.expression)[number]  # type: ignore[attr-defined]
            state = PatchState(mean, None)
            both = model.clinic_path(state, clinic), model.genomic_path(state, genomic)  # type: ignore[operator]
            logits = model.head(model.embed(*both)).double()  # type: ignore[operator]
            differences.append(
                prediction.fold_risks[number] + float((1 - logits.sigmoid()).cumprod(-1).sum())
            )
    assert found.sum() == pytest.approx(np.mean(differences), rel=0.02, abs=1e-4)
    assert np.corrcoef(found, patch_contributions(prediction))[0, 1] > 0.5
    with pytest.raises(ValueError, match="method"):
        patch_contributions(prediction, method="attention")  # type: ignore[arg-type]


def test_contributions_follow_their_patches_whatever_the_order(
    prediction: Prediction, predictor: Predictor
) -> None:
    order = np.random.default_rng(1).permutation(40)
    turned = predictor.predict(
        predictor.prepare_patient(RECORD, PROFILE), _kept(_bag(), order), attribution=False
    )
    np.testing.assert_allclose(
        patch_contributions(turned), patch_contributions(prediction)[order], rtol=0, atol=1e-7
    )


# --- trust --------------------------------------------------------------------------------------------------


def test_a_prediction_says_how_far_its_maps_can_be_trusted(prediction: Prediction) -> None:
    said = prediction.provenance["map_trust"]
    assert set(said) == {"clinic", "genomic"}
    for name, one in said.items():
        assert list(one) == ["fold_agreement", "top_overlap", "deletion", "deletion_random", "trusted"]
        top = top_k(patch_scores(prediction.attention[name]), 8)
        assert one["deletion"] == pytest.approx(
            abs(without(prediction, top).risk - prediction.risk), abs=3e-6
        )
        assert one["trusted"] is bool(
            one["fold_agreement"] >= 0.5 and one["deletion"] >= 2 * one["deletion_random"]
        )
        assert one["top_overlap"] == 1.0, "of 40 patches all are among the top 50"
    assert said["clinic"]["deletion_random"] == said["genomic"]["deletion_random"] > 0


def test_trust_is_the_same_every_time_and_can_be_left_out(
    prediction: Prediction, predictor: Predictor
) -> None:
    patient = predictor.prepare_patient(RECORD, PROFILE)
    again = predictor.predict(patient, _bag(), attribution=False)
    assert again.provenance["map_trust"] == prediction.provenance["map_trust"]
    left = predictor.predict(patient, _bag(), attribution=False, trust=False)
    assert "map_trust" not in left.provenance
    np.testing.assert_array_equal(left.attention["clinic"], again.attention["clinic"])
    assert left.risk == again.risk


@pytest.mark.parametrize("n", [1, 2, 4])
def test_trust_of_a_handful_of_patches_is_said_as_far_as_it_goes(predictor: Predictor, n: int) -> None:
    patient = predictor.prepare_patient(RECORD, PROFILE)
    said = predictor.predict(patient, _bag(n), attribution=False).provenance["map_trust"]
    json.dumps(said, allow_nan=False)
    assert said["clinic"]["deletion_random"] is None
    assert (said["clinic"]["deletion"] is None) is (n == 1)
    assert said["clinic"]["trusted"] is False


def test_agreement_is_one_of_equal_maps_minus_one_of_opposite_ones_and_none_of_one() -> None:
    values = np.arange(200.0)
    assert agreement([values, values**3, 2 * values]) == (pytest.approx(1.0), 1.0)
    assert agreement([values, -values]) == (pytest.approx(-1.0), 0.0)
    assert agreement([values]) == (None, None)
    assert agreement([values, np.zeros(200)])[0] is None
    half = np.where(values >= 150, values - 25, values)  # 25 of the top 50 fall behind 25 others
    half[125:150] += 50
    assert agreement([values, half])[1] == 0.5


@pytest.mark.parametrize(
    ("measured", "trusted", "words"),
    [
        ((0.28, 0.1, 0.5, 0.1), False, "agree little on this map (0.28): read it with care"),
        ((-0.2, 0.0, 0.5, 0.1), False, "agree not at all on this map (-0.20): read it with care"),
        (
            (0.7, 0.5, 0.1, 0.1),
            False,
            "but the patches it marks move the risk 1.0 times as much as random ones",
        ),
        ((0.3, 0.5, 0.1, 0.1), False, "(0.30); the patches it marks move the risk 1.0 times"),
        (
            (0.7, 0.5, 0.5, 0.1),
            True,
            "and the patches it marks move the risk 5.0 times as much as random ones.",
        ),
        ((None, None, 0.5, 0.1), False, "cannot be said"),
        ((0.7, 0.5, None, None), False, "could not be measured"),
        ((0.7, 0.5, 0.0, 0.0), False, "no more than random ones"),
    ],
    ids=str,
)
def test_the_sentence_says_what_was_measured(
    measured: tuple[float | None, ...], trusted: bool, words: str
) -> None:
    found = MapTrust(*measured)
    assert found.trusted is trusted
    assert words in trust_sentence(found)
    assert measured_trust({"map_trust": {"clinic": found.document()}}) == {"clinic": found}


@pytest.mark.parametrize(
    "said", [None, [], "clinic", {"clinic": 3}, {"clinic": {"deletion": "much"}}, {"other": {}}], ids=str
)
def test_what_a_strange_file_says_of_its_maps_is_not_said(said: object) -> None:
    assert measured_trust({"map_trust": said}) == {}


# --- regions ------------------------------------------------------------------------------------------------


def _box(x: float, y: float, width: float, height: float) -> Polygon:
    return Polygon(np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], float))


def _region(name: str, *polygons: Polygon, class_name: str = "") -> Annotation:
    return Annotation(polygons, "annotation", name, class_name)


def test_regions_say_the_risk_without_them_and_of_them_alone(prediction: Prediction) -> None:
    left = _region("left", _box(0, 0, 1280, 2048), class_name="Tumor")
    row, nothing, everything = (
        _region("", _box(0, 0, 2560, 256)),
        _region("none", _box(0, 1500, 100, 100)),
        _region("all", _box(0, 0, 2560, 2048)),
    )
    found = region_risks(prediction, [left, row, nothing, everything])
    keys = ["name", "class", "n_patches", "share", "risk_without", "risk_alone", "change", "change_random_low", "change_random_high"]  # fmt: skip
    assert [list(one) for one in found] == [keys] * 4
    mask = prediction.coords[:, 0] < 1280
    assert (found[0]["name"], found[0]["class"], found[0]["n_patches"], found[0]["share"]) == (
        "left", "Tumor", 20, 0.5,
    )  # fmt: skip
    assert found[0]["risk_without"] == pytest.approx(without(prediction, mask).risk, abs=1e-6)
    assert found[0]["risk_alone"] == pytest.approx(without(prediction, ~mask).risk, abs=1e-6)
    assert found[0]["change"] == pytest.approx(without(prediction, mask).risk - prediction.risk, abs=1e-6)
    assert (found[1]["name"], found[1]["class"], found[1]["n_patches"]) == ("Region 2", None, 10)
    for one in found[:2]:
        assert one["change_random_low"] < one["change_random_high"]  # type: ignore[operator]
    assert (found[2]["n_patches"], found[2]["change"], found[2]["risk_alone"]) == (0, 0.0, None)
    assert (found[3]["change"], found[3]["risk_without"]) == (None, None)
    assert found[3]["risk_alone"] == pytest.approx(prediction.risk, abs=1e-6)
    assert region_risks(prediction, [left])[0] == pytest.approx(found[0]), "the same draws every time"


def test_random_regions_are_read_from_the_patches_of_that_number(prediction: Prediction) -> None:
    """The change of a random region of the same number lies within the range in about 95 % of cases."""
    random = np.random.default_rng(9)
    (one,) = region_risks(prediction, [_region("", _box(0, 0, 2560, 256))])
    changes = [without(prediction, random.permutation(40)[:10]).risk - prediction.risk for _ in range(60)]
    within = [one["change_random_low"] <= change <= one["change_random_high"] for change in changes]  # type: ignore[operator]
    assert 0.75 < np.mean(within) <= 1


def _geojson(path: Path, *features: dict[str, object]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def _feature(x: float, y: float, side: float, **said: object) -> dict[str, object]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": said}


def test_regions_are_read_with_qupath_classes_and_checked(tmp_path: Path) -> None:
    file = _geojson(
        tmp_path / "r.geojson",
        _feature(0, 0, 100, name="A", classification={"name": "Necrosis"}),
        _feature(0, 0, 9, objectType="cell"),
        _feature(50, 50, 100),
    )
    assert [(a.name, a.class_name) for a in read_regions(file, (500, 500))] == [("A", "Necrosis"), ("", "")]
    with pytest.raises(TissueError, match="outside the slide"):
        read_regions(file, (100, 100))
    with pytest.raises(TissueError, match="no region"):
        read_regions(_geojson(tmp_path / "n.geojson", _feature(0, 0, 9, objectType="cell")), (500, 500))
    many = _geojson(tmp_path / "m.geojson", *(_feature(0, 0, 9) for _ in range(501)))
    with pytest.raises(TissueError, match="501 regions"):
        read_regions(many, (500, 500))


def test_a_job_writes_trust_and_regions_and_the_case_keeps_them(tmp_path: Path, predictor: Predictor) -> None:
    slide = write_tiff(tmp_path / "s.tiff", tissue_image(1024, 1280))
    features = tmp_path / "s.h5"
    from napari_survpgc.core.features.feature_file import write_features

    bag = _bag(20)
    with open_slide(slide) as opened:
        fingerprint = opened.info.fingerprint
    grid = dataclasses.replace(bag.grid, coords=bag.grid.coords // 2, slide_size=(1280, 1024))
    write_features(dataclasses.replace(bag, grid=grid, slide_fingerprint=fingerprint), features)
    regions = _geojson(tmp_path / "r.geojson", _feature(0, 0, 600, name="<i>in</i>", classification="Tumor"))
    case = Case(slides=(slide,), record=RECORD, profile=PROFILE, features=(features,))
    options = JobOptions("cpu", attribution=False)
    made = predict_case(case, predictor.bundle, tmp_path / "out", options=options, regions=regions)
    said = read_prediction_json(tmp_path / "out" / "prediction.json")
    assert said.map_trust == made.provenance["map_trust"]
    assert said.regions is not None
    assert [dict(one) for one in said.regions] == made.provenance["regions"]
    assert said.regions[0]["class"] == "Tumor"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "What if a region were not there" in page
    assert "&lt;i&gt;in&lt;/i&gt;" in page
    assert trust_sentence(measured_trust(made.provenance)["clinic"]) in page
    kept = load_case(tmp_path / "out" / "case.survpgc").prediction.provenance
    assert (kept["map_trust"], kept["regions"]) == (made.provenance["map_trust"], made.provenance["regions"])
    several = dataclasses.replace(case, slides=(slide, slide), features=(features, features))
    with pytest.raises(SlideError, match="belongs to one slide"):
        predict_case(several, predictor.bundle, tmp_path / "two", options=options, regions=regions)


def test_one_slide_of_several_loses_its_patches_and_keeps_the_trust(
    tmp_path: Path, predictor: Predictor
) -> None:
    slide = write_tiff(tmp_path / "s.tiff", tissue_image(1024, 1280))
    with open_slide(slide) as opened:
        info = opened.info
    first, second = _bag(20), dataclasses.replace(_bag(12), slide_fingerprint=info.fingerprint)
    both = join_slides([first, second], ["a.tiff", "s.tiff"])
    whole = predictor.predict(predictor.prepare_patient(RECORD, PROFILE), both, attribution=False)
    shown = for_slide(whole, info)
    assert shown.provenance["map_trust"] == whole.provenance["map_trust"]
    np.testing.assert_allclose(patch_contributions(shown), patch_contributions(whole)[20:])
    found = without(shown, [1, 3])
    assert len(found.coords) == 10
    assert found.risk == pytest.approx(without(whole, [21, 23]).risk, abs=1e-6)


def test_the_contract_is_importable_from_the_package() -> None:
    assert predict.__module__ == "napari_survpgc.core.predict.predictor"
    assert without.__module__ == patch_contributions.__module__ == "napari_survpgc.core.predict.patches"
