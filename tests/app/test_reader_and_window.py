"""Opening: what napari's reader takes, what it leaves to others, and what a slide looks like as a layer."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import napari
import numpy as np
import psutil
import pytest
import tifffile
from napari.layers import Layer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.app.entry.reader import get_reader
from tests.builders import tissue_image, write_tiff

from .conftest import WAIT_MS


def _slides(dock: SurvPGCDock) -> list[Layer]:
    """The layers without those that wait for a result."""
    return [layer for layer in dock.viewer.layers if layer.visible]


def test_a_slide_becomes_a_lazy_multiscale_layer_in_micrometres(viewer, cache, slide_file: Path) -> None:
    (layer,) = viewer.open(str(slide_file), plugin="napari-survpgc")
    assert layer.multiscale
    assert layer.rgb
    assert tuple(layer.scale) == (0.5, 0.5)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert np.array_equal(
        np.asarray(layer.data[0][700:710, 900:920]), tissue_image(1536, 2048)[700:710, 900:920]
    )
    layer.metadata["napari_survpgc"].close()


@pytest.mark.parametrize("kind", ["plain", "folder", "picture"])
def test_what_is_no_slide_is_left_to_others(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.tif"
    if kind == "plain":
        tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    elif kind == "folder":
        path = tmp_path / "folder"
        path.mkdir()
    else:
        path = tmp_path / "file.tif"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 64)
    assert get_reader(str(path)) is None


def test_a_dropped_slide_becomes_the_case(dock: SurvPGCDock, slide_file: Path, qtbot) -> None:
    dock.viewer.open(str(slide_file), plugin="napari-survpgc")
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=WAIT_MS)
    assert dock.session.opened.slide.info.path == slide_file
    assert len(_slides(dock)) == 1
    assert slide_file.name in dock.slide.facts.text()
    dock.viewer.layers.clear()
    assert dock.session.opened is None


def test_a_slide_without_pixel_size_asks_once_and_remembers(
    dock: SurvPGCDock, tmp_path: Path, bundle_folder: Path, qtbot
) -> None:
    path = write_tiff(tmp_path / "bare.tiff", tissue_image(1024, 1024), mpp=None, levels=2)
    dock.session.load_bundle(bundle_folder)
    dock.session.open_slide(path)
    qtbot.waitUntil(
        lambda: dock.session.opened is not None and dock.session.bundle is not None, timeout=WAIT_MS
    )
    assert not dock.slide.mpp_box.isHidden()
    assert "0.25" in dock.slide.mpp_text.text()
    assert not dock.run.run_button.isEnabled()
    assert "pixel size" in dock.run.hint.text()
    for wrong in ("25", "0.01", "0.2.5", ""):
        dock.slide.mpp.setText(wrong)
        dock.slide.mpp_button.click()
        assert not dock.slide.mpp_wrong.isHidden()
        assert dock.session.opened.slide.info.mpp is None
    dock.slide.mpp.setText("0,25")
    dock.slide.mpp_button.click()
    assert dock.slide.mpp_wrong.isHidden()
    qtbot.waitUntil(lambda: dock.session.opened.slide.info.mpp == 0.25, timeout=WAIT_MS)
    assert tuple(dock.layers.slide.scale) == (0.25, 0.25)
    assert dock.run.run_button.isEnabled()
    dock.session.close_slide()
    dock.session.open_slide(path)
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=WAIT_MS)
    assert dock.session.opened.slide.info.mpp == 0.25


def test_magnification_buttons_show_the_slide_as_an_objective_does(filled: SurvPGCDock, qtbot) -> None:
    camera = filled.viewer.scene.camera
    for button, power in zip(filled.slide.power_buttons, (1.25, 2.5, 5, 10, 20, 40), strict=True):
        button.click()
        # 40x: 0.25 µm a screen px, so 4 screen px a µm
        assert camera.zoom == pytest.approx(power / 10)
        assert f"<b>{power:.3g}x</b>" in filled.slide.power.text()
    filled.slide.fit_button.click()
    assert camera.zoom < 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing.svs", "There is no file"), ("broken.svs", "damaged"), ("text.svs", "not a slide")],
)
def test_a_bad_slide_ends_in_one_sentence(
    dock: SurvPGCDock, tmp_path: Path, slide_file: Path, name: str, words: str, qtbot
) -> None:
    path = tmp_path / name
    if name == "broken.svs":
        path.write_bytes(slide_file.read_bytes()[:2000])
    elif name == "text.svs":
        path.write_text("hello")
    with qtbot.waitSignal(dock.session.message, timeout=WAIT_MS) as caught:
        dock.session.open_slide(path)
    text = caught.args[0].text
    assert name in text
    assert words in text or "slide" in text
    assert "Traceback" not in text
    assert "Traceback" in caught.args[0].details
    assert not dock.messages.isHidden()
    assert dock.session.opened is None


def test_fifty_slides_leave_neither_handles_nor_memory(
    dock: SurvPGCDock, slide_file: Path, tmp_path: Path, qtbot
) -> None:
    other = write_tiff(tmp_path / "other.tiff", tissue_image(1024, 1024, seed=1), levels=2)
    process = psutil.Process()

    def cycle(times: int) -> None:
        for number in range(times):
            path = (slide_file, other)[number % 2]
            dock.session.open_slide(path)
            qtbot.waitUntil(
                lambda path=path: (
                    dock.session.opened is not None and dock.session.opened.slide.info.path == path
                ),
                timeout=WAIT_MS,
            )
        qtbot.waitUntil(lambda: not dock.session.busy, timeout=WAIT_MS)
        gc.collect()

    cycle(10)  # caches of napari, Qt and the allocator fill first
    files, memory = process.num_fds(), process.memory_info().rss
    cycle(50)
    assert len(_slides(dock)) == 1
    assert process.num_fds() <= files + 5
    assert process.memory_info().rss - memory < 150 << 20


def _opened(viewer: napari.Viewer, slide: Path, qtbot) -> list[weakref.ref]:
    """Open a slide in a dock of the viewer; return what must not outlive the window."""
    dock = SurvPGCDock(viewer, load_model=False)
    viewer.window.add_dock_widget(dock, name="SurvPGC", area="right")
    session = dock.session
    session.open_slide(slide)
    # The libraries are loaded, after which the collector no longer looks at what was there.
    qtbot.waitUntil(
        lambda: session.opened is not None and not session.busy and gc.get_freeze_count() > 0,
        timeout=WAIT_MS,
    )
    qtbot.waitUntil(lambda: all(layer.loaded for layer in viewer.layers), timeout=WAIT_MS)
    return [weakref.ref(thing) for thing in (dock, session, dock.layers, session.opened)]


def test_nothing_of_a_case_outlives_its_window(
    make_napari_viewer, cache: Path, slide_file: Path, qtbot
) -> None:
    viewer = make_napari_viewer()
    known = _opened(viewer, slide_file, qtbot)
    viewer.close()

    def gone() -> bool:
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()
        return all(ref() is None for ref in known)

    qtbot.waitUntil(gone, timeout=10_000)
    assert gc.get_freeze_count() == 0


def test_the_embedded_text_encoder_can_be_loaded_beside_an_open_window() -> None:
    """triton and Mesa's LLVM do not live in one process: loading it there ended in a segmentation fault."""
    code = (
        "import numpy as np, napari\n"
        "viewer = napari.Viewer()\n"
        "viewer.add_image(np.zeros((8, 8)))\n"
        "viewer.screenshot(flash=False)\n"
        "from napari_survpgc.app.dock import SurvPGCDock\n"
        "dock = SurvPGCDock(viewer, load_model=False)\n"
        "from napari_survpgc.core.encoders import load_text_encoder\n"
        "print(load_text_encoder('minilm', 'cpu').encode(['a b c']).shape)\n"
        "viewer.screenshot(flash=False)\n"
        "dock.end(); viewer.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "(1, 384)" in done.stdout
