"""Ids that become names of files, and texts that a spreadsheet would take for formulas."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import re
from pathlib import Path

import pandas as pd
import pytest

from napari_survpgc.core.cells import csv_text, defused, frame_text, restored, restored_frame
from napari_survpgc.core.cohort.checks import find_features
from napari_survpgc.core.cohort.expression import find_expression
from napari_survpgc.core.cohort.text_table import read_text_table
from napari_survpgc.core.files import write_table
from napari_survpgc.core.genomics.expression_table import open_text, parse_columns
from napari_survpgc.core.jobs.batch import predict_batch
from napari_survpgc.core.jobs.one_patient import _features_name, _folders
from napari_survpgc.core.jobs.results_folder import CaseResult, _with_follow_up
from napari_survpgc.core.names import file_name, file_names
from napari_survpgc.core.slide.formats import find_slide
from napari_survpgc.core.types import Case, ClinicalRecord

ROOT = Path(__file__).resolve().parents[2]
BAD_IDS = [
    "../../x", "/etc/passwd", "C:\\x", "C:x", "\\\\server\\share", "a\0b", "a\nb", "a/b", "..", ".", "", " ", "NUL",
    "nul.txt", "com1", "COM¹", "LPT9.h5", "CON .x", "CONIN$", "x" * 300, "é" * 100, ".hidden", "~x", "-rf", "a ", "a.",
    "a:b", "a*b", 'a"b', "a|b", "a<b>", "\u202egpj.x", "\ud800", "\x7f", "a\u2028b",
]  # fmt: skip
FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "=cmd|' /C calc'!A0", "'=1", "''-x", "\uff1d1", "--", "-",
]  # fmt: skip
NUMBERS = ["-1.5", "+2", "-1,5", "1e-5", "-1e+5", "-.5", "-3 ", "-inf", "+50%"]


@pytest.mark.parametrize("identifier", BAD_IDS, ids=range(len(BAD_IDS)))
def test_an_id_that_is_no_name_becomes_one_and_stays_it(identifier: str) -> None:
    name = file_name(identifier)
    assert name != identifier
    assert re.fullmatch(r"[^\W_][^/\\:*?\"<>|\0\n]*[^\W_]", name)
    assert len(name.encode()) <= 80
    assert file_name(name) == name
    assert all("/" not in each and each not in ("", ".", "..") for each in file_names(identifier))


@pytest.mark.parametrize(
    "identifier", ["TCGA-02-0001-01Z-00-DX1", "A.1", "Müller 3", "x_y", "SIM-0001", "患者1", "(2)"]
)
def test_an_id_that_is_a_name_is_not_changed(identifier: str) -> None:
    assert file_name(identifier) == identifier
    assert file_names(identifier) == (identifier,)


def test_ids_that_differ_have_names_that_differ() -> None:
    similar = ["a/b", "a\\b", "a:b", "a_b", "a//b", "a/b ", "A/B", "../a", "./a", "a", "x" * 300, "x" * 301]
    assert len({file_name(each).lower() for each in similar}) == len(similar)


def test_no_id_leads_out_of_a_cohort_a_list_or_the_results(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in" / "features", tmp_path / "x.h5"
    inside.mkdir(parents=True)
    outside.write_bytes(b"")
    (tmp_path / "slides").mkdir()
    (tmp_path / "x").mkdir()
    for number, name in enumerate(["../../x", str(tmp_path / "x"), "..", "."]):
        patients = pd.DataFrame({"case_id": ["P"], "slide_ids": [name]})
        problems: list[str] = []
        assert find_features(tmp_path / "in", patients["case_id"], patients, False, problems) == {"P": ()}
        assert len(problems) == 1, number
        assert find_slide(tmp_path / "slides", name) is None
    for name in ("..svs", "...svs", "NUL.svs"):
        slides = [tmp_path / name, tmp_path / "b.svs"]
        assert all(folder.parent == tmp_path / "out" for folder in _folders(slides, tmp_path / "out"))
        assert (
            tmp_path / "out" / _features_name(slides[0])
        ).resolve().parent == tmp_path / "out" / "features"


def test_a_list_writes_into_its_own_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    monkeypatch.setattr(
        "napari_survpgc.core.jobs.batch.predict_case", lambda case, bundle, out, **_: places.append(out)
    )
    cases = [
        Case(each, (tmp_path / "a.svs",), ClinicalRecord())
        for each in BAD_IDS
        if each.strip() and each != "\ud800"
    ]
    report = predict_batch(cases, None, tmp_path / "out")  # type: ignore[arg-type]
    assert len(report.done) == len(cases)
    assert all(place.parent == tmp_path / "out" for place in places)
    assert len({place.resolve().parent for place in places}) == 1


def test_follow_up_is_found_for_an_id_that_is_no_name(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    write_table(
        table, pd.DataFrame({"case_id": ["H/24/1", "=A"], "survival_months": [5.0, 7.0], "event": [1, 0]})
    )
    found = [CaseResult(file_name(each), 0.0, 0.0, "low", ClinicalRecord()) for each in ("H/24/1", "=A")]
    assert [(each.case_id, each.months) for each in _with_follow_up(found, table)] == [
        ("H/24/1", 5.0),
        ("=A", 7.0),
    ]


def test_every_place_of_the_code_that_makes_a_path_of_an_id_asks_for_a_name() -> None:
    ids = {"case_id", "slide_id", "case_name", "slide_name", "patient_id", "stem"}
    known = {"feature_file.py"}  # beside a file that lies there already
    bare = []
    for home in ("napari_survpgc", "training"):
        for path in (ROOT / home).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and path.name not in known:
                    bare += [f"{path.name}:{node.lineno}"] if _bare(node.right, ids) else []
    assert not bare


def _bare(node: ast.AST, ids: set[str]) -> bool:
    """Whether an id goes into an expression past ``file_name``."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("file_name", "_features_name"):
        return False
    if getattr(node, "attr", getattr(node, "id", "")) in ids:
        return True
    return any(_bare(child, ids) for child in ast.iter_child_nodes(node))


@pytest.mark.parametrize("text", FORMULAS, ids=range(len(FORMULAS)))
def test_a_formula_is_written_as_text_and_read_back(text: str) -> None:
    assert defused(text).startswith("'")
    assert restored(defused(text)) == text


@pytest.mark.parametrize("text", [*NUMBERS, "a=b", "", "x", "'quoted'", "Grade 2-3"])
def test_numbers_and_plain_texts_stay_as_they_are(text: str) -> None:
    assert defused(text) == restored(text) == text


def test_every_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    ids = ["=A", "+B", "-1.5", "@D", "'=E", "F"]
    frame = pd.DataFrame(
        {"case_id": ids, "=note": ["-", "", "x", "=1", "@", "y"], "value": [-1.5, 2, -3, 4, 5, 6]}
    )
    write_table(tmp_path / "a.csv", frame)
    cells = [cell for row in csv.reader((tmp_path / "a.csv").open()) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+@-") and cell not in ("-1.5", "-3.0")]
    read = read_text_table(tmp_path / "a.csv")
    assert list(read.columns) == list(frame.columns)
    assert list(read["case_id"]) == ids
    assert list(read["=note"]) == list(frame["=note"])
    assert list(read["value"].astype(float)) == list(frame["value"])
    again = restored_frame(pd.read_csv(io.StringIO(frame_text(frame)), keep_default_na=False))
    assert again.equals(frame)


def test_expression_of_a_patient_with_such_an_id_is_found(tmp_path: Path) -> None:
    frame = pd.DataFrame({"case_id": ["=A", "B"], "TP53": [-1.5, 2.0], "EGFR": [0.5, -0.25]})
    (tmp_path / "expression.csv.gz").write_bytes(gzip.compress(frame_text(frame).encode()))
    problems: list[str] = []
    patients = pd.DataFrame({"case_id": ["=A", "B"]})
    found = find_expression(tmp_path, patients["case_id"], patients, problems, [])
    assert problems == []
    assert found is not None
    assert list(found.index) == ["=A", "B"]
    assert found.loc["=A", "TP53"] == -1.5
    text = open_text(tmp_path / "expression.csv.gz")
    column = parse_columns(tmp_path / "x", text.text, text.delimiter, [0], header=True)
    assert list(column.iloc[:, 0]) == ["=A", "B"]


def test_rows_are_written_as_python_writes_numbers() -> None:
    assert csv_text(("a", "=b"), [(1, -0.1), ("=x", None)]) == "a,'=b\n1,-0.1\n'=x,\n"


def test_no_other_place_of_the_code_writes_csv() -> None:
    other = [
        str(path.relative_to(ROOT))
        for home in ("napari_survpgc", "training")
        for path in (ROOT / home).rglob("*.py")
        if re.search(r"\.to_csv\(|csv\.writer|DictWriter", path.read_text(encoding="utf-8"))
    ]
    assert other == ["napari_survpgc/core/cells.py"]
