"""Editing the tissue: areas and holes drawn by hand, the brush, from an empty slide and from what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtWidgets import QInputDialog

from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.core.tissue.outlines import rasterize

from .conftest import WAIT_MS

MPP = 0.5


def square(left: float, top: float, side: float) -> NDArray[np.float64]:
    """Corners (y, x) in µm of a square given in level-0 px."""
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], float) * side + [top, left]
    return (corners - 0.5) * MPP


@pytest.fixture
def empty(dock: SurvPGCDock, slide_file: Path, qtbot) -> SurvPGCDock:
    """The dock with a slide whose tissue nobody has looked for."""
    dock.session.open_slide(slide_file)
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=WAIT_MS)
    assert dock.session.tissue is None
    return dock


def test_areas_and_holes_are_drawn_on_an_empty_slide(empty: SurvPGCDock) -> None:
    editor, layers = empty.slide.editor, empty.layers
    assert editor.isHidden()
    empty.slide.outline_button.click()
    assert not editor.isHidden()
    assert layers.tools.shapes.mode == "add_polygon_lasso"
    layers.tools.shapes.add_polygons([square(200, 300, 800)])
    editor.tools["cut"].click()
    layers.tools.shapes.add_polygons([square(400, 500, 200)])
    editor.apply_button.click()
    tissue = empty.session.tissue
    assert tissue.method == "edited"
    (polygon,) = tissue.polygons
    assert np.allclose(polygon.exterior.min(0), (200, 300), atol=1)
    (hole,) = polygon.holes
    assert np.allclose(hole.max(0), (600, 700), atol=1)
    mask = rasterize(tissue, 1.0)
    assert mask[350, 250]
    assert not mask[600, 500]
    assert editor.isHidden()
    assert layers.tools.shapes is None


def test_an_area_is_selected_and_deleted(empty: SurvPGCDock) -> None:
    editor, layers = empty.slide.editor, empty.layers
    empty.slide.outline_button.click()
    layers.tools.shapes.add_polygons([square(200, 300, 300)])
    layers.tools.shapes.add_polygons([square(900, 300, 300)])
    editor.tools["select"].click()
    assert layers.tools.shapes.mode == "select"
    layers.tools.shapes.selected_data = {0}
    editor.delete_button.click()
    editor.apply_button.click()
    (polygon,) = empty.session.tissue.polygons
    assert polygon.exterior[:, 0].min() == pytest.approx(900, abs=1)


def test_an_outline_without_any_area_is_refused_in_words(empty: SurvPGCDock, qtbot) -> None:
    empty.slide.outline_button.click()
    with qtbot.waitSignal(empty.session.message) as caught:
        empty.slide.editor.apply_button.click()
    assert "No tissue is left" in caught.args[0].text
    assert empty.session.tissue is None


def test_the_brush_paints_and_erases(empty: SurvPGCDock) -> None:
    editor, layers = empty.slide.editor, empty.layers
    empty.slide.brush_button.click()
    assert layers.tools.brush.mode == "paint"
    assert not layers.tools.brush.data.any()
    editor.size.setValue(10)
    assert layers.tools.brush.brush_size == 10
    layers.tools.brush.paint((40, 50), 1)
    editor.tools["erase"].click()
    assert layers.tools.brush.mode == "erase"
    editor.apply_button.click()
    (polygon,) = empty.session.tissue.polygons
    downsample = 8.0 / MPP
    middle = (polygon.exterior.min(0) + polygon.exterior.max(0)) / 2 / downsample
    assert middle == pytest.approx((50.5, 40.5), abs=1)


def test_discard_keeps_the_outline_and_the_maps_come_back(finished: SurvPGCDock) -> None:
    before = finished.session.tissue
    finished.maps.checks["genomic"].click()
    finished.slide.brush_button.click()
    assert not any(layer.visible for layer in finished.layers.maps.values())
    finished.layers.tools.brush.data = np.zeros_like(finished.layers.tools.brush.data)
    finished.slide.editor.discard_button.click()
    assert finished.session.tissue is before
    assert not finished.session.stale
    assert finished.layers.tools.brush is None
    shown = {name for name, layer in finished.layers.maps.items() if layer.visible}
    assert shown == {"clinic", "genomic"}


def test_of_several_classes_in_a_file_the_user_is_asked(
    empty: SurvPGCDock, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outline(x: int, name: str) -> dict[str, object]:
        ring = [[x, 0], [x + 300, 0], [x + 300, 300], [x, 300], [x, 0]]
        said = {"objectType": "annotation", "classification": {"name": name}}
        return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": said}

    (tmp_path / "o.geojson").write_text(json.dumps([outline(0, "Tumor"), outline(300, "Stroma")]))
    asked = []
    monkeypatch.setattr(QInputDialog, "getItem", lambda *a: asked.append(a[3]) or ("Tumor", True))
    empty.slide.import_outlines(tmp_path / "o.geojson")
    qtbot.waitUntil(
        lambda: empty.session.tissue is not None and empty.session.tissue.method == "imported",
        timeout=WAIT_MS,
    )
    assert asked == [["Stroma", "Tumor", "all"]]
    assert len(empty.session.tissue.polygons) == 1
