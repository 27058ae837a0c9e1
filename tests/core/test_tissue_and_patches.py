"""Tissue is found, edited and cut into patches; glass, pen and coverslip edges are not tissue."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_survpgc.core.errors import TissueError
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.tissue.binary import (
    closed,
    dilated,
    eroded,
    opened_by_line,
    opened_by_square,
    without_small,
)
from napari_survpgc.core.tissue.contours import contours
from napari_survpgc.core.tissue.find import find_tissue, tissue_pixels
from napari_survpgc.core.tissue.geojson import TissueClassNeededError, read_geojson, write_geojson
from napari_survpgc.core.tissue.outlines import area_px, cut_out, mended, rasterize
from napari_survpgc.core.tissue.patches import patch_grid, upsampling_warning
from napari_survpgc.core.types import Polygon, SlideInfo, TissueMask
from tests.builders import tissue_image, write_tiff


def _scene() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a picture of 8 µm per px with dark and pale tissue, fat, four pens, a coverslip edge and a shadow."""
    rng = np.random.default_rng(4)
    height, width = 600, 900
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), (243.0, 242.0, 240.0))
    image -= np.clip((x[..., None] - 650) / 10, 0, 22)  # a gray shadow, darker to the right
    classes = {}

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    texture = ndimage.gaussian_filter(rng.normal(0, 1, (height, width)), 1.2)[..., None] * 60
    classes["dark"] = ellipse(200, 200, 120, 110)
    image[classes["dark"]] = (np.array([170.0, 90, 160]) + texture)[classes["dark"]]
    classes["pale"] = ellipse(200, 460, 110, 80)
    image[classes["pale"]] = (np.array([236.0, 215, 230]) + texture * 0.25)[classes["pale"]]
    classes["fat"] = ellipse(480, 460, 100, 80)
    walls = ((x % 14 < 2) | (y % 14 < 2)) & classes["fat"]
    image[walls] = (215, 160, 195)
    for number, color in enumerate([(35, 60, 170), (25, 125, 70), (200, 40, 45), (30, 30, 34)]):
        mark = (np.abs(x - 420 - 55 * number) < 9) & (y > 40) & (y < 300)
        classes[f"pen{number}"] = mark
        image[mark] = color
    classes["coverslip"] = (y > 580) & (y < 584)
    image[classes["coverslip"]] = (120, 118, 116)
    return np.clip(image, 0, 255).astype(np.uint8), classes


def test_stained_pale_and_fatty_tissue_stay_and_the_rest_goes() -> None:
    image, classes = _scene()
    mask = tissue_pixels(image, 8.0)
    share = {name: float(mask[where].mean()) for name, where in classes.items()}
    assert share["dark"] > 0.97
    assert share["pale"] > 0.95
    assert share["fat"] > 0.90
    for pen in range(4):
        assert share[f"pen{pen}"] < 0.03, share
    assert share["coverslip"] < 0.02
    background = ~np.any([ndimage.binary_dilation(c, iterations=8) for c in classes.values()], axis=0)
    assert mask[background].mean() < 0.003


def test_tissue_of_a_slide_becomes_polygons_that_draw_the_same_mask(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "s.tiff", tissue_image(3000, 4000))
    with open_slide(path) as slide:
        mask = find_tissue(slide)
        again = find_tissue(slide)
    assert len(mask.polygons) == 1
    np.testing.assert_array_equal(mask.polygons[0].exterior, again.polygons[0].exterior)
    drawn = rasterize(mask, 16)
    y, x = np.mgrid[: drawn.shape[0], : drawn.shape[1]]
    truth = (((x + 0.5) * 16 / 4000 - 0.5) / 0.4) ** 2 + (((y + 0.5) * 16 / 3000 - 0.5) / 0.4) ** 2 < 1
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.96


def test_holes_survive_geojson(tmp_path: Path) -> None:
    square = np.array([[100.0, 100], [900, 100], [900, 900], [100, 900]])
    hole = np.array([[300.0, 300], [300, 600], [600, 600], [600, 300]])
    mask = TissueMask((Polygon(square, (hole,)),), (1000, 1000), "edited")
    write_geojson(mask, tmp_path / "t.geojson")
    read = read_geojson(tmp_path / "t.geojson", (1000, 1000))
    np.testing.assert_array_equal(rasterize(read, 4), rasterize(mask, 4))
    drawn = rasterize(read, 10)
    assert drawn[20, 20]
    assert not drawn[45, 45]
    assert drawn.sum() == pytest.approx(80 * 80 - 30 * 30, abs=150)


def test_outlines_are_written_as_qupath_writes_annotations(tmp_path: Path) -> None:
    two = tuple(Polygon(np.array(_square(x, 0, 100), float)) for x in (0, 500))
    mask = TissueMask(two, (1000, 1000), "survpgc-2")
    write_geojson(mask, tmp_path / "t.geojson", mpp=0.5)
    features = json.loads((tmp_path / "t.geojson").read_text(encoding="utf-8"))["features"]
    for number, feature in enumerate(features, start=1):
        said = feature["properties"]
        assert said["objectType"] == "annotation"
        assert said["name"] == f"Tissue {number}"
        assert said["classification"] == {"name": "Tissue", "color": [0, 150, 200]}
        assert said["measurements"] == {"Area µm^2": 2500.0, "Holes": 0}
    assert len(read_geojson(tmp_path / "t.geojson", (1000, 1000)).polygons) == 2
    write_geojson(mask, tmp_path / "px.geojson")
    assert "Area px^2" in (tmp_path / "px.geojson").read_text(encoding="utf-8")


def test_masks_are_changed_as_scipy_does_it() -> None:
    rng = np.random.default_rng(0)
    cross, line = ndimage.generate_binary_structure(2, 1), np.ones((1, 9), bool)
    for share in (0.4, 0.5, 0.6):
        mask = ndimage.gaussian_filter(rng.random((80, 113)), 1.2) > 1 - share
        for n in (1, 2, 4):
            np.testing.assert_array_equal(dilated(mask, n), ndimage.binary_dilation(mask, cross, n))
            np.testing.assert_array_equal(eroded(mask, n), ndimage.binary_erosion(mask, cross, n))
            padded = ndimage.binary_closing(np.pad(mask, 9), cross, n)[9:-9, 9:-9]
            np.testing.assert_array_equal(closed(mask, n), padded)
        np.testing.assert_array_equal(opened_by_line(mask, 9, 1), ndimage.binary_opening(mask, line))
        np.testing.assert_array_equal(opened_by_line(mask, 9, 0), ndimage.binary_opening(mask, line.T))
        np.testing.assert_array_equal(
            opened_by_square(mask, 5), ndimage.binary_opening(mask, np.ones((5, 5), bool))
        )
        labels, _ = ndimage.label(mask)
        large = np.bincount(labels.ravel()) >= 30
        large[0] = False
        np.testing.assert_array_equal(without_small(mask, 30, 0), large[labels])


def test_small_holes_are_filled_and_notches_at_the_border_are_not() -> None:
    mask = np.ones((40, 50), bool)
    mask[10:14, 10:14] = mask[20:32, 20:32] = mask[:4, 30:34] = False
    filled = without_small(mask, 1, 20)
    assert filled[10:14, 10:14].all()
    assert not filled[20:32, 20:32].any()
    assert not filled[:4, 30:34].any()


def test_pieces_that_touch_at_a_corner_are_traced_apart_and_holes_belong_to_their_piece() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:5, 1:5] = mask[5:11, 5:11] = True
    mask[7:9, 7:9] = False
    first, second = contours(mask)
    assert len(first.holes) == 0
    assert len(second.holes) == 1
    assert np.abs(second.holes[0] - 8).max() <= 1
    for found, size in ((first, 4), (second, 6)):
        assert np.ptp(found.outer, axis=0) == pytest.approx([size, size])
    assert contours(np.zeros((5, 5), bool)) == []


def test_a_coverslip_edge_of_two_millimeters_goes_whatever_the_size_of_the_picture() -> None:
    for size in (400, 1200):
        image = np.full((size, size, 3), 243, np.uint8)
        image[size // 2 : size // 2 + 4, 20:320] = (222, 205, 216)
        image[40:110, 40:110] = (190, 120, 170)
        mask = tissue_pixels(image, 8.0)
        assert mask[45:105, 45:105].all()
        assert not mask[size // 2 - 5 : size // 2 + 10].any()


def test_qupath_multipolygons_and_bare_lists_are_read(tmp_path: Path) -> None:
    ring = [[0, 0], [50, 0], [50, 50], [0, 50], [0, 0]]
    shape = {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [[ring], [ring]]}}
    (tmp_path / "q.geojson").write_text(json.dumps([shape]))
    assert len(read_geojson(tmp_path / "q.geojson", (100, 100)).polygons) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "not valid JSON"),
        ('{"type": "FeatureCollection", "features": []}', "no polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "not a GeoJSON"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [9e6, 0], [9e6, 9e6], [0, 0]]]}', "outside the slide"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [9, 9], [0, 0]]]}', "enclose nothing"),
        ('{"type": "Polygon", "coordinates": [[[0, "x"], [5, 5], [9, 9], [0, 0]]]}', "not a GeoJSON"),
    ],
)
def test_bad_outlines_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.geojson").write_text(content)
    with pytest.raises(TissueError, match=message):
        read_geojson(tmp_path / "bad.geojson", (1000, 1000))


def _feature(ring: list[list[float]], class_name: str = "", **said: object) -> dict[str, object]:
    classification = {"classification": {"name": class_name}} if class_name else {}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {"objectType": "annotation", **classification, **said},
    }


def _square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def _read(tmp_path: Path, *features: dict[str, object], classes: tuple[str, ...] = ()) -> TissueMask:
    path = tmp_path / "q.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return read_geojson(path, (1000, 1000), classes)


@pytest.mark.parametrize("name", ["Ignore*", "Necrosis", "Pen marks*", "ignore"])
def test_a_region_that_qupath_ignores_is_cut_out(tmp_path: Path, name: str) -> None:
    mask = _read(tmp_path, _feature(_square(0, 0, 400), "Tumor"), _feature(_square(200, 0, 600), name))
    assert sum(area_px(p) for p in mask.polygons) == pytest.approx(200 * 400)
    assert any(name in note for note in mask.notes)


def test_cells_and_detections_are_no_tissue(tmp_path: Path) -> None:
    cell = _feature(_square(500, 500, 20), objectType="cell")
    nucleus = _feature(_square(600, 600, 20), "Nucleus")
    mask = _read(tmp_path, _feature(_square(0, 0, 400)), cell, nucleus)
    assert len(mask.polygons) == 1
    assert "2 outlines of cells" in mask.notes[0]
    with pytest.raises(TissueError, match="no outline of tissue"):
        _read(tmp_path, cell, nucleus)


def test_of_several_classes_one_must_be_said(tmp_path: Path) -> None:
    both = (_feature(_square(0, 0, 400), "Tumor"), _feature(_square(500, 0, 100), "Stroma"))
    with pytest.raises(TissueClassNeededError, match=r"classes Stroma, Tumor.*--tissue-class") as caught:
        _read(tmp_path, *both)
    assert pickle.loads(pickle.dumps(caught.value)).classes == ("Stroma", "Tumor")
    assert sum(area_px(p) for p in _read(tmp_path, *both, classes=("tumor",)).polygons) == 400 * 400
    assert len(_read(tmp_path, *both, classes=("all",)).polygons) == 2
    with pytest.raises(TissueError, match="no outlines of the class fat"):
        _read(tmp_path, *both, classes=("Fat",))


def test_an_outline_without_points_is_skipped_with_a_note(tmp_path: Path) -> None:
    empty = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}, "properties": {}}
    nested = {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [[]]}, "properties": {}}
    mask = _read(tmp_path, _feature(_square(0, 0, 400)), empty, nested)
    assert len(mask.polygons) == 1
    assert "2 outlines have no points" in mask.notes[0]


def test_an_outline_that_crosses_itself_is_mended(tmp_path: Path) -> None:
    bow = [[0, 0], [400, 400], [400, 0], [0, 400]]
    mask = _read(tmp_path, _feature(bow))
    assert len(mask.polygons) == 2
    assert sum(area_px(p) for p in mask.polygons) == pytest.approx(400 * 400 / 2)
    assert mask.notes == ("Outlines that cross themselves were mended.",)
    whole = Polygon(np.array(_square(0, 0, 10), float))
    assert mended(whole)[0] is whole


def test_a_hole_over_two_outlines_is_cut_out_of_both() -> None:
    two = [Polygon(np.array(_square(x, 0, 100), float)) for x in (0, 150)]
    kept = cut_out(two, [Polygon(np.array(_square(50, -50, 150), float))])
    assert sum(area_px(p) for p in kept) == pytest.approx(100 * 50 + 100 * 50)
    assert cut_out(two, [Polygon(np.array(_square(500, 500, 10), float))])[0] is two[0]


def test_an_empty_slide_gives_a_clear_answer(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "glass.tiff", np.full((1500, 1500, 3), 243, np.uint8))
    with open_slide(path) as slide, pytest.raises(TissueError, match=r"No tissue was found on glass\.tiff"):
        find_tissue(slide)


def _info(size: tuple[int, int], mpp: float | None) -> SlideInfo:
    return SlideInfo(
        Path("x.svs"), "f", "openslide", "v", size, (), mpp, mpp, mpp, None, (0, 0, *size), (255, 255, 255)
    )


def _full(size: tuple[int, int]) -> TissueMask:
    w, h = size
    return TissueMask((Polygon(np.array([[0.0, 0], [w, 0], [w, h], [0, h]])),), size, "edited")


@pytest.mark.parametrize("mpp", [0.5, 0.499, 0.25, 0.2519, 0.172, 2.0])
def test_patches_never_overlap_and_stay_inside(mpp: float) -> None:
    size = (5003, 3999)
    grid = patch_grid(_full(size), _info(size, mpp))
    side = 256 * 0.5 / mpp
    assert grid.patch_px_level0 == pytest.approx(side)
    assert grid.coords.dtype == np.int32
    order = np.lexsort((grid.coords[:, 0], grid.coords[:, 1]))
    np.testing.assert_array_equal(order, np.arange(len(grid)))
    for axis, length in ((0, size[0]), (1, size[1])):
        places = np.unique(grid.coords[:, axis])
        assert np.abs(np.diff(places) - side).max() < 1
        assert places[-1] + side <= length + 1
        assert len(places) == int(length / side)


def test_tissue_share_decides() -> None:
    size = (2560, 2560)
    half = TissueMask((Polygon(np.array([[0.0, 0], [128, 0], [128, 2560], [0, 2560]])),), size, "edited")
    assert len(patch_grid(half, _info(size, 0.5), min_tissue=0.4)) == 10
    with pytest.raises(TissueError, match="too small"):
        patch_grid(half, _info(size, 0.5), min_tissue=0.6)


def test_coarse_slides_are_never_enlarged_in_silence() -> None:
    assert upsampling_warning(_info((10, 10), 0.5), 0.5) is None
    warning = upsampling_warning(_info((10, 10), 2.0), 0.5)
    assert warning is not None
    assert "enlarged 4.0 times" in warning


def test_real_slides_keep_their_tissue(shared_dir: Path) -> None:
    with open_slide(shared_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        grid = patch_grid(find_tissue(slide), slide.info)
    assert 35 <= len(grid) <= 60
    with open_slide(shared_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs", mpp=2.0) as slide:
        mask = find_tissue(slide)
    # The faint stitching background at the corners is not tissue.
    drawn = rasterize(mask, 16)
    assert 0.5 < drawn.mean() < 0.75
    assert not drawn[:40, :40].any()
