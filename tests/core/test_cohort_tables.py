"""A cohort's tables are read by the names that other commands read, and by ids that belong to one patient each."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from napari_survpgc.core.cohort import Cohort, read_cohort
from napari_survpgc.core.errors import CohortError


def _cohort(folder: Path, header: str, rows: list[str], files: tuple[str, ...] = ()) -> Cohort:
    (folder / "features").mkdir(exist_ok=True)
    for name in files:
        (folder / "features" / f"{name}.h5").write_bytes(b"x")
    (folder / "patients.csv").write_text("\n".join([header, *rows]) + "\n")
    return read_cohort(folder)


def test_columns_are_known_by_the_names_that_predict_reads(tmp_path: Path) -> None:
    header = "bcr_patient_barcode,Age_at_Index,gender,ajcc_pathologic_stage,staging edition,histology,Race,survival_months,event"
    cohort = _cohort(
        tmp_path, header, ["A,50,female,Stage II,7th,x,white,3,1", "B,60,male,'--,7th,x,[Unknown],5,1"]
    )
    assert list(cohort.patients.index) == ["A", "B"]
    assert (cohort.records["A"].age, cohort.records["A"].stage) == (50.0, "Stage II")
    assert (cohort.records["B"].stage, cohort.records["B"].race) == (None, None)
    assert "The column gender was read as sex." in cohort.notes


def test_a_column_that_looks_like_a_field_and_is_none_is_named(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, "case_id,stages,survival_months,event", ["A,Stage I,3,1", "B,Stage II,5,1"])
    assert any("column stages was not used; name it stage" in note for note in cohort.notes)


def test_genes_alone_are_a_cohort(tmp_path: Path) -> None:
    pd.DataFrame({"case_id": ["A", "B"], "TP53": [0.1, 0.2]}).to_csv(tmp_path / "expression.csv", index=False)
    cohort = _cohort(tmp_path, "case_id,survival_months,event", ["A,3,1", "B,5,1"])
    assert cohort.records["A"].age is None
    assert any("no column for age, sex, stage" in note for note in cohort.notes)


def test_the_own_name_of_a_field_or_of_the_ids_goes_before_other_names(tmp_path: Path) -> None:
    header = "submitter_id,case_id,sex,gender,age,days_to_birth,survival_months,event"
    cohort = _cohort(tmp_path, header, ["u1,A,f,m,58,-100,3,1", "u2,B,m,f,60,-100,5,1"])
    assert list(cohort.patients.index) == ["A", "B"]
    assert (cohort.records["A"].sex, cohort.records["A"].age) == ("female", 58.0)
    assert "The column gender was not used, since there is a column sex." in cohort.notes


def test_several_other_names_of_one_field_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"several columns for sex \(gender, is_female\)"):
        _cohort(tmp_path, "case_id,gender,is_female,survival_months,event", ["A,f,1,3,1", "B,m,0,5,1"])


def test_a_dot_in_a_slide_id_is_no_ending(tmp_path: Path) -> None:
    rows = ["C1,A.1,3,1", "C2,A.svs,5,1"]
    with pytest.raises(CohortError, match=r"patient C1 has no features for slide A\.1"):
        _cohort(tmp_path, "case_id,slide_ids,survival_months,event", rows, ("A",))
    cohort = _cohort(tmp_path, "case_id,slide_ids,survival_months,event", rows, ("A.1",))
    assert [file.name for file in cohort.features["C1"]] == ["A.1.h5"]


def test_two_spellings_of_one_slide_are_one_slide(tmp_path: Path) -> None:
    cohort = _cohort(
        tmp_path, "case_id,slide_ids,survival_months,event", ["C1,A;A.svs,3,1", "C2,,5,1"], ("A",)
    )
    assert len(cohort.features["C1"]) == 1
    with pytest.raises(CohortError, match="belongs to the patients C1 and C2"):
        _cohort(tmp_path, "case_id,slide_ids,survival_months,event", ["C1,A,3,1", "C2,A.SVS,5,1"])


def test_months_with_a_decimal_comma_are_read_and_said(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, "case_id;age;survival_months;event", ["A;58,5;3,25;1", "B;60;5;0", "C;61;7;1"])
    assert cohort.patients["survival_months"].tolist() == [3.25, 5.0, 7.0]
    assert cohort.records["A"].age == 58.5
    assert "decimal sign" in cohort.notes[0]


def _with_expression(folder: Path, text: str) -> Cohort:
    (folder / "expression.csv").write_text(text)
    return _cohort(folder, "case_id,survival_months,event", ["A,3,1", "B,5,1"])


@pytest.mark.parametrize(
    "text", ["case_id,TP53,EGFR,\nA,0.5,1,\nB,0.25,2,\n", "case_id;TP53;EGFR\nA;0,5;1\nB;0,25;2\n"]
)
def test_an_expression_table_as_a_spreadsheet_saves_it_is_read(tmp_path: Path, text: str) -> None:
    expression = _with_expression(tmp_path, text).expression
    assert list(expression.columns) == ["TP53", "EGFR"]
    assert expression.to_numpy().tolist() == [[0.5, 1.0], [0.25, 2.0]]


def test_an_expression_table_whose_rows_are_longer_than_its_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"Line 2 of expression\.csv has 3 cells where the first has 2"):
        _with_expression(tmp_path, "TP53,EGFR\nA,0.5,1\nB,0.25,2\n")
