"""napari's reader: slides as lazy multiscale layers in µm; case files; what is no slide is left to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QTimer

from napari_survpgc.core.case_file import SUFFIX
from napari_survpgc.core.slide_backends import is_slide

from .dock import dock_of
from .layers import show_scale_bar, slide_layer
from .session import open_with_tiles

LayerData = tuple[Any, ...]


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for a slide or a case file, None for anything else (plain TIFFs, folders without DICOM)."""
    if isinstance(path, list):
        path = path[0]
    file = Path(path)
    if file.suffix.lower() == SUFFIX:
        return _read_case
    if file.is_dir() and not any(file.glob("*.dcm")):
        return None
    return _read_slide if is_slide(file) else None


def _read_slide(path: str | list[str]) -> list[LayerData]:
    names = [path] if isinstance(path, str) else path
    found = []
    for name in names:
        opened = open_with_tiles(Path(name))
        found.append(slide_layer(opened))
        if opened.slide.info.mpp is None:
            _open_dock()  # it asks for the pixel size
        else:
            _show_scale_bar()
    return found


def _read_case(path: str | list[str]) -> list[LayerData]:
    name = path if isinstance(path, str) else path[0]
    viewer = napari.current_viewer()
    if viewer is not None:
        # The case brings its own layers; the dock reads it on a thread.
        QTimer.singleShot(0, lambda: dock_of(viewer).session.open_case(Path(name)))
    return [(None,)]  # npe2: read, and nothing to add


def _show_scale_bar() -> None:
    """The dock does this too, but a slide can be looked at without it."""
    viewer = napari.current_viewer()
    if viewer is not None:
        show_scale_bar(viewer)


def _open_dock() -> None:
    viewer = napari.current_viewer()
    if viewer is not None and hasattr(viewer, "window"):
        QTimer.singleShot(0, lambda: dock_of(viewer))
