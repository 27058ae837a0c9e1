"""Cohorts whose features others made: CLAM's files that do not name their encoder, STAMP's, several sets of TRIDENT's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import BundleError, CohortError, FeatureError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.jobs.make_features import bundle_features
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.training.crossval import train
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.settings import Settings
from tests.builders import tissue_image, write_tiff
from tests.training.test_train import make_cohort

SETTINGS = Settings(model="mlp_pathology", model_config={"dim": 8}, epochs=1, n_folds=2, device="cpu")


def _as_clam(folder: Path, tensors: bool) -> Path:
    """Rewrite the features of a cohort as CLAM does: float32, no attributes, the geometry elsewhere or nowhere."""
    make_cohort(folder, n=24)
    (folder / "features" / "h5_files").mkdir()
    (folder / "features" / "pt_files").mkdir()
    for path in sorted((folder / "features").glob("*.h5")):
        with h5py.File(path) as file:
            rows, coords = file["features"][()], file["coords"][()]
        path.unlink()
        if tensors:
            torch.save(torch.from_numpy(rows), folder / "features" / "pt_files" / f"{path.stem}.pt")
        else:
            with h5py.File(folder / "features" / "h5_files" / path.name, "w") as file:
                file["features"], file["coords"] = rows[None], coords.astype(np.int32)
    return folder


@pytest.mark.parametrize("tensors", [False, True])
def test_clams_features_train_and_the_bundle_takes_features_of_that_width(
    tmp_path: Path, tensors: bool
) -> None:
    folder = _as_clam(tmp_path / "cohort", tensors)
    result = train(read_cohort(folder), SETTINGS, tmp_path / "run")
    assert "do not say which encoder made them" in result.describe()
    make_bundle(tmp_path / "run", tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    slide = write_tiff(tmp_path / "s.tiff", tissue_image(512, 512))
    with open_slide(slide) as opened, pytest.raises(BundleError, match="does not know which encoder"):
        bundle_features(opened, bundle, tmp_path / "f.h5")
    make_cohort(tmp_path / "named", n=4)
    bag = read_features(tmp_path / "named" / "features" / "P01.h5")  # says efficientnet-lite0
    predictor = Predictor(bundle, "cpu")
    patient = predictor.prepare_patient(read_cohort(folder).records["P01"], None)
    found = predictor.predict(patient, bag, attribution=False)
    assert any("does not know which encoder" in warning for warning in found.warnings)
    narrow = dataclasses.replace(bag, features=bag.features[:, :7])
    with pytest.raises(
        FeatureError, match=r"7 numbers wide.*Give features of the encoder that its training data"
    ):
        predictor.predict(patient, narrow, attribution=False)


def test_the_user_names_the_encoder_that_the_files_do_not(tmp_path: Path) -> None:
    folder = _as_clam(tmp_path / "cohort", False)
    named = dataclasses.replace(SETTINGS, image_encoder="uni")
    result = train(read_cohort(folder), named, tmp_path / "run")
    assert "do not say" not in result.describe()
    make_bundle(tmp_path / "run", tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").config.encoders["pathology"].id == "uni"
    make_cohort(tmp_path / "other", n=24)
    with pytest.raises(CohortError, match="were made with efficientnet-lite0, not with uni"):
        train(read_cohort(tmp_path / "other"), named, tmp_path / "run2")


def test_stamps_features_train(tmp_path: Path) -> None:
    folder = make_cohort(tmp_path / "cohort", n=24)
    for path in sorted((folder / "features").glob("*.h5")):
        with h5py.File(path) as file:
            rows, coords = file["features"][()], file["coords"][()]
        with h5py.File(path, "w") as file:
            file["feats"], file["coords"] = rows.astype(np.float16), coords * 0.5
            file.attrs.update(
                {
                    "unit": "um",
                    "tile_size_um": 112.0,
                    "tile_size_px": 224,
                    "extractor": "mahmood-uni-3cb0b4a4",
                }
            )
    train(read_cohort(folder), SETTINGS, tmp_path / "run")
    make_bundle(tmp_path / "run", tmp_path / "bundle")
    spec = load_bundle(tmp_path / "bundle").config.encoders["pathology"]
    assert (spec.id, spec.patch_px, spec.mpp) == ("uni", 224, 0.5)


def test_several_sets_of_features_are_not_chosen_from(tmp_path: Path) -> None:
    folder = make_cohort(tmp_path / "cohort", n=4)
    files = sorted((folder / "features").glob("*.h5"))
    place = folder / "features" / "20x_256px_0px_overlap" / "features_uni_v1"
    place.mkdir(parents=True)
    for path in files:
        path.rename(place / path.name)
    assert all(path.parent == place for paths in read_cohort(folder).features.values() for path in paths)
    (place.parent / "features_uni_v2").mkdir()
    with pytest.raises(
        CohortError, match=r"several sets of features \(20x_256px_0px_overlap/features_uni_v1, "
    ):
        read_cohort(folder)
