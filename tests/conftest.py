"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of the golden cases, real slides and real cohorts; the test is skipped, saying so, without it."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("SURVPGC_SHARED", default))
    if not folder.is_dir():
        pytest.skip(
            f"no shared test data at {folder}: set SURVPGC_SHARED to the folder that has golden/, slides/, tcga/"
        )
    return folder


@pytest.fixture
def own_weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights, caches and the hub's cache in folders of the test; encoders loaded before are forgotten."""
    from napari_survpgc.core.encoders.catalog import _load

    monkeypatch.setenv("SURVPGC_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("SURVPGC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    _load.cache_clear()
    yield
    _load.cache_clear()
