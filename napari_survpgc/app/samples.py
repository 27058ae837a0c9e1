"""File > Open Sample: simulated patients, drawn in the background on first use and then kept."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QTimer

from napari_survpgc.core.clinical import read_record
from napari_survpgc.core.errors import CancelledError, OutputError
from napari_survpgc.core.genomics import read_expression
from napari_survpgc.core.types import ClinicalRecord, ExpressionProfile, ProgressCallback

from .dock import SurvPGCDock, dock_of, sample_folder

SEED = 7
HIGH_RISK, LOW_RISK = 45, 20


def high_risk() -> list[tuple[Any, ...]]:
    """Open a simulated patient with a high risk."""
    return _open(HIGH_RISK)


def low_risk() -> list[tuple[Any, ...]]:
    """Open a simulated patient with a low risk."""
    return _open(LOW_RISK)


def _open(index: int) -> list[tuple[Any, ...]]:
    viewer = napari.current_viewer()
    if viewer is not None:
        QTimer.singleShot(0, lambda: open_sample(dock_of(viewer), index))
    return []  # the layers come when the slide is drawn


def open_sample(dock: SurvPGCDock, index: int) -> None:
    """Draw (or find) the simulated patient and open it with record and expression."""
    folder = sample_folder() / f"simulated_{SEED}_{index}"

    def work(progress: ProgressCallback) -> tuple[Path, ClinicalRecord, ExpressionProfile]:
        if not (folder / "expression.csv").is_file() or not list(folder.glob("*.tiff")):
            _draw(folder, index, progress)
        (slide,) = folder.glob("*.tiff")
        return slide, read_record(folder / "clinical.json"), read_expression(folder / "expression.csv")

    dock.session.start(work, "sample", lambda found: dock.session.open_patient(*found))


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
