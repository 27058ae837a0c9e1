"""Features that other tools have made of the open slide are taken without conversion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.core.features.feature_file import read_features, write_features
from napari_survpgc.core.features.trident import trident_place
from napari_survpgc.core.types import PatchFeatures, PatchGrid

from .conftest import WAIT_MS, run
from .test_open import drop


def _ours(made: PatchFeatures, slide: Path, folder: Path, mpp: float) -> Path:
    write_features(made, folder / "own.h5")
    return folder / "own.h5"


def _clam(made: PatchFeatures, slide: Path, folder: Path, mpp: float) -> Path:
    """A tensor; coordinates and patch size in files of their own."""
    (folder / "pt_files").mkdir(parents=True)
    (folder / "patches").mkdir()
    torch.save(torch.from_numpy(made.features), folder / "pt_files" / f"{slide.stem}.pt")
    with h5py.File(folder / "patches" / f"{slide.stem}.h5", "w") as file:
        file["coords"] = made.grid.coords.astype(np.int64)
        side = round(made.grid.patch_px_level0)
        file["coords"].attrs.update(
            {"patch_size": side, "patch_level": 0, "downsample": np.array([1.0, 1.0])}
        )
    return folder / "pt_files" / f"{slide.stem}.pt"


def _trident(made: PatchFeatures, slide: Path, folder: Path, mpp: float) -> Path:
    place = trident_place(folder, slide, made.encoder or "", patch_px=256, mpp=0.5)
    place.write_features(made, place.features)
    return place.features


def _stamp(made: PatchFeatures, slide: Path, folder: Path, mpp: float) -> Path:
    with h5py.File(folder / "stamp.h5", "w") as file:
        file["feats"], file["coords"] = made.features.astype(np.float16), made.grid.coords * mpp
        side = made.grid.patch_px_level0 * mpp
        facts = {"stamp_version": "2.3.0", "unit": "um", "tile_size_um": side, "tile_size_px": 256}
        file.attrs.update({**facts, "extractor": made.encoder or ""})
    return folder / "stamp.h5"


@pytest.mark.parametrize("write", [_ours, _clam, _trident, _stamp])
def test_run_takes_the_features_of_a_file(
    finished: SurvPGCDock, tmp_path: Path, qtbot, write: Callable[[PatchFeatures, Path, Path, float], Path]
) -> None:
    session = finished.session
    assert session.opened is not None
    made, risk = session.features, session.result.original.risk
    info = session.opened.slide.info
    half = PatchFeatures(made.features[::2], _every_second(made), made.encoder, made.failed_coords)
    path = write(half, info.path, tmp_path, info.mpp)
    session.use_features(path)
    view = finished.run.features
    qtbot.waitUntil(lambda: session.given_features is not None, timeout=WAIT_MS)
    assert f"<b>{path.name}</b>: {len(half.grid)} patches" in view.text.text()
    assert session.stale
    run(finished, qtbot)
    assert len(session.features.grid) == len(half.grid)
    np.testing.assert_allclose(session.features.grid.coords, half.grid.coords, atol=1)
    assert session.result.original.risk != risk
    view.remove_button.click()
    assert "computed by Run" in view.text.text()
    run(finished, qtbot)
    assert session.result.original.risk == pytest.approx(risk, abs=1e-6)


def _every_second(made: PatchFeatures) -> PatchGrid:
    return dataclasses.replace(made.grid, coords=made.grid.coords[::2])


def test_features_are_dropped_onto_the_canvas_and_go_with_their_slide(
    finished: SurvPGCDock, tmp_path: Path, qtbot
) -> None:
    session = finished.session
    write_features(session.features, tmp_path / "own.h5")
    drop(finished, tmp_path / "own.h5")
    qtbot.waitUntil(lambda: session.given_features is not None, timeout=WAIT_MS)
    assert read_features(tmp_path / "own.h5").encoder == session.given_features.encoder
    session.close_slide()
    assert session.given_features is None


def test_features_of_another_encoder_or_slide_are_refused_in_a_sentence(
    finished: SurvPGCDock, tmp_path: Path, qtbot
) -> None:
    session, view = finished.session, finished.run.features
    made = session.features
    other = PatchFeatures(np.ones((len(made.grid), 1024), np.float32), made.grid, "uni", made.failed_coords)
    write_features(other, tmp_path / "uni.h5")
    session.use_features(tmp_path / "uni.h5")
    qtbot.waitUntil(lambda: session.given_features is not None, timeout=WAIT_MS)
    assert "The model wants" in view.text.text()
    with qtbot.waitSignal(session.message, timeout=WAIT_MS) as said:
        finished.run.run_button.click()
    assert "uni" in said.args[0].text
    far = made.grid.coords + 10_000_000
    moved = PatchFeatures(
        made.features, dataclasses.replace(made.grid, coords=far), made.encoder, made.failed_coords
    )
    write_features(moved, tmp_path / "moved.h5")
    with qtbot.waitSignal(session.message, timeout=WAIT_MS) as said:
        session.use_features(tmp_path / "moved.h5")
    assert "lie outside case-1.tiff" in said.args[0].text
    assert session.given_features.path.name == "uni.h5"
