"""``survpgc view``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from napari_survpgc.core.errors import SurvPGCError

HELP = "open the window (napari) with a slide, a patient or a saved case"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "slide", nargs="?", type=Path, metavar="SLIDE", help="slide, DICOM folder or saved case"
    )
    parser.add_argument("--clinical", type=Path, metavar="F", help="JSON or CSV of the six fields")
    parser.add_argument(
        "--expression", type=Path, metavar="F", help="one sample's file, or a table with --case"
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="trained model (default: the demonstration)"
    )
    parser.add_argument("--case", metavar="ID", help="which patient of the table(s)")
    parser.add_argument("--run", dest="press_run", action="store_true", help="press Run at once")
    parser.add_argument(
        "--screenshot", type=Path, metavar="F.png", help="write a picture of the result and close the window"
    )


def run(options: argparse.Namespace) -> int:
    for path in (options.slide, options.clinical, options.expression, options.bundle):
        if path is not None and not path.exists():
            raise SurvPGCError(f"There is no file {path}", "Check the name and the folder")
    _need_window()
    from napari_survpgc.app.entry.launch import view

    return view(
        options.slide,
        clinical=options.clinical,
        expression=options.expression,
        bundle=options.bundle,
        case=options.case,
        run=options.press_run,
        screenshot=options.screenshot,
    )


def _need_window() -> None:
    """Say clearly what is missing for a window, before Qt ends the process in its own words."""
    import importlib.util

    if importlib.util.find_spec("napari") is None or importlib.util.find_spec("qtpy") is None:
        raise SurvPGCError("The window is not installed", 'pip install "napari-survpgc[app]"')
    if not has_display():
        raise SurvPGCError(
            "There is no display to open a window on",
            "Use a desktop session, or xvfb-run -a survpgc view ...",
        )


def has_display() -> bool:
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
