"""Ways to open: dropped onto the canvas, File > Open, File > Open Sample; and what napari would ask otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.settings import get_settings
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QAction, QApplication, QInputDialog, QMenu, QWidget

from napari_survpgc.app.canvas.case_layers import INVITATION
from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.app.entry import reader, samples
from napari_survpgc.app.window import drop as drop_module
from napari_survpgc.app.window.drop import prefer_for_slides
from napari_survpgc.core.slide.backends import is_slide
from napari_survpgc.simulation.cohort import DEMO_SEED, simulate_case
from tests.builders import tissue_image, write_tiff
from tests.formats.slides import dicom_folder

from .conftest import WAIT_MS
from .test_heartbeat import Heartbeat


def drop(dock: SurvPGCDock, path: Path) -> None:
    """Drop a file onto napari's canvas, as a file manager does."""
    canvas = next(w for w in dock.window().findChildren(QWidget) if type(w).__name__ == "QtViewer")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    for kind in (QDragEnterEvent, QDropEvent):  # Qt lets nothing drop that has not entered
        place = QPointF(20, 20)
        event = kind(
            place if kind is QDropEvent else place.toPoint(),
            Qt.DropAction.CopyAction,
            data,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(canvas, event)


def test_a_slide_that_is_dropped_onto_the_canvas_opens_without_a_question(
    dock: SurvPGCDock, slide_file: Path, qtbot
) -> None:
    qtbot.waitUntil(lambda: hasattr(dock, "drops"), timeout=WAIT_MS)
    drop(dock, slide_file)
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=WAIT_MS)
    assert dock.session.opened.slide.info.path == slide_file


def test_a_case_that_is_dropped_onto_the_canvas_opens(finished: SurvPGCDock, tmp_path: Path, qtbot) -> None:
    path = tmp_path / "kept.survpgc"
    finished.session.save_case(path)
    qtbot.waitUntil(path.is_file, timeout=WAIT_MS)
    finished.session.close_slide()
    drop(finished, path)
    qtbot.waitUntil(lambda: finished.session.result is not None, timeout=WAIT_MS)


@pytest.fixture
def readers() -> Iterator[None]:
    kept = dict(get_settings().plugins.extension2reader)
    yield
    get_settings().plugins.extension2reader = kept


@pytest.fixture
def tif_is_napari(readers: None) -> None:
    """Else napari asks which reader shall read a .tif, ours being one."""
    get_settings().plugins.extension2reader = {"*.tif": "napari"}


def test_a_plain_picture_that_is_dropped_is_left_to_napari(
    dock: SurvPGCDock, tmp_path: Path, qtbot, tif_is_napari: None
) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.zeros((32, 32), np.uint8))
    qtbot.waitUntil(lambda: hasattr(dock, "drops"), timeout=WAIT_MS)
    drop(dock, path)
    qtbot.waitUntil(lambda: "plain" in dock.viewer.layers, timeout=WAIT_MS)
    assert dock.session.opened is None


@pytest.mark.parametrize("kind", ["slide", "picture"])
def test_a_drive_that_is_slow_to_give_the_header_does_not_stop_the_window(
    dock: SurvPGCDock,
    slide_file: Path,
    tmp_path: Path,
    qtbot,
    monkeypatch: pytest.MonkeyPatch,
    tif_is_napari: None,
    kind: str,
) -> None:
    path = slide_file
    if kind == "picture":
        path = tmp_path / "plain.tif"
        tifffile.imwrite(path, np.zeros((32, 32), np.uint8))
    threads = []

    def slow(file: Path) -> bool:
        threads.append(threading.current_thread())
        time.sleep(0.8)
        return is_slide(file)

    for module in (drop_module, reader):
        monkeypatch.setattr(module, "is_slide", slow)
    qtbot.waitUntil(lambda: hasattr(dock, "drops") and not dock.session.busy, timeout=WAIT_MS)
    heartbeat = Heartbeat()
    drop(dock, path)
    qtbot.waitUntil(lambda: bool(dock.messages.message), timeout=WAIT_MS)
    assert dock.messages.message.text == f"Looking at {path.name}…"
    qtbot.waitUntil(lambda: not dock.session.busy, timeout=WAIT_MS)
    assert heartbeat.stop().max() < 600, "the window waited for the file"
    opened = (lambda: dock.session.opened) if kind == "slide" else (lambda: "plain" in dock.viewer.layers)
    qtbot.waitUntil(lambda: bool(opened()), timeout=WAIT_MS)
    # The header is read once, and never on the window's thread.
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_a_broken_slide_from_the_file_menu_is_one_sentence(dock: SurvPGCDock, tmp_path: Path, qtbot) -> None:
    path = tmp_path / "broken.svs"
    path.write_bytes(b"this is no slide")
    with qtbot.waitSignal(dock.session.message, timeout=WAIT_MS) as caught:
        dock.viewer.open(str(path), plugin=None)  # napari finds the reader, as for its menu
    assert "broken.svs is not a slide" in caught.args[0].text
    assert not [layer for layer in dock.viewer.layers if layer.visible]


def test_a_reader_that_the_user_has_chosen_stays(readers: None) -> None:
    settings = get_settings().plugins
    settings.extension2reader = {"*.svs": "another"}
    prefer_for_slides()
    assert settings.extension2reader["*.svs"] == "another"
    assert settings.extension2reader["*.ndpi"] == "napari-survpgc"
    assert "*.tif" not in settings.extension2reader


def test_the_canvas_says_how_to_begin_and_then_is_quiet(dock: SurvPGCDock, slide_file: Path, qtbot) -> None:
    text = dock.viewer.canvas.overlays.text
    assert text.visible
    assert text.text == INVITATION
    dock.session.open_slide(slide_file)
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=WAIT_MS)
    assert not text.visible
    dock.session.close_slide()
    assert text.visible


def test_slides_with_and_without_pixel_size_share_one_unit_with_all_layers(
    dock: SurvPGCDock, slide_file: Path, tmp_path: Path, qtbot
) -> None:
    bare = write_tiff(tmp_path / "bare.tiff", tissue_image(1024, 1024), mpp=None, levels=2)
    bar = dock.viewer.canvas.overlays.scale_bar
    qtbot.waitUntil(lambda: len(dock.viewer.layers) == 5, timeout=WAIT_MS)  # those that wait for a result
    for path, unit in ((slide_file, "micrometer"), (bare, "pixel"), (slide_file, "micrometer")):
        dock.session.open_slide(path)
        qtbot.waitUntil(
            lambda path=path: dock.session.opened is not None and dock.session.opened.slide.info.path == path,
            timeout=WAIT_MS,
        )
        assert {str(u) for layer in dock.viewer.layers for u in layer.units} == {unit}
        assert bar.visible == (unit == "micrometer")


def _actions(menu: QMenu) -> Iterator[QAction]:
    menu.aboutToShow.emit()  # napari fills its menus late
    for action in menu.actions():
        if action.menu():
            yield from _actions(action.menu())
        else:
            yield action


def test_a_sample_is_opened_from_the_file_menu(
    dock: SurvPGCDock, cache: Path, bundle_folder: Path, qtbot
) -> None:
    folder = cache / "samples" / f"simulated_{DEMO_SEED}_{samples.HIGH_RISK}"
    case = simulate_case(folder, seed=DEMO_SEED, index=samples.HIGH_RISK, slide_px=(1536, 1280))
    session = dock.session
    session.load_bundle(bundle_folder)
    (action,) = (a for a in _actions(dock.viewer.window.file_menu) if "high risk" in a.text())
    action.trigger()
    qtbot.waitUntil(lambda: session.opened is not None and session.expression is not None, timeout=WAIT_MS)
    assert session.opened.slide.info.path == case.slide
    assert not [layer for layer in dock.viewer.layers if "is coming" in layer.name]


def test_of_several_slides_in_a_folder_the_user_is_asked(
    dock: SurvPGCDock, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dicom_folder(tmp_path, slides=2)
    asked: list[list[str]] = []
    answers = [("", False), ("2d.dcm (Block 2, 300 x 200 px)", True)]
    monkeypatch.setattr(QInputDialog, "getItem", lambda *a: asked.append(a[3]) or answers[len(asked) - 1])
    before = dock.session.opened
    dock.session.open_slide(folder)
    qtbot.waitUntil(lambda: len(asked) == 1, timeout=WAIT_MS)
    assert dock.session.opened is before  # without an answer nothing is opened
    dock.session.open_slide(folder)
    qtbot.waitUntil(lambda: dock.session.opened is not before, timeout=WAIT_MS)
    assert asked[1] == ["1d.dcm (Block 1, 300 x 200 px)", "2d.dcm (Block 2, 300 x 200 px)"]
    assert dock.session.opened is not None
    assert dock.session.opened.slide.info.path == folder / "2d.dcm"


def test_a_folder_with_a_dicom_series_below_it_is_a_slide(tmp_path: Path) -> None:
    study = dicom_folder(tmp_path, below="series")
    assert drop_module.content_of(study, features=False) is drop_module.Content.SLIDE
    assert reader.get_reader(str(study)) is not None
    (tmp_path / "empty").mkdir()
    assert reader.get_reader(str(tmp_path / "empty")) is None


def test_a_dropped_file_of_a_format_that_is_not_read_says_what_to_export(
    dock: SurvPGCDock, qtbot, tmp_path: Path
) -> None:
    path = tmp_path / "slide.vsi"
    path.write_bytes(b"II*\0" + b"\0" * 60)
    said: list[str] = []
    dock.session.message.connect(lambda message: said.append(message.text))
    qtbot.waitUntil(lambda: hasattr(dock, "drops"), timeout=WAIT_MS)
    dock.drops.open(path, lambda: pytest.fail("left to others"))
    qtbot.waitUntil(lambda: any("VSI" in text and "OME-TIFF" in text for text in said), timeout=WAIT_MS)
