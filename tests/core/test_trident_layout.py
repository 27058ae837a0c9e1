"""Features in TRIDENT's layout are found and understood by its readers, and by ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from napari_survpgc.cli import run
from napari_survpgc.core.errors import OutputError
from napari_survpgc.core.features import compute as features_module
from napari_survpgc.core.features.attributes import nominal_magnification
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.features.rows import Rows
from napari_survpgc.core.features.trident import trident_encoder, trident_place, trident_slide_name
from napari_survpgc.core.types import PatchFeatures, PatchGrid
from tests.builders import tissue_image, write_tiff

FOLDER = "20x_256px_0px_overlap"


def _their_coords(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Read as TRIDENT does before it cuts patches, and what it makes of it."""
    with h5py.File(path, "r") as file:
        attributes, coords = dict(file["coords"].attrs), file["coords"][:]
    for name in ("patch_size", "level0_magnification", "target_magnification"):
        assert attributes.get(name) is not None  # else it falls back to CLAM's names
    downsample = attributes["level0_magnification"] / attributes["target_magnification"]
    assert round(attributes["patch_size"] * downsample) == attributes["patch_size_level0"]
    return attributes, coords


def _their_features(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Read as its slide encoders do: (1, n, d) features, (1, n, 2) coords, patch side in level-0 px."""
    with h5py.File(path, "r") as file:
        coords, features, attributes = file["coords"][:], file["features"][:], dict(file["coords"].attrs)
        assert {"name", "encoder", "savetodir"} <= set(file["features"].attrs)
    assert features.ndim == 2
    return features[None], coords.astype(np.int64)[None], {"side": int(attributes["patch_size_level0"])}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_tiff(folder / "at20x.tiff", tissue_image(1024, 1024))
    write_tiff(folder / "at40x.ome.tiff", tissue_image(2048, 2048), mpp=0.25)
    return folder


def _features(slides: Path, out: Path, *more: str) -> int:
    files = [str(path) for path in sorted(slides.iterdir())]
    return run(["features", *files, "--out", str(out), "--format", "trident", "--device", "cpu", *more])


def test_both_readers_find_the_same(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert _features(slides, tmp_path) == 0
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {
        "at20x.geojson", "at40x.geojson",
        f"{FOLDER}/patches/at20x_patches.h5", f"{FOLDER}/patches/at40x_patches.h5",
        f"{FOLDER}/features_efficientnet-lite0/at20x.h5", f"{FOLDER}/features_efficientnet-lite0/at40x.h5",
    }  # fmt: skip
    for name, side, width, level0 in (("at20x", 256, 1024, 20), ("at40x", 512, 2048, 40)):
        file = tmp_path / FOLDER / "features_efficientnet-lite0" / f"{name}.h5"
        attributes, coords = _their_coords(tmp_path / FOLDER / "patches" / f"{name}_patches.h5")
        assert coords.dtype == np.int64
        assert attributes == {
            "patch_size": 256, "patch_size_level0": side, "level0_magnification": level0, "target_magnification": 20,
            "overlap": 0, "name": name, "savetodir": str(tmp_path / FOLDER), "level0_width": width,
            "level0_height": width,
        }  # fmt: skip
        features, places, facts = _their_features(file)
        assert features.shape == (1, len(coords), 1280)
        np.testing.assert_array_equal(places[0], coords)
        assert facts["side"] == side
        ours = read_features(file)
        np.testing.assert_array_equal(ours.features, features[0])
        np.testing.assert_array_equal(ours.grid.coords, coords)
        assert ours.encoder == "efficientnet-lite0"
        assert ours.grid.patch_px_level0 == side
        assert ours.grid.mpp == 0.5
    # A second run computes nothing; a file that was lost or damaged meanwhile is written again.
    first = tmp_path / FOLDER / "patches" / "at20x_patches.h5"
    before, second = first.read_bytes(), tmp_path / FOLDER / "patches" / "at40x_patches.h5"
    first.unlink()
    second.write_bytes(b"damaged")
    monkeypatch.setattr(
        features_module._WithinMemory, "__call__", lambda *_: pytest.fail("nothing is left to compute")
    )
    assert _features(slides, tmp_path) == 0
    assert first.stat().st_size == len(before)
    assert len(_their_coords(second)[1])


def test_an_interrupted_run_goes_on(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    original, calls = Rows.append, []

    def stop(self: object, *arguments: Any) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        calls.append(len(arguments[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Rows, "append", stop)
    assert _features(slides, tmp_path, "--batch-size", "2", "--workers", "1") == 130
    kept = calls.copy()
    assert not list(tmp_path.rglob("*.h5"))
    assert _features(slides, tmp_path, "--batch-size", "2", "--workers", "1") == 0
    total = sum(
        len(read_features(path).grid)
        for path in (tmp_path / FOLDER / "features_efficientnet-lite0").glob("*.h5")
    )
    assert sum(calls) == total, f"the first {sum(kept)} were not computed again"
    assert not list(tmp_path.rglob("*.partial"))


def _bag(encoder: str) -> PatchFeatures:
    grid = PatchGrid(np.array([[0, 0], [512, 0]], np.int32), 256, 0.5, 507.6, (2000, 1000))
    return PatchFeatures(np.ones((2, 4), np.float32), grid, encoder, np.zeros((0, 2), np.int32))


@pytest.mark.parametrize(
    ("encoder", "theirs"),
    [("uni", "uni_v1"), ("uni2-h", "uni_v2"), ("conch", "conch_v1"), ("h-optimus-0", "hoptimus0"),
     ("prov-gigapath", "gigapath"), ("phikon-v2", "phikon_v2"), ("virchow2", "virchow2"), ("my-own", "my-own")],
)  # fmt: skip
def test_encoders_are_named_as_they_name_them_and_come_back_under_our_id(
    tmp_path: Path, encoder: str, theirs: str
) -> None:
    place = trident_place(tmp_path, Path("a/slide.svs"), encoder, patch_px=256, mpp=0.5)
    place.write_features(_bag(encoder), place.features)
    place.write_patches(_bag(encoder))
    assert trident_encoder(encoder) == theirs
    assert place.features == tmp_path / FOLDER / f"features_{theirs}" / "slide.h5"
    with h5py.File(place.features, "r") as file:
        assert file["features"].attrs["encoder"] == theirs
        assert file["features"].attrs["name"] == "slide"
    back = read_features(place.features)
    assert back.encoder == encoder
    assert back.grid.patch_px_level0 == 507.6, "the exact side is kept beside the rounded one"
    # The coordinates alone serve a tensor file, which has none.
    assert read_features(place.features, coords=place.patches).grid.patch_px_level0 > 507


def test_magnifications_and_names() -> None:
    found = [nominal_magnification(mpp) for mpp in (0.2525, 0.25, 0.4965, 0.5, 1, 2, 4, 8)]
    assert found == [40, 40, 20, 20, 10, 5, 2.5, 1.25]
    assert all(isinstance(m, int) for m in found[:6])
    place = trident_place(Path("o"), Path("s.svs"), "uni", patch_px=512, mpp=8)
    assert place.folder.name == "1.25x_512px_0px_overlap"
    names = {"x.ome.tiff": "x", "x.OME.TIF": "x", "TCGA-A1.B2.svs": "TCGA-A1.B2", "dicom": "dicom"}
    assert {name: trident_slide_name(Path("f") / name) for name in names} == names


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    place = trident_place(tmp_path, Path("slide.svs"), "uni", patch_px=256, mpp=0.5)
    with pytest.raises(OutputError, match="in the way"):
        place.write_features(_bag("uni"), place.features)
    with pytest.raises(OutputError, match="in the way"):
        place.write_patches(dataclasses.replace(_bag("uni")))
