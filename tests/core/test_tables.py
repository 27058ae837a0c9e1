"""Tables are read as people save them, and no cell slips into a neighbour's column."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.tables import TextTable, first_irregular_line, is_missing, read_table


def _read(tmp_path: Path, content: str | bytes) -> TextTable:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, CohortError, "Save it as CSV")


@pytest.mark.parametrize(
    "content",
    [
        "id,age\nA,5\nB,6\n",
        "id\tage\r\nA\t5\r\nB\t6\r\n",
        "id;age\rA;5\rB;6",
        "# a comment\n#another\nid,age\nA,5\n\n , \nB,6\n,\n",
        "id,age,\nA,5,\nB,6,\n",
        "id\tage\nA\t5\t\nB\t6\t\n",
        '"id","age"\n"A"," 5"\n"B","6"\n',
        "\ufeffid,age\nA,5\nB,6\n",
        "id,age\nA,5\nB,6\n".encode("utf-16"),
        gzip.compress(b"id|age\nA|5\nB|6\n", mtime=0),
    ],
)
def test_what_spreadsheets_and_programs_save_is_one_table(tmp_path: Path, content: str | bytes) -> None:
    table = _read(tmp_path, content)
    assert table.header == ("id", "age")
    assert table.rows == (("A", "5"), ("B", "6"))
    assert table.notes == ()


def test_a_header_one_cell_shorter_is_read_as_r_writes_it(tmp_path: Path) -> None:
    table = _read(tmp_path, "age sex\n".replace(" ", "\t") + "PA\t5\tf\nPB\t6\tm\n")
    assert table.header == ("", "age", "sex")
    assert table.rows[1] == ("PB", "6", "m")
    assert "no name, as R writes it" in table.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,age,sex\nA,5,f\nB,6\n", "Line 3 of t.csv has 2 cells where the header has 3"),
        ("id,age\nA,5\n\nACSL3,5,503\n", "Line 4 of t.csv has 3 cells where the header has 2"),
        ("id,age,age\nA,5,6\n", "column age twice"),
        ("id,,age\nA,5,6\n", "column 2 of t.csv has no name"),
        ("", "is empty"),
        ("# only a comment\n", "one|empty|holds|has"),
        (b"PK\x03\x04....", "Excel or zip"),
        (b"id\0age", "not a text file"),
        (gzip.compress(b"id,age", mtime=0)[:-4], "damaged or cut short"),
    ],
)
def test_what_cannot_be_read_for_certain_is_refused_with_its_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    if message.startswith("one"):
        assert _read(tmp_path, content).rows == ()
        return
    with pytest.raises(CohortError, match=message):
        _read(tmp_path, content)


def test_decimal_commas_are_found_together_with_the_delimiter(tmp_path: Path) -> None:
    table = _read(tmp_path, "id;months;note\nA;12,5;x\nB;7,25;y, z\n")
    assert table.header == ("id", "months", "note")
    assert table.decimal == ","
    assert table.number("12,5") == 12.5
    assert "comma as the decimal sign" in table.notes[0]
    # Between commas a quoted 1,234 is rather a thousand: it stays as it is, and is no number.
    assert _read(tmp_path, 'id,months\nA,"1,234"\nB,"2,500"\n').decimal == "."


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    table = _read(tmp_path, "id,race\nA,métis\n".encode("latin-1"))
    assert table.rows == (("A", "métis"),)
    assert "not UTF-8" in table.notes[0]


def test_a_comma_inside_quotes_cuts_no_cell(tmp_path: Path) -> None:
    assert _read(tmp_path, 'id,subtype\nA,"carcinoma, ductal\nof breast"\nB,x\n').lines == (2, 4)


@pytest.mark.parametrize("word", ["", "NA", "'--", "[Not Available]", "#N/A", "n/a", None, float("nan")])
def test_missing_words_are_the_same_everywhere(word: object) -> None:
    assert is_missing(word)
    assert not is_missing("none of these")


def test_the_first_irregular_line_of_a_large_text_is_found() -> None:
    assert first_irregular_line("a,b\n1,2\n\n3,4,\n", ",", 2) is None
    assert first_irregular_line('a,b\n"1,5",2\n3,4,5\n', ",", 2) == (3, 3)
    assert first_irregular_line("a,b\n1\n", ",", 2) == (2, 1)
