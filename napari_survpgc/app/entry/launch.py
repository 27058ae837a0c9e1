"""``survpgc view``: napari with the SurvPGC dock, the window arranged for looking at slides."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

# Before napari is imported: it reads this once. Slides are then read on a thread, in this process only.
os.environ.setdefault("NAPARI_ASYNC", "1")

import napari
import numpy as np
from napari.layers import Image
from napari.settings import get_settings
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QWidget

from napari_survpgc.app.canvas.layer_data import COLORMAPS, overlay_colormap
from napari_survpgc.app.dock import NARROWEST, WIDTH, SurvPGCDock
from napari_survpgc.app.later import later
from napari_survpgc.app.window.windows import arrange
from napari_survpgc.core.output.case_file import SUFFIX


def open_window(*, show: bool = True, load_model: bool = True) -> tuple[napari.Viewer, SurvPGCDock]:
    """Open a viewer with the dock at the right; napari's own layer panels are put away (View brings them back)."""
    viewer = napari.Viewer(title="SurvPGC", show=show, ndisplay=2)
    dock = SurvPGCDock(viewer, load_model=load_model)
    viewer.window.add_dock_widget(dock, name="SurvPGC", area="right")
    _warm_up(viewer)
    frame = dock.window()
    arrange(frame)
    if show:
        QApplication.processEvents()  # the panels that are put away no longer hold the window open
        _make_room(frame)
    own = next((p for p in frame.findChildren(QDockWidget) if p.isAncestorOf(dock)), None)
    if own is not None:
        width = max(NARROWEST, min(WIDTH + 30, round(0.6 * frame.width())))
        frame.resizeDocks([own], [width], Qt.Orientation.Horizontal)
    return viewer, dock


def _make_room(frame: QWidget) -> None:
    """Make the first window as large as the work needs, and a remembered one no larger than this screen."""
    screen = frame.screen()
    if screen is None:
        return
    room = screen.availableGeometry()
    if get_settings().application.window_size is None:
        frame.resize(min(1600, round(0.9 * room.width())), min(1000, round(0.88 * room.height())))
    elif frame.width() > room.width() or frame.height() > room.height():
        frame.resize(min(frame.width(), room.width()), min(frame.height(), room.height()))


def _warm_up(viewer: napari.Viewer) -> None:
    """Let napari build its controls and textures while the window opens, not when the first slide comes (0.8 s)."""
    # In µm as all other layers: napari warns when units differ.
    small = Image(
        [np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)],
        rgb=True,
        multiscale=True,
        units=("um", "um"),
    )
    single = Image(
        np.zeros((2, 2), np.float32),
        contrast_limits=(0, 1),
        colormap=overlay_colormap(COLORMAPS[0]),
        units=("um", "um"),
    )
    for layer in (small, single):
        viewer.add_layer(layer)
        QApplication.processEvents()  # drawn once: shaders are compiled
        viewer.layers.remove(layer)


def view(
    slide: Path | None = None,
    *,
    clinical: Path | None = None,
    expression: Path | None = None,
    bundle: Path | None = None,
    case: str | None = None,
    run: bool = False,
    screenshot: Path | None = None,
) -> int:
    """Open the window, with what is given already in it; returns when it is closed.

    Parameters
    ----------
    slide : slide, or a case file (.survpgc).   case : which patient of the tables.
    run : press Run when everything is there.
    screenshot : write a picture of the window when the result is shown, and close it.
    """
    viewer, dock = open_window(load_model=bundle is None)
    session = dock.session
    if bundle is not None:
        session.load_bundle(bundle)
    if slide is not None and slide.suffix.lower() == SUFFIX:
        session.open_case(slide)
    elif slide is not None:

        def fill() -> None:
            if clinical is not None:
                session.load_record(clinical, case)
            if expression is not None:
                session.load_expression(expression, case)

        session.open_slide(slide, then=fill)
    if run:
        _when(dock, lambda: not session.missing() and not session.busy, session.run)
    code = [0]
    if screenshot is not None:

        def shoot() -> None:
            viewer.window.resize(1600, 1000)
            later(dock, 2500, save)

        def save() -> None:
            viewer.window.screenshot(str(screenshot), flash=False)
            viewer.close()

        def late() -> None:
            print("survpgc: the result did not come, so there is no picture.", file=sys.stderr)
            code[0] = 2
            viewer.close()

        _when(dock, lambda: session.result is not None and not session.busy, shoot)
        later(dock, 600_000, late)
    napari.run()
    dock.end()
    return code[0]


def _when(owner: QObject, condition: Callable[[], bool], action: Callable[[], object]) -> None:
    """Call ``action`` once, as soon as ``condition`` holds."""
    timer = QTimer(owner)  # without an owner it would be collected while it waits

    def look() -> None:
        if condition():
            timer.stop()
            action()

    timer.timeout.connect(look)
    timer.start(200)
