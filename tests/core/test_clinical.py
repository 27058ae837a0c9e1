"""A record is read leniently, refused clearly, and said in six sentences."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from napari_survpgc.core.clinical.record import VOCABULARY, field_warnings, parse_record, unknown_fields
from napari_survpgc.core.clinical.record_file import read_record
from napari_survpgc.core.clinical.sentences import clinical_tokens, load_templates, sentences
from napari_survpgc.core.encoders.catalog import load_text_encoder
from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

FULL = {
    "age": "58",
    "sex": "F",
    "stage": "stage iii a",
    "staging_edition": "AJCC 7th edition",
    "subtype": " Hepatocellular\ncarcinoma ",
    "race": "white",
}


def test_spellings_become_canonical() -> None:
    record = parse_record(FULL)
    assert record == ClinicalRecord(58.0, "female", "Stage IIIA", "7th", "Hepatocellular carcinoma", "white")


@pytest.mark.parametrize("spelling", ["IIIA", "3a", "Stage IIIA", "STAGE iiia", "pathologic stage IIIA"])
def test_stages_are_recognized(spelling: str) -> None:
    assert parse_record({"stage": spelling}).stage == "Stage IIIA"


@pytest.mark.parametrize(
    "blank", ["", " ", "unknown", "Not Reported", "[Not Available]", "Stage X", "NA", None, float("nan")]
)
def test_blanks_mean_unknown(blank: object) -> None:
    assert unknown_fields(parse_record(dict.fromkeys(CLINICAL_FIELDS, blank))) == CLINICAL_FIELDS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"age": 430}, "age is 430, outside 0 to 120"),
        ({"age": -1}, "outside 0 to 120"),
        ({"age": "old"}, "not a number of years"),
        ({"stage": "Stage V"}, "stage is 'Stage V'"),
        ({"stage": "IVD"}, "IVD"),
        ({"staging_edition": "12th"}, "1st to 9th"),
        ({"sex": "unsure!"}, "not female or male"),
        ({"sexx": "F"}, "did you mean sex"),
        ({"subtype": "x" * 500}, "longer than"),
        ({"race": {"a": 1}}, "not a text"),
    ],
)
def test_nonsense_is_refused_in_a_clinicians_words(values: dict[str, object], message: str) -> None:
    with pytest.raises(ClinicalError, match=message):
        parse_record(values)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ClinicalError, match=r"430.*Stage V"):
        parse_record({"age": 430, "stage": "Stage V"})


def test_the_error_carries_the_fields_that_are_wrong_and_keeps_them_in_a_pickle() -> None:
    with pytest.raises(ClinicalError) as caught:
        parse_record({"age": "race", "stage": "Stage V", "gender": "F", "sex": "M", "height": 180})
    assert caught.value.fields == ("sex", "age", "stage")
    back = pickle.loads(pickle.dumps(caught.value))
    assert (back.fields, str(back)) == (caught.value.fields, str(caught.value))


def test_json_csv_and_tables_give_the_same_record(tmp_path: Path) -> None:
    want = parse_record(FULL)
    (tmp_path / "r.json").write_text("\ufeff" + json.dumps(FULL), encoding="utf-8")
    head, row = ";".join(FULL), ";".join(v.replace("\n", " ") for v in FULL.values())
    (tmp_path / "r.csv").write_text(f"{head}\n{row}\n")
    (tmp_path / "t.csv").write_text(f"case_id;{head}\nA;{row}\nB;{row.replace('58', '60')}\n")
    assert read_record(tmp_path / "r.json") == want
    assert read_record(tmp_path / "r.csv") == want
    assert read_record(tmp_path / "t.csv", "A") == want
    assert read_record(tmp_path / "t.csv", "B").age == 60


@pytest.mark.parametrize(
    ("content", "case", "message"),
    [
        ("case_id,age\nA,1\nB,2\n", None, "holds 2 patients.*--case"),
        ("case_id,age\nA,1\nB,2\n", "C", "no case C"),
        ("case_id,age\nA,1\nA,2\n", "A", "different rows"),
        ("name,height\nA,1\n", None, "none of the columns"),
        ("age\n", None, "holds no patient"),
        ("{", None, "not valid JSON"),
        ("[1]", None, "holds no patient"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, content: str, case: str | None, message: str) -> None:
    (tmp_path / "c.csv").write_text(content)
    with pytest.raises(ClinicalError, match=rf"c\.csv.*({message})"):
        read_record(tmp_path / "c.csv", case)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(ClinicalError, match="not a text file"):
        read_record(tmp_path / "b.csv")
    with pytest.raises(ClinicalError, match="cannot be read"):
        read_record(tmp_path / "none.csv")


def test_unknown_is_said_so() -> None:
    templates = load_templates()
    said = sentences(parse_record({"age": 58, "stage": "II"}), templates)
    assert said[0] == "58 years old."
    assert said[2] == "Stage II cancer."
    assert all("unknown" in said[i] for i in (1, 3, 4, 5))


def test_twenty_wordings_a_field_for_the_template_study() -> None:
    templates = load_templates("synonyms")
    assert templates.n_variants == 20
    said = {sentences(parse_record(FULL), templates, variant) for variant in range(20)}
    assert len(said) == 20
    assert sentences(parse_record(FULL), templates, 20) == sentences(parse_record(FULL), templates, 0)
    assert sentences(parse_record(FULL), templates, [1, 0, 0, 0, 0, 0])[0] == "Age: 58 years."


@pytest.mark.parametrize("text", ["age = 1", "[age]\nknown = ['no place']\nunknown = 'x'", "[age\n"])
def test_unusable_templates_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ClinicalError, match=r"t\.toml"):
        load_templates(str(tmp_path / "t.toml"))


def test_the_wording_keeps_the_values_apart() -> None:
    """Long sentences drown the value; the default wording spreads stages and ages well."""
    encoder, templates = load_text_encoder("minilm", "cpu"), load_templates()
    rows = [
        clinical_tokens(parse_record({"stage": s}), encoder, templates).embeddings
        for s in VOCABULARY["stage"]
    ]
    stages = np.stack(rows)[:, 2]
    assert 1 - (stages @ stages.T).mean() > 0.12
    np.testing.assert_allclose(np.linalg.norm(stages, axis=1), 1, atol=1e-5)


def test_an_old_staging_edition_is_pointed_out() -> None:
    assert "when the patient was diagnosed" in field_warnings(parse_record({"staging_edition": "4"}))[0]
    assert field_warnings(parse_record({"staging_edition": "8"})) == ()


def test_every_real_patient_can_be_read(shared_dir: Path) -> None:
    import pandas as pd

    for cohort in ("lihc", "brca"):
        table = pd.read_csv(shared_dir / "tcga" / cohort / "patients.csv", dtype=str, keep_default_na=False)
        records = [parse_record({f: row[f] for f in CLINICAL_FIELDS}) for _, row in table.iterrows()]
        assert len(records) == len(table)
        assert np.mean([r.stage is not None for r in records]) > 0.9
