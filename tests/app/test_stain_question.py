"""The window asks before it runs a slide that is no H&E."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_survpgc.app.dock import SurvPGCDock
from tests.builders import tissue_image, write_tiff

from .conftest import WAIT_MS


@pytest.fixture
def inverted(filled: SurvPGCDock, qtbot, tmp_path: Path) -> SurvPGCDock:
    """The dock with an inverted slide instead of the usual one."""
    path = write_tiff(tmp_path / "inverted.tiff", 255 - tissue_image(1024, 1280))
    filled.session.open_slide(path)
    qtbot.waitUntil(
        lambda: filled.session.case_name == "inverted" and not filled.session.busy, timeout=WAIT_MS
    )
    return filled


def _box(dock: SurvPGCDock) -> QMessageBox | None:
    boxes = [box for box in dock.run.findChildren(QMessageBox) if box.isVisible()]
    return boxes[0] if boxes else None


def test_run_asks_whether_a_slide_is_he_and_goes_on_when_told_to(inverted: SurvPGCDock, qtbot) -> None:
    session, panel = inverted.session, inverted.run
    assert "does not look like an H&E slide" in panel.hint.text()
    qtbot.mouseClick(panel.run_button, Qt.MouseButton.LeftButton)
    box = _box(inverted)
    assert box is not None
    assert "inverted.tiff does not look like an H&E slide" in box.text()
    assert not session.busy
    if picture := os.environ.get("SURVPGC_PICTURE"):
        box.grab().save(picture)
    box.button(QMessageBox.StandardButton.No).click()
    assert not session.busy
    assert session.result is None

    qtbot.mouseClick(panel.run_button, Qt.MouseButton.LeftButton)
    box = _box(inverted)
    assert box is not None
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        box.button(QMessageBox.StandardButton.Yes).click()
    assert any("does not look like an H&E slide" in warning for warning in session.result.shown.warnings)
    qtbot.waitUntil(lambda: len(inverted.layers.maps) == 3 and not session.busy, timeout=WAIT_MS)
