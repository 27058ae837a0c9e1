"""Case files: everything comes back, spoilt ones end in one sentence; attention maps as the window paints them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_survpgc.core.attention.maps import DIFFERENCE, AttentionMaps, MapScale, PatchCells
from napari_survpgc.core.output.case_file import (
    CaseFileError,
    MissingSlideError,
    SavedCase,
    find_case_slide,
    load_case,
    save_case,
)
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.slide.backends import is_slide
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.slide.tiles import TILE_PX, TileCache, tiled_levels
from napari_survpgc.core.tissue.outlines import outline_image
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
    ExpressionUnit,
    PatchFeatures,
    PatchGrid,
    Polygon,
    TissueMask,
)
from napari_survpgc.core.user_folder import remember_mpp, remembered_mpp
from tests.builders import GENES, tiny_bundle, tissue_image, write_tiff


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> SavedCase:
    folder = tmp_path_factory.mktemp("case")
    bundle = tiny_bundle(folder / "bundle")
    rng = np.random.default_rng(0)
    place = np.arange(40)
    grid = PatchGrid(
        np.stack([place % 8 * 256, place // 8 * 256], 1).astype(np.int32), 256, 0.5, 256.0, (4000, 4000)
    )
    rows = rng.normal(size=(40, 1280)).astype(np.float32)
    features = PatchFeatures(rows, grid, "efficientnet-lite0", np.zeros((0, 2), np.int32), "ab" * 32)
    profile = ExpressionProfile(
        dict.fromkeys(GENES, 1.0), ExpressionUnit.ZSCORE, True, "s", "x.csv", ("read",)
    )
    record = ClinicalRecord(age=60.0, sex="female")
    predictor = Predictor(bundle, "cpu")
    prediction = predictor.predict(predictor.prepare_patient(record, profile), features)
    ring = np.array([[0.0, 0.0], [2000.0, 0.0], [2000.0, 2000.0]])
    tissue = TissueMask((Polygon(ring, (ring / 4 + 100,)),), (4000, 4000), "edited")
    return SavedCase(
        Path("/data/slide.svs"), "ab" * 32, 0.5, record, profile, folder / "bundle", bundle.fingerprint, tissue,
        features, prediction, "case", {"map": "clinic"},
    )  # fmt: skip


def test_a_case_comes_back_whole(case: SavedCase, tmp_path: Path) -> None:
    path = tmp_path / "a.survpgc"
    save_case(case, path)
    found = load_case(path)
    assert found.record == case.record
    assert found.profile == case.profile
    assert found.settings == {"map": "clinic"}
    assert found.mpp == 0.5
    assert np.array_equal(found.features.features, case.features.features)
    assert np.array_equal(found.tissue.polygons[0].holes[0], case.tissue.polygons[0].holes[0])
    assert found.prediction.risk == case.prediction.risk
    assert found.prediction.attribution == case.prediction.attribution
    for name, matrix in case.prediction.attention.items():
        assert np.array_equal(found.prediction.attention[name], matrix)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_case_file_may_be_read_by_whom_the_umask_lets(case: SavedCase, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_case(case, tmp_path / "a.survpgc")
    finally:
        os.umask(before)
    assert (tmp_path / "a.survpgc").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("damage", ["text", "cut", "foreign", "coords", "missing"])
def test_a_spoilt_case_file_ends_in_one_sentence(case: SavedCase, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.survpgc"
    save_case(case, path)
    if damage == "text":
        path.write_text("hello")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "missing":
        path.unlink()
    else:
        with h5py.File(path, "a") as file:
            if damage == "foreign":
                del file.attrs["survpgc_case"]
            else:
                del file["prediction/coords"]
                file["prediction/coords"] = np.zeros((3, 2))
    with pytest.raises(CaseFileError, match=r"a\.survpgc"):
        load_case(path)


def test_maps_are_those_of_the_published_rule_in_three_scales(case: SavedCase) -> None:
    from napari_survpgc.core.attention.scores import patch_scores, percentiles

    maps = AttentionMaps(case.prediction)
    matrix = case.prediction.attention["clinic"]
    assert np.allclose(maps.map("clinic").scores, patch_scores(matrix), atol=1e-6)
    assert np.allclose(maps.values("clinic").values, percentiles(patch_scores(matrix)))
    raw = maps.values("clinic", 2, MapScale.RAW)
    assert np.array_equal(raw.values, matrix[2])
    assert (raw.low, raw.high) == pytest.approx((matrix[2].min(), matrix[2].max()))
    difference = maps.values(DIFFERENCE)
    assert np.allclose(difference.values, maps.map("clinic").percentiles - maps.map("genomic").percentiles)
    assert (difference.low, difference.high) == (-100, 100)


def test_cells_paint_each_patch_at_its_place_and_find_it_again() -> None:
    coords = np.array([[100, 50], [356, 50], [100, 306], [868, 818]], np.int32)
    cells = PatchCells(coords, 256.0)
    image = cells.image(np.array([1, 2, 3, 4], np.float32), -9)
    assert image.shape == (4, 4)
    assert image[0, 0] == 1
    assert image[0, 1] == 2
    assert image[1, 0] == 3
    assert image[3, 3] == 4
    assert (image == -9).sum() == 12
    assert cells.at(99, 60) is None
    assert cells.at(101, 51) == 0
    assert cells.at(355.9, 60) == 0
    assert cells.at(356.1, 60) == 1
    assert cells.at(700, 60) is None
    assert set(cells.neighbors(0)) == {1, 2}
    assert cells.neighbors(3) == ()


def test_tiles_are_the_slides_own_pixels_and_are_read_once(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", tissue_image(1400, 1700), levels=2)
    with open_slide(path) as slide:
        tiles = TileCache(slide)
        for index, level in enumerate(tiled_levels(tiles)):
            whole = slide.read_region(0, 0, index, slide.info.levels[index].size)
            assert np.array_equal(np.asarray(level), whole)
        level = tiled_levels(tiles)[0]
        part = level[TILE_PX - 7 : TILE_PX + 9, 3:40]
        assert np.array_equal(part, slide.read_region(3, TILE_PX - 7, 0, (37, 16)))
        calls = []
        original = tiles._read
        tiles._read = lambda key: calls.append(key) or original(key)  # type: ignore[method-assign]
        _ = level[TILE_PX - 7 : TILE_PX + 9, 3:40]
        assert calls == []
        tiles.close()
        assert level[:4, :4].shape == (4, 4, 3)  # a viewer's late request after closing is no error


def test_a_slide_is_told_from_a_plain_picture(tmp_path: Path) -> None:
    assert is_slide(write_tiff(tmp_path / "pyramid.tiff", tissue_image(512, 512), levels=2))
    assert not is_slide(write_tiff(tmp_path / "single.tiff", tissue_image(512, 512), levels=1))
    assert not is_slide(tmp_path / "missing.tiff")


def test_pixel_sizes_are_remembered_and_a_spoilt_memory_is_empty(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SURVPGC_CACHE", str(tmp_path / "c"))
    assert remembered_mpp("ab" * 32) is None
    remember_mpp("ab" * 32, 0.23)
    remember_mpp("cd" * 32, 0.5)
    assert remembered_mpp("ab" * 32) == 0.23
    (tmp_path / "c" / "pixel_sizes.json").write_text("{")
    assert remembered_mpp("ab" * 32) is None


def test_the_outline_runs_along_the_edge_of_the_tissue() -> None:
    square = np.array([[100.0, 100.0], [300.0, 100.0], [300.0, 300.0], [100.0, 300.0]])
    image, downsample = outline_image(TissueMask((Polygon(square),), (400, 400), "x"), 400)
    assert downsample == 1
    assert image[200, 96:105].any()
    assert image[200, 200] == 0
    assert image[200, 50] == 0


def _slide_at(place: Path, case: SavedCase) -> SavedCase:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    return dataclasses.replace(case, slide=place)


def test_a_case_names_its_slide_relative_and_moves_with_it(case: SavedCase, tmp_path: Path) -> None:
    saved = _slide_at(tmp_path / "a" / "slides" / "s.svs", case)
    path = tmp_path / "a" / "results" / "one" / "a.survpgc"
    save_case(saved, path)
    assert str(tmp_path).encode() not in path.read_bytes()
    (tmp_path / "a").rename(tmp_path / "b")
    path = tmp_path / "b" / "results" / "one" / "a.survpgc"
    found = load_case(path)
    assert find_case_slide(found, path) == tmp_path / "b" / "slides" / "s.svs"


def test_a_slide_in_another_home_is_named_alone_and_known_on_this_machine(
    case: SavedCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURVPGC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "jane")
    saved = _slide_at(tmp_path / "jane" / "s.svs", case)
    path = tmp_path / "bob" / "a.survpgc"
    save_case(saved, path)
    content = path.read_bytes()
    assert b"jane" not in content
    assert str(case.bundle.parent).encode() not in content
    assert find_case_slide(load_case(path), path) == tmp_path / "jane" / "s.svs"
    monkeypatch.setenv("SURVPGC_CACHE", str(tmp_path / "other"))
    with pytest.raises(MissingSlideError, match=r"s\.svs"):
        find_case_slide(load_case(path), path)
    (tmp_path / "bob" / "s.svs").touch()
    assert find_case_slide(load_case(path), path) == tmp_path / "bob" / "s.svs"


def test_a_case_of_an_earlier_version_names_absolute_paths_and_opens(case: SavedCase, tmp_path: Path) -> None:
    path = tmp_path / "a.survpgc"
    save_case(case, path)
    for said, there in (
        (str(tmp_path / "old" / "s.svs"), tmp_path / "old" / "s.svs"),
        ("C:\\slides\\s.svs", tmp_path / "s.svs"),
        ("//server/share/s.svs", tmp_path / "s.svs"),  # never asked for on a server that the case names
    ):
        _rewrite(path, slide=said)
        there.parent.mkdir(exist_ok=True)
        there.touch()
        assert find_case_slide(load_case(path), path) == there


def _rewrite(path: Path, **entries: object) -> None:
    with h5py.File(path, "a") as file:
        document = json.loads(file["document"][()]) | entries
        del file["document"]
        file["document"] = json.dumps(document)


@pytest.mark.parametrize("kind", ["soft", "external link", "external storage", "virtual", "circle"])
def test_no_link_out_of_a_case_file_is_followed(case: SavedCase, tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "a.survpgc", tmp_path / "other.h5"
    save_case(case, path)
    with h5py.File(other, "w") as file:
        file["secret"] = np.zeros(4)
    with h5py.File(path, "a") as file:
        name = "prediction/hazards"
        if kind != "circle":
            del file[name]
        if kind == "soft":
            file[name] = h5py.SoftLink("/prediction/survival")
        elif kind == "external link":
            file[name] = h5py.ExternalLink(str(other), "secret")
        elif kind == "external storage":
            file.create_dataset(name, (4,), "f8", external=[(str(other), 0, 32)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), "f8")
            layout[:] = h5py.VirtualSource(str(other), "secret", (4,))
            file.create_virtual_dataset(name, layout)
        else:
            file["prediction/again"] = file["prediction"]
    with pytest.raises(CaseFileError, match="points to other files"):
        load_case(path)
