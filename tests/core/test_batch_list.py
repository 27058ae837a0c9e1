"""A list of patients is matched with slides, records and expression; each file is read once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from napari_survpgc.core import tables
from napari_survpgc.core.clinical import read_record
from napari_survpgc.core.errors import SurvPGCError
from napari_survpgc.core.genomics import expression_file, read_expression
from napari_survpgc.core.jobs.batch import read_batch

CASES = ["P3", "P1", "P0", "P4", "P2"]
GENES = ["TP53", "BRCA1", "MKI67"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    for case in CASES:
        (tmp_path / "slides" / f"{case}.tiff").touch()
    ages = ["61", "old", "63", "64", "65"]  # one is no age
    pd.DataFrame({"case_id": CASES, "age": ages}).to_csv(tmp_path / "patients.csv", index=False)
    values = pd.DataFrame(
        {f"P{number}": [number + 0.5, number + 1.25, -1.0] for number in range(6)}, index=GENES
    ).drop(columns="P4")  # and one has no expression
    values.rename(columns={"P2": "P2-01A"}).to_csv(tmp_path / "matrix.csv", index_label="gene")
    values.T.to_csv(tmp_path / "rows.csv", index_label="case_id")
    return tmp_path


@pytest.mark.parametrize("name", ["matrix.csv", "rows.csv"])
def test_the_files_of_a_list_are_read_once(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, told = {}, {}
    for case in CASES:
        try:
            record = read_record(folder / "patients.csv", case)
            expected[case] = (record, read_expression(folder / name, sample=case))
        except SurvPGCError as error:
            told[case] = str(error)
    assert set(told) == {"P1", "P4"}

    read: list[str] = []
    parsed: list[list[int]] = []
    opened = tables.read_bytes
    monkeypatch.setattr(
        tables, "read_bytes", lambda path, *more: read.append(path.name) or opened(path, *more)
    )
    parse = expression_file.parse_columns
    monkeypatch.setattr(
        expression_file, "parse_columns",
        lambda path, text, delimiter, columns, **more: parsed.append(list(columns))
        or parse(path, text, delimiter, columns, **more),
    )  # fmt: skip
    monkeypatch.setattr(expression_file, "_AHEAD", 3)
    items, problems = read_batch(folder / "patients.csv", folder / "slides", folder / name)
    assert {item.case_id: (item.record, item.profile) for item in items} == expected
    assert dict(problems) == told
    assert sorted(read) == sorted(["patients.csv", "patients.csv", name])  # its ids, its records
    # Columns of the list's patients only, in its order: the gene's, those of P3, P1 and P0, then that of P2.
    assert parsed == ([[0, 4, 2, 1], [0, 3]] if name == "matrix.csv" else [])


def test_a_list_whose_expression_is_damaged_says_so_of_its_first_patient(folder: Path) -> None:
    (folder / "matrix.csv").write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(SurvPGCError, match=r"No row of patients.csv .*matrix.csv is damaged or cut short"):
        read_batch(folder / "patients.csv", folder / "slides", folder / "matrix.csv")
