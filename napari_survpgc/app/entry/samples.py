"""File > Open Sample: simulated patients, drawn in the background on first use and then kept."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np

from napari_survpgc.app.dock import SurvPGCDock, dock_of
from napari_survpgc.app.later import soon
from napari_survpgc.core.clinical.record_file import read_record
from napari_survpgc.core.errors import CancelledError, OutputError
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.types import Case, ProgressCallback
from napari_survpgc.core.user_folder import user_folder

SEED = 7
HIGH_RISK, LOW_RISK = 45, 20


LayerData = tuple[Any, dict[str, Any], str]


def high_risk() -> list[LayerData]:
    """Open a simulated patient with a high risk."""
    return _open(HIGH_RISK)


def low_risk() -> list[LayerData]:
    """Open a simulated patient with a low risk."""
    return _open(LOW_RISK)


def _open(index: int) -> list[LayerData]:
    """Return a hidden layer that goes at once: napari takes a sample without any layer for a failure.

    The slide comes when it is drawn, half a minute later at first.
    """
    viewer = napari.current_viewer()
    name = f"Simulated patient {index} is coming"
    if viewer is not None:

        def replace(viewer: napari.Viewer) -> None:
            if name in viewer.layers:
                viewer.layers.remove(name)
            open_sample(dock_of(viewer), index)

        soon(viewer, replace)
    look = {"name": name, "visible": False, "contrast_limits": (0, 1), "units": ("um", "um")}
    return [(np.zeros((2, 2), np.float32), look, "image")]


def open_sample(dock: SurvPGCDock, index: int) -> None:
    """Draw (or find) the simulated patient and open it with record and expression."""
    folder = user_folder() / "samples" / f"simulated_{SEED}_{index}"

    def work(progress: ProgressCallback) -> Case:
        if not (folder / "expression.csv").is_file() or not list(folder.glob("*.tiff")):
            _draw(folder, index, progress)
        (slide,) = folder.glob("*.tiff")
        return Case(
            slides=(slide,),
            record=read_record(folder / "clinical.json"),
            profile=read_expression(folder / "expression.csv"),
        )

    dock.session.start(work, "sample", dock.session.open_patient)


def _draw(folder: Path, index: int, progress: ProgressCallback) -> None:
    """Run the command line's simulator: the window imports nothing of the trainer, and can stop the drawing."""
    line = [
        sys.executable,
        "-m",
        "napari_survpgc.cli",
        "simulate",
        "--out",
        str(folder),
        "--seed",
        str(SEED),
        "--only",
        str(index),
    ]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        while process.poll() is None:
            # About half a minute; the bar tells that something happens, not how much.
            progress("drawing a simulated slide", min(95, round(3 * (time.monotonic() - began))), 100)
            time.sleep(0.2)
    except CancelledError:
        process.terminate()
        process.wait()
        raise
    if process.returncode:
        reason = (process.stderr.read() if process.stderr else "").strip().splitlines()
        raise OutputError(
            f"The simulated slide could not be drawn ({reason[-1] if reason else process.returncode})",
            "Check that there is space in the cache folder",
        )
