"""The documentation says what the code does: its drawing is current, its examples run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from docs.draw_architecture import DRAWING, drawing, without_implied
from napari_survpgc.core.encoders import load_image_encoder
from napari_survpgc.core.features.compute import compute_features
from napari_survpgc.core.slide import open_slide
from napari_survpgc.core.tissue import find_tissue, patch_grid
from napari_survpgc.simulation.cohort import DEMO_INDEX, DEMO_SEED, simulate_case

DOCS = DRAWING.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "survpgc-demo"
    case = simulate_case(folder / "patient", seed=DEMO_SEED, index=DEMO_INDEX, slide_px=(1024, 1024))
    with open_slide(case.slide) as slide:
        grid = patch_grid(find_tissue(slide), slide.info, patch_px=256, mpp=0.5)
        encoder = load_image_encoder("efficientnet-lite0", "cpu")
        compute_features(slide, grid, encoder, folder / "result" / "features" / "slide.h5")
    return folder


@pytest.fixture
def demo(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `survpgc demo` leaves, as far as the examples need it, of a smaller section; it lies in the working folder."""
    monkeypatch.chdir(made.parent)
    return made


def test_the_examples_run_in_one_go(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.finditer(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        # Line numbers of a traceback are those of the page.
        code = "\n" * (page[: block.start(1)].count("\n")) + block[1]
        exec(compile(code, "python.md", "exec"), names)
    assert names["older"].risk != names["result"].risk
    assert (names["again"].grid.coords == names["features"].grid.coords).all()
    assert "nobody.json cannot be read" in capsys.readouterr().out


def test_the_example_of_the_readme_runs(demo: Path) -> None:
    page = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["older"].risk_percentile >= names["result"].risk_percentile


def test_the_drawing_shows_the_imports_as_they_are() -> None:
    assert DRAWING.read_text(encoding="utf-8") == drawing(), "run python -m docs.draw_architecture"


def test_a_line_that_a_longer_way_implies_is_left_out() -> None:
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert without_implied(edges) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}
