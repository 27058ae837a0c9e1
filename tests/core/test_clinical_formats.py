"""Clinical tables of the GDC, BCR, cBioPortal, Xena, SurvPath and PORPOISE are read by their own names and ids."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.clinical.record_file import RecordFile, list_cases, read_record
from napari_survpgc.core.cohort import read_cohort
from napari_survpgc.core.errors import ClinicalError, CohortError, LongFollowUpError
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

UUID = "0a1b2c3d-0000-4000-8000-00000000000"
WANT = ClinicalRecord(58.0, "female", "Stage IIB", "7th", "Infiltrating duct carcinoma", "white")


def _file(folder: Path, name: str, rows: list[str], sign: str = "\t") -> Path:
    path = folder / name
    text = "\n".join(row.replace("|", sign) for row in rows) + "\n"
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith("gz") else text.encode())
    return path


DOTTED = (
    "project.project_id|cases.case_id|cases.submitter_id|demographic.age_at_index|demographic.days_to_birth|"
    "demographic.sex_at_birth|demographic.race|demographic.vital_status|diagnoses.age_at_diagnosis|"
    "diagnoses.ajcc_clinical_stage|diagnoses.ajcc_pathologic_stage|diagnoses.ajcc_staging_system_edition|"
    "diagnoses.diagnosis_is_primary_disease|diagnoses.primary_diagnosis|treatments.treatment_type"
)
ROW = "TCGA-BRCA|{u}|TCGA-AB-{n}|58|-21300|female|white|Alive|21300|'--|{stage}|7th|{primary}|Infiltrating duct carcinoma|{t}"


def _gdc(header: str) -> list[str]:
    return [
        header,
        ROW.format(u=UUID + "1", n="0001", stage="Stage IIB", primary="true", t="Chemotherapy"),
        ROW.format(u=UUID + "1", n="0001", stage="Stage IIB", primary="true", t="Radiation"),
        ROW.format(u=UUID + "1", n="0001", stage="Stage IV", primary="false", t="'--"),
        ROW.format(u=UUID + "2", n="0002", stage="'--", primary="true", t="'--"),
    ]


def _bare(header: str) -> str:
    names = header.replace("cases.submitter_id", "case_submitter_id").replace("sex_at_birth", "gender")
    return "|".join(name.split(".")[-1] for name in names.split("|"))


@pytest.mark.parametrize("header", [DOTTED, _bare(DOTTED)], ids=["dotted", "bare"])
def test_clinical_tsv_of_the_gdc_gives_the_primary_diagnosis_by_either_id(
    tmp_path: Path, header: str
) -> None:
    file = RecordFile(_file(tmp_path, "clinical.tsv", _gdc(header)))
    assert file.cases == ("TCGA-AB-0001", "TCGA-AB-0002")
    for case in ("TCGA-AB-0001", UUID + "1", "TCGA-AB-0001-01A", "TCGA.AB.0001"):
        assert file.record(case) == WANT
    assert file.record("TCGA-AB-0002").stage is None
    assert any("days_to_birth was not used" in note for note in file.notes)
    with pytest.raises(ClinicalError, match="no case TCGA-AB-000"):
        file.record("TCGA-AB-000")


def test_diagnoses_that_contradict_each_other_are_not_decided(tmp_path: Path) -> None:
    rows = [row.replace("|false|", "|true|") for row in _gdc(DOTTED)]
    with pytest.raises(ClinicalError, match=r"different rows for TCGA-AB-0001 \(stage: Stage IIB, Stage IV"):
        read_record(_file(tmp_path, "clinical.tsv", rows), "TCGA-AB-0001")


def test_the_nested_json_of_the_gdc_is_the_same(tmp_path: Path) -> None:
    def diagnosis(stage: str, primary: bool) -> dict[str, object]:
        return {
            "ajcc_pathologic_stage": stage,
            "ajcc_staging_system_edition": "7th",
            "age_at_diagnosis": 21300,
            "primary_diagnosis": "Infiltrating duct carcinoma",
            "diagnosis_is_primary_disease": primary,
            "treatments": [{"treatment_type": "Chemotherapy"}],
        }

    case = {
        "case_id": UUID + "1",
        "submitter_id": "TCGA-AB-0001",
        "demographic": {"age_at_index": 58, "gender": "female", "race": "white", "submitter_id": "x_demo"},
        "diagnoses": [diagnosis("Stage IV", False), diagnosis("Stage IIB", True)],
    }
    other = case | {"case_id": UUID + "2", "submitter_id": "TCGA-AB-0002"}
    for document in ([case, other], {"data": {"hits": [case, other]}}):
        path = tmp_path / "clinical.json"
        path.write_text(json.dumps(document))
        assert list_cases(path) == ("TCGA-AB-0001", "TCGA-AB-0002")
        assert read_record(path, "TCGA-AB-0001") == WANT
    path.write_text(json.dumps(case))
    assert read_record(path) == WANT


def test_the_further_headers_of_biotab_are_no_patients(tmp_path: Path) -> None:
    names = "bcr_patient_uuid|bcr_patient_barcode|gender|birth_days_to|race|age_at_diagnosis|ajcc_pathologic_tumor_stage|ajcc_staging_edition|histological_type"
    rows = [
        names,
        names.replace("birth_days_to", "days_to_birth"),
        "CDE_ID:|CDE_ID:2003301|CDE_ID:2200604|CDE_ID:3008233|CDE_ID:2192199|CDE_ID:1|CDE_ID:2|CDE_ID:3|CDE_ID:4",
        f"{UUID}1|TCGA-AB-0001|FEMALE|-21300|WHITE|58|Stage IIB|7th|Infiltrating duct carcinoma",
        f"{UUID}2|TCGA-AB-0002|MALE|[Not Available]|[Unknown]|[Not Applicable]|[Discrepancy]|[Completed]|[Not Evaluated]",
    ]
    file = RecordFile(_file(tmp_path, "nationwidechildrens.org_clinical_patient_brca.txt", rows))
    assert file.cases == ("TCGA-AB-0001", "TCGA-AB-0002")
    assert file.record("TCGA-AB-0001") == ClinicalRecord(**{**WANT.__dict__, "race": "WHITE"})
    assert file.record("TCGA-AB-0002") == ClinicalRecord(sex="male")
    assert any("2 further header rows" in note for note in file.notes)


@pytest.mark.parametrize("comments", [4, 1, 0])
def test_cbioportals_patients_are_read_behind_any_number_of_comments(tmp_path: Path, comments: int) -> None:
    rows = [f"#{word}|x|x|x|x|x|x|x" for word in ("Patient Identifier", "id", "STRING", "1")][:comments]
    rows += ["PATIENT_ID|AGE|SEX|AJCC_PATHOLOGIC_TUMOR_STAGE|AJCC_STAGING_EDITION|SUBTYPE|RACE|PATH_T_STAGE"]
    rows += ["TCGA-AB-0001|58|Female|STAGE IIB|7TH|BRCA_LumA|White|T2", "TCGA-AB-0002|||STAGE X||||"]
    file = RecordFile(_file(tmp_path, "data_clinical_patient.txt", rows))
    assert file.record("TCGA-AB-0001-01") == ClinicalRecord(
        58, "female", "Stage IIB", "7th", "BRCA_LumA", "White"
    )
    assert any("similar to a clinical field by name: PATH_T_STAGE" in note for note in file.notes)


def test_xenas_table_of_samples_is_one_of_patients(tmp_path: Path) -> None:
    rows = [
        "sample|submitter_id|age_at_index.demographic|gender.demographic|race.demographic|ajcc_pathologic_stage.diagnoses|ajcc_staging_system_edition.diagnoses|primary_diagnosis.diagnoses|sample_type.samples"
    ]
    values = "58|female|white|['Stage IIB', 'Stage IIB']|['7th']|Infiltrating duct carcinoma"
    rows += [f"TCGA-AB-0001-01A|TCGA-AB-0001|{values}|Primary Tumor"]
    rows += [f"TCGA-AB-0001-11A|TCGA-AB-0001|{values}|Solid Tissue Normal"]
    path = _file(tmp_path, "TCGA-BRCA.clinical.tsv.gz", rows)
    assert read_record(path) == WANT
    for case in ("TCGA-AB-0001", "TCGA-AB-0001-01A"):
        assert read_record(path, case) == WANT
    two = [rows[0], rows[1].replace("['Stage IIB', 'Stage IIB']", "['Stage I', 'Stage IV']")]
    with pytest.raises(ClinicalError, match=r"stage has several values \(Stage I, Stage IV\)"):
        read_record(_file(tmp_path, "two.tsv", two))


def test_survpaths_and_porpoises_metadata_are_read(tmp_path: Path) -> None:
    rows = [",case_id,slide_id,site,is_female,oncotree_code,age,survival_months,censorship,TP53_mut"]
    rows += ["0,TCGA-AB-0001,TCGA-AB-0001-01Z.svs,AB,1.0,IDC,58,12.5,0,1"]
    rows += ["1,TCGA-AB-0001,TCGA-AB-0001-02Z.svs,AB,1.0,IDC,58,12.5,0,1"]
    rows += ["2,TCGA-AB-0002,TCGA-AB-0002-01Z.svs,AB,0.0,ILC,61,30,1,0"]
    file = RecordFile(_file(tmp_path, "tcga_brca_all_clean.csv", rows, ","))
    assert file.record("TCGA-AB-0001") == ClinicalRecord(age=58, sex="female", subtype="IDC")
    assert file.record("TCGA-AB-0002").sex == "male"
    assert "The column is_female was read as sex." in file.notes
    single = [rows[0], rows[1], rows[3], rows[3].replace("0002", "0003").replace(",1,0", ",0,0")]
    cohort = read_cohort(_file(tmp_path, "patients.csv", single, ",").parent)
    assert cohort.patients["event"].tolist() == [1, 0, 1]
    assert any("censorship (1 = censored) was read the other way round" in note for note in cohort.notes)


def test_cbioportals_outcome_is_read_in_a_cohort(tmp_path: Path) -> None:
    rows = ["PATIENT_ID,OS_MONTHS,OS_STATUS", "A,3.5,1:DECEASED", "B,9,0:LIVING", "C,4,1:DECEASED"]
    cohort = read_cohort(_file(tmp_path, "patients.csv", rows, ",").parent)
    assert cohort.patients["survival_months"].tolist() == [3.5, 9, 4]
    assert cohort.patients["event"].tolist() == [1, 0, 1]
    _file(tmp_path, "patients.csv", [*rows, "D,5,maybe"], ",")
    with pytest.raises(CohortError, match="patient D has no usable event"):
        read_cohort(tmp_path)


def test_follow_up_of_more_than_400_months_is_asked_about(tmp_path: Path) -> None:
    rows = ["case_id,survival_months,event", "A,365,1", "B,1200,0", "C,90,1"]
    _file(tmp_path, "patients.csv", rows, ",")
    with pytest.raises(LongFollowUpError, match=r"is 1200 months \(100 years\).*30.4375.*--long-follow-up"):
        read_cohort(tmp_path)
    assert read_cohort(tmp_path, long_follow_up=True).patients["survival_months"].max() == 1200
    _file(tmp_path, "patients.csv", [row.replace("1200", "400") for row in rows], ",")
    assert read_cohort(tmp_path).patients["survival_months"].max() == 400


@pytest.mark.parametrize(
    ("values", "age"),
    [
        ({"age_in_days": "21185"}, 58.0),
        ({"days_to_birth": -9999}, 27.4),
        ({"AGE_AT_DX": "58,5"}, 58.5),
        ({"age": "58 years"}, 58.0),
        ({"age": -99}, None),
        ({"age": "999"}, None),
    ],
)
def test_ages_in_days_and_years_and_codes_for_none(values: dict[str, object], age: float | None) -> None:
    found = parse_record(values).age
    assert found == (None if age is None else pytest.approx(age, abs=0.05))


def test_an_age_at_diagnosis_is_in_days_for_all_where_one_is(tmp_path: Path) -> None:
    path = _file(tmp_path, "t.csv", ["case_id,age_at_diagnosis", "A,100", "B,21185"], ",")
    assert read_record(path, "A").age == pytest.approx(0.27, abs=0.01)  # an infant, not a centenarian
    with pytest.raises(ClinicalError, match="if these are days, name the column age_in_days"):
        parse_record({"age": 21185})


@pytest.mark.parametrize("field", CLINICAL_FIELDS)
@pytest.mark.parametrize(
    "word",
    ["not_reported", "Not-Reported", "(unknown)", "[Not Evaluated]", "Unknown/Not Reported", "-99", "n.d."],
)
def test_further_words_and_codes_for_no_value(field: str, word: str) -> None:
    assert getattr(parse_record({field: word}), field) is None


def test_a_column_without_values_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    rows = ["case_id,ajcc_pathologic_stage,figo_stage", "A,'--,Stage IIIC", "B,'--,Stage I"]
    file = RecordFile(_file(tmp_path, "ov.csv", rows, ","))
    assert file.record("A").stage == "Stage IIIC"
    assert "The column figo_stage was read as stage." in file.notes
