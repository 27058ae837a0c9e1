"""The type checker sees the trainer under the name that commands import it by: a wrong call fails the linter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _installed_layout(place: Path) -> Path:
    """Lay the tree of links that `make typed` lays."""
    package = place / "napari_survpgc"
    package.mkdir(parents=True)
    for path in [*(ROOT / "napari_survpgc").iterdir(), ROOT / "training", ROOT / "resources"]:
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    return place


def test_a_wrong_call_into_the_trainer_fails_the_linter(tmp_path: Path) -> None:
    laid = ROOT / "build" / "typed"  # where `make lint` has laid it, and mypy's cache knows it
    tree = laid if laid.is_dir() else _installed_layout(tmp_path / "typed")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from napari_survpgc.training.settings import load_settings\n"
        "load_settings(1, 2, 3, nonsense=object())\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", str(wrong)],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(tree)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wrong.py:2: error: Too many positional arguments" in done.stdout
