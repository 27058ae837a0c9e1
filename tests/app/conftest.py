"""A real napari viewer with the dock; needs a display (xvfb-run gives one, `make test` uses it)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if not (
    sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
):
    pytest.skip("no display: run the tests with 'make test' or xvfb-run", allow_module_level=True)

import napari

from napari_survpgc.app.dock import SurvPGCDock
from tests.builders import GENES, tiny_bundle, tissue_image, write_tiff

WAIT_MS = 120_000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SURVPGC_CACHE", str(folder))
    return folder


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., napari.Viewer]) -> napari.Viewer:
    return make_napari_viewer()


@pytest.fixture
def dock(viewer: napari.Viewer, cache: Path, qtbot) -> Iterator[SurvPGCDock]:
    """The dock without a model; its threads are over when the test is."""
    made = SurvPGCDock(viewer, load_model=False)
    viewer.window.add_dock_widget(made, name="SurvPGC", area="right")
    yield made
    # A slice still under way holds the viewer, which napari's fixture then calls leaked.
    qtbot.waitUntil(lambda: all(layer.loaded for layer in viewer.layers), timeout=WAIT_MS)
    made.end()


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    tiny_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slide") / "case-1.tiff", tissue_image(1536, 2048), levels=2)


@pytest.fixture(scope="session")
def patient_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Record and expression file."""
    folder = tmp_path_factory.mktemp("patient")
    record = {"age": 61, "sex": "female", "stage": "Stage IIA", "staging_edition": "7th", "race": "white"}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    rows = [f"{gene},{0.3 * i - 0.5}" for i, gene in enumerate(GENES)]
    (folder / "genes.csv").write_text("\n".join(["gene,z-score", *rows]), encoding="utf-8")
    return folder / "record.json", folder / "genes.csv"


@pytest.fixture
def filled(dock: SurvPGCDock, qtbot, bundle_folder: Path, slide_file: Path, patient_files) -> SurvPGCDock:
    """The dock with model, slide, record and expression."""
    session = dock.session
    session.load_bundle(bundle_folder)
    session.open_slide(slide_file)
    dock.patient.load_record(patient_files[0])
    dock.patient.load_expression(patient_files[1])
    qtbot.waitUntil(
        lambda: (
            session.bundle is not None
            and session.opened is not None
            and session.expression is not None
            and session.record.age == 61
        ),
        timeout=WAIT_MS,
    )
    return dock


@pytest.fixture
def finished(filled: SurvPGCDock, qtbot) -> SurvPGCDock:
    """The dock after Run."""
    run(filled, qtbot)
    return filled


def run(dock: SurvPGCDock, qtbot) -> None:
    """Press Run and wait until the result and its layers are there."""
    from qtpy.QtCore import Qt

    assert dock.run.run_button.isEnabled(), dock.run.hint.text()
    with qtbot.waitSignal(dock.session.result_changed, timeout=WAIT_MS):
        qtbot.mouseClick(dock.run.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(dock.layers.maps) == 3 and not dock.session.busy, timeout=WAIT_MS)
