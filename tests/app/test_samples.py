"""File > Open Sample: a simulated patient comes with record and expression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.app.entry import samples
from napari_survpgc.simulation.cohort import DEMO_SEED, simulate_case

from .conftest import WAIT_MS
from .gui_time import GuiTime
from .test_heartbeat import Heartbeat, pan

SMALL = (1536, 1280)


def _folder(cache: Path, index: int) -> Path:
    return cache / "samples" / f"simulated_{DEMO_SEED}_{index}"


def test_a_sample_opens_with_record_and_expression(
    dock: SurvPGCDock, cache: Path, bundle_folder: Path, qtbot
) -> None:
    case = simulate_case(
        _folder(cache, samples.LOW_RISK), seed=DEMO_SEED, index=samples.LOW_RISK, slide_px=SMALL
    )
    dock.session.load_bundle(bundle_folder)
    samples.open_sample(dock, samples.LOW_RISK)
    session = dock.session
    qtbot.waitUntil(lambda: session.opened is not None and session.expression is not None, timeout=WAIT_MS)
    assert session.opened.slide.info.path == case.slide
    assert session.record == case.patient.record


def test_the_window_answers_while_a_sample_is_drawn(
    dock: SurvPGCDock, slide_file: Path, cache: Path, qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "DEMO_SLIDE_PX", (3072, 2560))
    session = dock.session
    session.open_slide(slide_file)
    qtbot.waitUntil(lambda: session.opened is not None and not session.busy, timeout=WAIT_MS)
    told: list[tuple[str, int, int]] = []
    session.job_started.connect(lambda job: job.progressed.connect(lambda *step: told.append(step)))
    heartbeat = Heartbeat()
    with GuiTime() as watched:
        samples.open_sample(dock, samples.LOW_RISK)
        pan(dock, qtbot, lambda: session.opened.slide.info.path != slide_file)
    gaps = heartbeat.stop()
    assert session.opened.slide.info.path.parent == _folder(cache, samples.LOW_RISK)
    drawn = [(done, total) for stage, done, total in told if stage == "drawing a simulated slide"]
    assert drawn == sorted(drawn)
    assert drawn[-1][0] == drawn[-1][1]
    assert len(drawn) > 5
    assert np.percentile([turn.ours for turn in watched.turns], 99) < 100, watched.worst()
    assert np.percentile(gaps, 90) < 100, np.sort(gaps)[-10:]


def test_a_drawing_that_is_cancelled_leaves_no_slide(dock: SurvPGCDock, cache: Path, qtbot) -> None:
    jobs = []
    dock.session.job_started.connect(jobs.append)
    samples.open_sample(dock, samples.HIGH_RISK)
    (job,) = jobs
    with qtbot.waitSignal(job.cancelled, timeout=WAIT_MS):
        dock.session.cancel()
    assert not list(_folder(cache, samples.HIGH_RISK).glob("*.tiff*"))
    assert dock.session.opened is None


def test_a_sample_that_cannot_be_written_is_told(dock: SurvPGCDock, cache: Path, qtbot) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "samples").write_text("a file where a folder should be")
    with qtbot.waitSignal(dock.session.message, timeout=WAIT_MS) as caught:
        samples.open_sample(dock, samples.HIGH_RISK)
    assert "cannot be" in caught.args[0].text
