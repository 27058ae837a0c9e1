"""The house rules that a linter cannot see: which way imports run, how long a file is, what a headless machine loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "napari_survpgc"
HOMES = {
    PACKAGE: ROOT / PACKAGE,
    f"{PACKAGE}.training": ROOT / "training",
    f"{PACKAGE}.resources": ROOT / "resources",
}
MAX_LINES = 400

# What each part may import. Inside core and app a room sees only what stands below it (and itself).
PARTS = {
    "core": {"core", "resources"},
    "simulation": {"simulation", "core", "resources"},
    "app": {"app", "simulation", "core", "resources"},
    "training": {"training", "simulation", "core", "resources"},
    "commands": {"commands", "app", "training", "simulation", "core", "resources"},
    "resources": {"resources"},
    "cli": {"commands", "core"},
}
LAYERS = {
    "core": (
        {"jobs"},
        {"predict", "checkpoints"},
        {"cohort", "output"},
        {"bundle"},
        {"features", "clinical"},
        {"encoders"},
        {"tissue", "genomics"},
        {"slide", "models", "attention"},
        {"ground"},
    ),
    "app": (
        {"entry"},
        {"dock"},
        {"views/panels"},
        {"views/patient", "views/cohort"},
        {"canvas", "views/widgets", "window"},
        {"session"},
        {"ground"},
    ),
}
GROUND = {
    "core": {
        "types",
        "errors",
        "exchange",
        "files",
        "hdf5",
        "locks",
        "streams",
        "bounded",
        "hdf5_limits",
        "documents",
        "tables",
        "packed",
        "notice",
        "threads",
        "user_folder",
        "survival",
        "log_rank",
        "curves",
        "calibration",
        "metrics",
        "groups",
        "outlook",
        "names",
        "cells",
        "log",
    },
    "app": {"workers", "later"},
}

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


@dataclass(frozen=True)
class Import:
    """One import of one of our modules."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def _files() -> dict[str, Path]:
    """Return module name -> file of the whole product."""
    found = {}
    for package, folder in HOMES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


MODULES = _files()
HEADLESS = [
    name
    for name in MODULES
    if name.startswith((f"{PACKAGE}.core", f"{PACKAGE}.training", f"{PACKAGE}.simulation"))
]


def _imports(name: str, path: Path) -> list[Import]:
    """Return what a module imports of ours, anywhere in it, relative imports resolved."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [Import(path, node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")
            prefix = ".".join(base[: len(base) - node.level + 1]) + "." if node.level else ""
            module = (prefix + (node.module or "")).rstrip(".")
            # `from package import module` is an import of the module.
            inner = [f"{module}.{alias.name}" for alias in node.names]
            found += [Import(path, node.lineno, m if m in MODULES else module) for m in inner]
    return [one for one in found if one.module.startswith(f"{PACKAGE}.")]


def _part(module: str) -> str:
    return module.split(".")[1]


def _room(module: str) -> str:
    """Return the room of a module of core or app: its folder, a layer of its own, or "ground"."""
    part, inner = _part(module), module.split(".")[2:]
    if not inner:
        return "ground"
    for room in {room for layer in LAYERS[part] for room in layer}:
        names = room.split("/")
        if inner[: len(names)] == names:
            return room
    return "ground"


def _broken(name: str, path: Path) -> list[str]:
    part, said = _part(name), []
    for one in _imports(name, path):
        other = _part(one.module)
        if other not in PARTS:
            continue  # the version
        if other not in PARTS[part]:
            said.append(f"{one}: {part} must not import {other}")
        elif other == part and part in LAYERS:
            levels = {room: i for i, layer in enumerate(LAYERS[part]) for room in layer}
            mine, its = _room(name), _room(one.module)
            if mine != its and levels[its] <= levels[mine]:
                said.append(f"{one}: {part}/{its} does not stand below {part}/{mine}")
    return said


def test_there_are_modules_to_check() -> None:
    assert f"{PACKAGE}.core.types" in HEADLESS
    assert any(name.startswith(f"{PACKAGE}.training.") for name in HEADLESS)


def test_imports_run_downwards() -> None:
    broken = [said for name, path in MODULES.items() if name.count(".") for said in _broken(name, path)
              if _part(name) in PARTS]  # fmt: skip
    assert not broken, "\n".join(broken)


def test_a_broken_layer_names_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    bad = tmp_path / "find.py"
    bad.write_text("import os\nfrom napari_survpgc.core.jobs.batch import predict_batch\n", encoding="utf-8")
    (said,) = _broken(f"{PACKAGE}.core.tissue.find", bad)
    assert said.startswith("find.py:2 imports napari_survpgc.core.jobs.batch")
    bad.write_text("from napari_survpgc.training import settings\n", encoding="utf-8")
    (said,) = _broken(f"{PACKAGE}.app.dock", bad)
    assert "app must not import training" in said


@pytest.mark.parametrize("part", list(GROUND))
def test_a_part_holds_rooms_and_named_ground(part: str) -> None:
    rooms = {room.split("/")[0] for layer in LAYERS[part] for room in layer}
    for path in (ROOT / PACKAGE / part).glob("*.py"):
        assert path.stem in GROUND[part] | rooms | {"__init__"}, f"{path} is no ground: give it a room"


def test_no_two_modules_import_each_other() -> None:
    reached: dict[str, set[str]] = {}
    direct = {name: {one.module for one in _imports(name, path)} & set(MODULES) for name, path in MODULES.items()
              if path.name != "__init__.py"}  # fmt: skip
    for name in direct:
        seen, todo = set(), [name]
        while todo:
            for other in direct.get(todo.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        reached[name] = seen
    circles = sorted(name for name, seen in reached.items() if name in seen)
    assert not circles, f"import each other: {circles}"


def test_no_file_is_too_long() -> None:
    long = {str(p.relative_to(ROOT)): n for p in MODULES.values()
            if (n := len(p.read_text(encoding="utf-8").splitlines())) > MAX_LINES}  # fmt: skip
    assert not long, long


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


def test_types_and_errors_import_no_sibling() -> None:
    for name in ("types", "errors"):
        module = f"{PACKAGE}.core.{name}"
        assert not _imports(module, MODULES[module])


def test_every_package_is_installed() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == packages


def test_every_command_is_a_file_and_every_file_a_command() -> None:
    from napari_survpgc.commands import COMMANDS

    files = {path.stem for path in (ROOT / "napari_survpgc" / "commands").glob("*.py")}
    assert files - {"__init__", "options"} == set(COMMANDS.values())


def test_no_function_takes_a_case_in_pieces() -> None:
    pieces = {"slide", "slides", "record", "profile", "features"}
    outside = {f"{PACKAGE}.core.predict.predictor.predict"}  # called by notebooks and checks outside
    found = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                taken = {arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
                if len(taken - {"self", "cls"}) > 6 and len(taken & pieces) > 1:
                    found.add(f"{name}.{node.name}")
    assert found == outside, "hand on a Case and JobOptions"
