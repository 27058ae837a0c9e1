"""Fixtures that every test may use."""

from __future__ import annotations

import os
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
