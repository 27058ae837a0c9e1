"""What every source of cohorts keeps to, and what the digest of a cohort covers."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.cohort import read_cohort
from napari_survpgc.core.cohort.read import cohort_sources
from napari_survpgc.core.cohort.sources import folder as folder_source
from napari_survpgc.core.errors import CohortError
from tests.training.test_train import GENES, make_cohort

SOURCES = cohort_sources()


@pytest.fixture(scope="module")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_cohort(tmp_path_factory.mktemp("sources") / "cohort", n=12)
    (folder / "folds").mkdir()
    (folder / "folds" / "fold_0.csv").write_text("case_id,split\nP00,train\nP01,train\nP02,test\n")
    return folder


# --- every source -------------------------------------------------------------------------------------------


def test_every_file_of_the_folder_is_a_source() -> None:
    files = {path.stem for path in Path(folder_source.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(SOURCES) == files
    assert "folder" in SOURCES


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_source_recognises_by_names_and_reads_with_the_same_options(name: str, tmp_path: Path) -> None:
    source = SOURCES[name]
    options = inspect.signature(source.read).parameters
    assert next(iter(options)) == "place"
    assert (options["endpoint"].default, options["open_features"].default) == ("survival", False)
    empty, absent, text = tmp_path / "empty", tmp_path / "absent", tmp_path / "notes.txt"
    empty.mkdir()
    text.write_text("nothing of a cohort")
    assert not any(source.recognises(place) for place in (empty, absent, text))
    with pytest.raises(CohortError) as error:
        source.read(absent)
    assert "\n" not in str(error.value)
    assert error.value.next_step


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_cohort_folder_is_recognised_by_its_own_source_only(name: str, cohort_dir: Path) -> None:
    assert SOURCES[name].recognises(cohort_dir) is (name == "folder")


def test_a_new_source_is_asked_without_being_listed(tmp_path: Path, cohort_dir: Path, monkeypatch) -> None:
    from napari_survpgc.core.cohort import sources

    (tmp_path / "elsewhere.py").write_text(
        "from pathlib import Path\n"
        "from napari_survpgc.core.cohort.sources import folder\n"
        "def recognises(place):\n    return place.suffix == '.link' and place.is_file()\n"
        "def read(place, **options):\n    return folder.read(Path(place.read_text()), **options)\n"
    )
    link = tmp_path / "cohort.link"
    link.write_text(str(cohort_dir))
    with pytest.raises(CohortError, match="is not a cohort folder"):
        read_cohort(link)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    try:
        assert len(read_cohort(link).records) == 12
    finally:
        sys.modules.pop(f"{sources.__name__}.elsewhere", None)


# --- expression ---------------------------------------------------------------------------------------------


def test_a_patient_gets_the_expression_of_its_row(tmp_path: Path) -> None:
    place = make_cohort(tmp_path / "cohort", n=4)
    rows = "case_id,A,B,C\n02,1,-2.5,3\n P01 ,4,5,\nelsewhere,,8,NA\nP00,7,8,9\n"
    (place / "expression.csv.gz").unlink()
    (place / "expression.csv").write_text(rows)
    patients = pd.read_csv(place / "patients.csv", dtype=str)
    patients.assign(case_id=["P00", "x", "02", "P03"]).to_csv(place / "patients.csv", index=False)
    cohort = read_cohort(place)
    profile = cohort.profile("02")  # a number with a zero before it is an id all the same
    assert profile is not None
    assert profile.values == {"A": 1.0, "B": -2.5, "C": 3.0}
    assert (profile.unit, profile.sample) == ("z-score", "02")
    other = cohort.profile("elsewhere")
    assert other is not None
    assert other.values == {"B": 8.0}  # a gene without a value is not there
    assert cohort.profile("P03") is None
    assert replace(cohort, expression=None).profile("P00") is None


def test_a_gene_that_stands_twice_is_named_by_its_own_name(tmp_path: Path) -> None:
    place = make_cohort(tmp_path / "cohort", n=4)
    (place / "expression.csv.gz").unlink()
    (place / "expression.csv").write_text('case_id,A,"B",A,B\nP00,1,2,3,4\n')
    with pytest.raises(CohortError, match="has the genes A, B twice"):
        read_cohort(place)


# --- digest -------------------------------------------------------------------------------------------------


def _digest(folder: Path) -> str:
    return read_cohort(folder).digest()


def _write(folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(folder / name, dtype=str)).to_csv(folder / name, index=False)


def test_order_place_and_spelling_do_not_change_the_digest(cohort_dir: Path, tmp_path: Path) -> None:
    other = shutil.copytree(cohort_dir, tmp_path / "elsewhere")
    for name in ("patients.csv", "expression.csv.gz", "folds/fold_0.csv"):
        _write(other, name, lambda table: table.iloc[::-1])
    _write(other, "expression.csv.gz", lambda table: table[["case_id", *GENES[::-1]]])
    _write(other, "patients.csv", lambda table: table.assign(stage="stage ii", event=table["event"] + ".0"))
    assert _digest(other) == _digest(cohort_dir)


def _cell(column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{column: [value, *table[column][1:]]})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("patients.csv", _cell("age", "44")),
        ("patients.csv", _cell("survival_months", "3.25")),
        ("patients.csv", _cell("site", "06")),
        ("expression.csv.gz", _cell(GENES[3], "0.1234")),
        ("expression.csv.gz", _cell("case_id", "someone else")),
        ("folds/fold_0.csv", lambda table: pd.concat([table, table.iloc[-1:].assign(case_id="P05")])),
        ("features/P03.h5", None),
        ("gene_sets.gmt", None),
    ],
)  # fmt: skip
def test_what_the_cohort_says_changes_the_digest(
    cohort_dir: Path, tmp_path: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame] | None
) -> None:
    other = shutil.copytree(cohort_dir, tmp_path / "other")
    if change is not None:
        _write(other, name, change)
    else:
        with (other / name).open("ab") as file:
            file.write(b"c\t\tGENE0\n")
    assert _digest(other) != _digest(cohort_dir)


def test_another_process_finds_the_same_digest(cohort_dir: Path) -> None:
    code = "import sys, pathlib; from napari_survpgc.core.cohort import read_cohort; "
    code += "print(read_cohort(pathlib.Path(sys.argv[1])).digest())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(cohort_dir)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == _digest(cohort_dir)


def test_every_missing_value_is_the_same(cohort_dir: Path) -> None:
    cohort = read_cohort(cohort_dir)
    assert cohort.expression is not None
    payload = np.array([0x7FF8000000000001], "<u8").view("<f8")[0]  # a NaN that is not numpy's
    digests = []
    for missing in (np.nan, payload):
        frame = cohort.expression.copy()
        frame.iloc[0, 0] = missing
        digests.append(replace(cohort, expression=frame).digest())
    assert digests[0] == digests[1] != cohort.digest()
