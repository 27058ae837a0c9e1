"""File > Open Sample: a simulated patient comes with record and expression."""

from __future__ import annotations

from pathlib import Path

from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.app.entry import samples
from napari_survpgc.simulation.cohort import DEMO_INDEX, DEMO_SEED, simulate_case

from .conftest import WAIT_MS


def test_the_sample_is_the_demonstration_patient() -> None:
    assert (samples.SEED, samples.HIGH_RISK) == (DEMO_SEED, DEMO_INDEX)


def test_a_sample_opens_with_record_and_expression(
    dock: SurvPGCDock, cache: Path, bundle_folder: Path, qtbot
) -> None:
    folder = cache / "samples" / f"simulated_{samples.SEED}_{samples.LOW_RISK}"
    case = simulate_case(folder, seed=samples.SEED, index=samples.LOW_RISK, slide_px=(1536, 1280))
    dock.session.load_bundle(bundle_folder)
    samples.open_sample(dock, samples.LOW_RISK)
    session = dock.session
    qtbot.waitUntil(lambda: session.opened is not None and session.expression is not None, timeout=WAIT_MS)
    assert session.opened.slide.info.path == case.slide
    assert session.record == case.patient.record


def test_drawing_runs_the_simulator_and_reports_its_failure(tmp_path: Path) -> None:
    import pytest

    from napari_survpgc.core.errors import OutputError

    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="could not be drawn"):
        samples._draw(blocked / "inside", samples.HIGH_RISK, lambda *args: None)
