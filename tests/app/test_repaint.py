"""A control of the maps reaches the canvas at once, and napari's list of layers a moment later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .conftest import WAIT_MS


def test_controls_are_no_work_for_threads_or_the_list_of_layers(finished, qtbot) -> None:
    layer, layers, maps = finished.layers.maps["clinic"], finished.viewer.layers, finished.maps
    qtbot.waitUntil(lambda: layer.visible and not finished.layers.heatmaps._entries._late, timeout=WAIT_MS)
    sent: list[str] = []
    listed: list[str] = []
    layer.events.reload.connect(lambda event: sent.append("reload"))

    place = layers.index(layer)

    def listen(event: Any) -> None:
        if getattr(event, "index", None) == place:
            listed.append(event.type)

    layers.events.connect(listen)
    before, thumbnail = layer.data.copy(), layer.thumbnail.copy()
    maps.opacity.setValue(31)
    maps.threshold.setValue(20)
    maps.colormap.setCurrentText("magma")
    maps.tokens["clinic"].setCurrentIndex(2)
    assert layer.opacity == pytest.approx(0.31)
    assert layer.contrast_limits[0] == pytest.approx(20)
    assert layer.colormap.name == "survpgc magma"
    shown = finished.session.result.maps.values("clinic", 1, finished.layers.heatmaps.view.scale).values
    cells = finished.session.result.maps.cells
    np.testing.assert_array_equal(layer.data[cells.rows, cells.columns], shown)
    assert not np.array_equal(layer.data, before)
    assert not sent
    assert not listed
    # The list follows when nothing has changed for a moment.
    qtbot.waitUntil(lambda: "thumbnail" in listed, timeout=WAIT_MS)
    assert not np.array_equal(layer.thumbnail, thumbnail)
    assert layer.loaded
    layers.events.disconnect(listen)


def test_a_map_that_is_hidden_is_shown_up_to_date(finished, qtbot) -> None:
    maps, layer = finished.maps, finished.layers.maps["genomic"]
    assert not layer.visible
    maps.toggle("genomic")
    assert layer.visible
    cells = finished.session.result.maps.cells
    shown = finished.session.result.maps.values("genomic").values
    np.testing.assert_array_equal(layer.data[cells.rows, cells.columns], shown)
    np.testing.assert_array_equal(layer._data_view, layer.data)  # what the canvas draws
    maps.toggle("genomic")
    assert not layer.visible
