"""File > Open Sample: simulated patients, drawn in the background on first use and then kept."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np

from napari_survpgc.app.dock import SurvPGCDock, dock_of
from napari_survpgc.app.later import soon
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.types import Case, ProgressCallback
from napari_survpgc.core.user_folder import user_folder
from napari_survpgc.simulation.cohort import DEMO_INDEX, DEMO_SEED, DEMO_SLIDE_PX, simulate_case

HIGH_RISK, LOW_RISK = DEMO_INDEX, 20


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
    folder = user_folder() / "samples" / f"simulated_{DEMO_SEED}_{index}"

    def work(progress: ProgressCallback) -> Case:
        made = simulate_case(folder, seed=DEMO_SEED, index=index, slide_px=DEMO_SLIDE_PX, progress=progress)
        return Case(
            slides=(made.slide,), record=made.patient.record, profile=read_expression(made.expression)
        )

    dock.session.start(work, "sample", dock.session.open_patient)
