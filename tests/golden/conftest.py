"""The golden cases: inputs, weights and outputs of the published code, read with their own reader."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def load_golden(shared_dir: Path) -> Callable[[str], dict[str, Any]]:
    folder = shared_dir / "golden"
    spec = importlib.util.spec_from_file_location("golden_io", folder / "golden_io.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name: module.load_case(str(folder / f"{name}.json"))
