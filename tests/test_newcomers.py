"""What docs/adding.md calls one new file is one: the contract tests find it, and no other file is edited.

The examples of the page are added to a copy of the program, whose own tests run on them in a process of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

PAGE = ROOT / "docs" / "adding.md"
_EXAMPLE = re.compile(
    r'^```python title="(?:into (\w+) of )?([\w/.]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL
)
HAS_DISPLAY = sys.platform in ("win32", "darwin") or bool(
    os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
)

OUTPUT_TEST = """
from napari_survpgc.core.output.folder import write_outputs
from napari_survpgc.core.slide.slide import open_slide
from tests.core.test_predict import bundle_dir, prediction, tiff  # noqa: F401


def test_an_output_is_written_with_the_others(prediction, tiff, tmp_path):
    with open_slide(tiff) as slide:
        files = write_outputs(prediction, slide, tmp_path / "out", k=3)
    assert {file.name for file in files} >= {"risk.txt", "report.html"}
    assert float((tmp_path / "out" / "risk.txt").read_text()) == round(prediction.risk, 3)
"""

PANEL_TEST = """
from napari_survpgc.core.types import ClinicalRecord


def test_a_panel_is_a_section_with_a_button_and_follows_the_session(dock):
    assert next(iter(dock.sections)) == next(iter(dock.signposts)) == "Toy"
    dock.session.set_record(ClinicalRecord(age=61.0, sex="female"))
    assert dock.toy.label.text() == "female, 61.0"
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """Names of the contract tests that the newcomers passed, and how often; any other outcome fails here."""
    home = tmp_path_factory.mktemp("copy")
    leave = shutil.ignore_patterns("__pycache__")
    package = home / "napari_survpgc"
    shutil.copytree(ROOT / "napari_survpgc", package, ignore=leave)
    shutil.copytree(ROOT / "training", package / "training", ignore=leave)  # as it is installed
    (package / "resources").symlink_to(ROOT / "resources", target_is_directory=True)
    shutil.copytree(ROOT / "tests", home / "tests", ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", home)
    for table, name, text in _EXAMPLE.findall(PAGE.read_text(encoding="utf-8")):
        file = package / name.removeprefix("napari_survpgc/")
        if table:
            statement, _, entry = text.partition("\n\n")
            whole = file.read_text(encoding="utf-8")
            head = re.search(rf"^{table}\b.* = \(\n", whole, re.MULTILINE)
            assert head, f"{name} has no list {table}"
            whole = whole[: head.end()] + entry + whole[head.end() :]
            text = whole.replace("\nfrom .", f"\n{statement}\nfrom .", 1)
        else:
            assert not file.exists()
        file.write_text(text, encoding="utf-8")
    (home / "tests" / "core" / "test_toy_output.py").write_text(OUTPUT_TEST, encoding="utf-8")
    (home / "tests" / "app" / "test_toy_panel.py").write_text(PANEL_TEST, encoding="utf-8")
    files = [
        "core/test_models.py", "core/test_encoders.py", "core/test_features.py", "core/test_cohort_sources.py",
        "core/test_toy_output.py", "training/test_systems.py", "training/test_robust.py",
        *(["app/test_toy_panel.py"] if HAS_DISPLAY else []),
    ]  # fmt: skip
    report = home / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "toy",
         f"--junitxml={report}", *(f"tests/{file}" for file in files)],
        cwd=home, env={**os.environ, "PYTHONPATH": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    cases = list(ET.parse(report).getroot().iter("testcase"))
    assert not [case.get("name") for case in cases if list(case)], "failed or skipped"
    return Counter(str(case.get("name")).partition("[")[0] for case in cases)


def test_a_network_is_found_by_the_contract_of_the_models(outcomes: Counter[str]) -> None:
    assert outcomes["test_every_model_gives_logits_and_a_gradient"] == 4
    for name in (
        "test_every_model_runs_on_one_device_only",
        "test_a_padded_batch_gives_what_each_slide_gives_alone",
        "test_the_order_of_patches_does_not_matter",
        "test_a_model_looks_at_what_it_requires_and_at_nothing_else",
        "test_attention_has_the_names_and_shapes_of_the_contract",
        "test_a_training_step_stays_on_its_device",
    ):
        assert outcomes[name] == 1, name


def test_a_network_and_another_system_are_trained_like_the_others(outcomes: Counter[str]) -> None:
    name = "test_every_system_trains_into_the_same_run_folder_and_predicts_from_its_bundle"
    assert outcomes[name] == 2


def test_an_encoder_is_found_by_the_contract_of_the_encoders(outcomes: Counter[str]) -> None:
    for name in (
        "test_a_card_is_what_its_file_states",
        "test_what_comes_along_is_as_its_card_says",
        "test_every_image_encoder_keeps_its_promises",
    ):
        assert outcomes[name] == 1, name


def test_a_source_of_cohorts_is_found_by_the_contract_of_the_sources(outcomes: Counter[str]) -> None:
    for name in (
        "test_a_source_recognises_by_names_and_reads_with_the_same_options",
        "test_a_cohort_folder_is_recognised_by_its_own_source_only",
    ):
        assert outcomes[name] == 1, name


def test_an_output_is_a_function_and_an_entry_of_the_list(outcomes: Counter[str]) -> None:
    assert outcomes["test_an_output_is_written_with_the_others"] == 1


@pytest.mark.skipif(not HAS_DISPLAY, reason="no display: run the tests with 'make test' or xvfb-run")
def test_a_panel_is_a_file_and_a_line_of_the_list(outcomes: Counter[str]) -> None:
    assert outcomes["test_a_panel_is_a_section_with_a_button_and_follows_the_session"] == 1
