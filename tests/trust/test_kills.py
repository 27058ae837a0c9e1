"""A kill or a refusal at any file operation leaves the old set or the new one, and the same line goes on.

A sample; `make reliability` tries every operation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if not hasattr(os, "fork"):
    pytest.skip("the trials fork", allow_module_level=True)
ROOT = Path(__file__).parents[2]


def _try(folder: Path, *options: str) -> dict[str, dict[str, object]]:
    """Run the trials in a process that has not used torch's threads yet."""
    line = [sys.executable, "-m", "tests.trust.kills", *options, "--record", str(folder)]
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)]).lstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = folder.glob("*.json")
    return json.loads(record.read_text())


def test_kills_leave_the_old_set_or_the_new_one(tmp_path: Path) -> None:
    found = _try(tmp_path, "--only", "features,bundle,train", "--first", "5", "--every", "97")
    assert all(each["tried"] for each in found.values())


def test_a_kill_of_a_prediction_leaves_the_old_set_or_the_new_one(tmp_path: Path) -> None:
    found = _try(tmp_path, "--only", "predict", "--first", "30", "--every", "180")
    assert found["predict"]["tried"]


def test_a_refused_write_is_one_sentence_and_costs_nothing(tmp_path: Path) -> None:
    found = _try(tmp_path, "--only", "features,bundle", "--first", "7", "--every", "60", "--fault", "ENOSPC")
    assert all(each["tried"] for each in found.values())
