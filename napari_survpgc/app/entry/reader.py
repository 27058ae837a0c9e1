"""napari's reader: slides as lazy multiscale layers in µm; case files; what is no slide is left to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari

from napari_survpgc.app.canvas.layer_data import show_scale_bar, slide_layer
from napari_survpgc.app.dock import SurvPGCDock, dock_of
from napari_survpgc.app.later import soon
from napari_survpgc.app.session.state import open_with_tiles
from napari_survpgc.core.errors import SurvPGCError
from napari_survpgc.core.output.case_file import SUFFIX
from napari_survpgc.core.slide.backends import is_slide
from napari_survpgc.core.slide.dicom_folder import holds_dicom
from napari_survpgc.core.slide.formats import SCANNER_SUFFIXES

LayerData = tuple[Any, ...]
_NOTHING: list[LayerData] = [(None,)]  # npe2: read, and nothing to add


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for a slide or a case file, None for anything else (plain TIFFs, folders without DICOM).

    A file with a scanner's ending that cannot be opened is taken too: the reader says what is wrong with it.
    """
    if isinstance(path, list):
        path = path[0]
    file = Path(path)
    if file.suffix.lower() == SUFFIX:
        return _read_case
    known = holds_dicom(file) if file.is_dir() else file.suffix.lower() in SCANNER_SUFFIXES
    return _read_slide if known or is_slide(file) else None


def _read_slide(path: str | list[str]) -> list[LayerData]:
    names = [path] if isinstance(path, str) else path
    viewer = napari.current_viewer()
    if viewer is not None and any(isinstance(w, SurvPGCDock) for w in viewer.window.dock_widgets.values()):
        # The dock opens it on a thread, says what is wrong with it, and takes the earlier slide away first.
        dock_of(viewer).session.open_slide(Path(names[0]))
        return _NOTHING
    found: list[LayerData] = []
    for name in names:
        try:
            opened = open_with_tiles(Path(name))
        except SurvPGCError as error:
            if viewer is None:
                raise
            # napari would ask which other plugin shall try; one sentence says more.
            dock_of(viewer).session.report(error)
            continue
        found.append(slide_layer(opened))
        if opened.slide.info.mpp is None:
            _open_dock()  # it asks for the pixel size
        else:
            _show_scale_bar()
    return found or _NOTHING


def _read_case(path: str | list[str]) -> list[LayerData]:
    name = path if isinstance(path, str) else path[0]
    viewer = napari.current_viewer()
    if viewer is not None:
        # The case brings its own layers; the dock reads it on a thread.
        soon(viewer, lambda found: dock_of(found).session.open_case(Path(name)))
    return _NOTHING


def _show_scale_bar() -> None:
    """The dock does this too, but a slide can be looked at without it."""
    viewer = napari.current_viewer()
    if viewer is not None:
        show_scale_bar(viewer)


def _open_dock() -> None:
    viewer = napari.current_viewer()
    if viewer is not None and hasattr(viewer, "window"):
        soon(viewer, dock_of)
