"""The house rules that a linter cannot see: which way imports run, and what a headless machine loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN_HEADLESS = (
    "napari",
    "magicgui",
    "qtpy",
    "superqt",
    "PyQt5",
    "PyQt6",
    "PySide6",
    "matplotlib.pyplot",
)


def _modules(folder: str, package: str) -> list[str]:
    names = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        names.append(".".join((package, *(p for p in parts if p != "__init__"))))
    return names


HEADLESS = _modules("napari_survpgc/core", "napari_survpgc.core") + _modules(
    "training", "napari_survpgc.training"
)


def _imports(path: Path, package: str) -> set[str]:
    """Absolute names of all modules that a file imports anywhere, relative imports resolved."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")
            prefix = ".".join(base[: len(base) - node.level + 1]) + "." if node.level else ""
            module = (prefix + (node.module or "")).rstrip(".")
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def test_there_are_modules_to_check() -> None:
    assert "napari_survpgc.core.types" in HEADLESS
    assert any(name.startswith("napari_survpgc.training.") for name in HEADLESS)


def test_every_headless_module_loads_without_qt_or_napari() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {[*HEADLESS, 'napari_survpgc.cli']!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [m for m in {FORBIDDEN_HEADLESS!r} if m in sys.modules]\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["napari_survpgc", "napari_survpgc.cli"])
def test_package_and_command_line_start_light(package: str) -> None:
    code = f"import sys, {package}; print([m for m in ('torch', 'numpy', 'openslide', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("folder", "package", "allowed"),
    [
        ("napari_survpgc/core", "napari_survpgc.core", ("napari_survpgc.core", "napari_survpgc.resources")),
        (
            "training",
            "napari_survpgc.training",
            ("napari_survpgc.core", "napari_survpgc.training", "napari_survpgc.resources"),
        ),
        (
            "napari_survpgc/app",
            "napari_survpgc.app",
            ("napari_survpgc.core", "napari_survpgc.app", "napari_survpgc.resources"),
        ),
    ],
)
def test_imports_run_one_way(folder: str, package: str, allowed: tuple[str, ...]) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        inner = path.relative_to(ROOT / folder).parent.parts
        for name in _imports(path, ".".join((package, *inner))):
            if name.startswith("napari_survpgc."):
                fine = name.startswith(allowed) or name == "napari_survpgc.__version__"
                assert fine, f"{path.relative_to(ROOT)} imports {name}"


def test_types_and_errors_import_no_sibling() -> None:
    for name in ("types", "errors"):
        path = ROOT / "napari_survpgc" / "core" / f"{name}.py"
        assert not [m for m in _imports(path, "napari_survpgc.core") if m.startswith("napari_survpgc")]


def test_every_command_is_a_file_and_every_file_a_command() -> None:
    from napari_survpgc.commands import COMMANDS

    files = {path.stem for path in (ROOT / "napari_survpgc" / "commands").glob("*.py")}
    assert files - {"__init__", "options"} == set(COMMANDS.values())
