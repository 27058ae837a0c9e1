"""Records as numbers: levels and scales of the training patients, and nothing about anyone else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_survpgc.core import documents
from napari_survpgc.core.clinical.encoding import ClinicalEncoding, fit_encoding, stage_group
from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.types import ClinicalRecord

TRAIN = (
    ClinicalRecord(age=50, sex="female", stage="Stage I", subtype="Lobular carcinoma"),
    ClinicalRecord(age=70, sex="male", stage="Stage IIIC", subtype="Lobular carcinoma"),
    ClinicalRecord(age=60, sex="female", stage=None, subtype="Lobular carcinoma"),
)


def test_levels_and_scales_are_those_of_the_training_patients() -> None:
    encoding = fit_encoding(TRAIN)
    assert encoding.columns == (
        "age", "sex=female", "sex=male", "stage=Stage I", "stage=Stage IIIC", "stage unknown", "subtype=Lobular carcinoma",
    )  # fmt: skip
    rows = np.stack([encoding.encode(record) for record in TRAIN])
    np.testing.assert_allclose(rows[:, 0], [-1.2247449, 1.2247449, 0], rtol=1e-6)
    assert rows[0, 1:].tolist() == [1, 0, 1, 0, 0, 1]
    assert rows[2, 1:].tolist() == [1, 0, 0, 0, 1, 1]


def test_an_unseen_level_is_nothing_and_is_told() -> None:
    encoding = fit_encoding(TRAIN)
    stranger = ClinicalRecord(age=60, sex="male", stage="Stage IVB", subtype="Mucinous adenocarcinoma")
    assert encoding.encode(stranger).tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert encoding.unseen(stranger) == ("stage", "subtype")
    assert encoding.unseen(TRAIN[2]) == ()


def test_stage_is_ordered_by_its_group_not_by_the_alphabet() -> None:
    stages = ["Stage I", "Stage IIC", "Stage III", "Stage IIIA", "Stage IVC"]
    assert [stage_group(stage) for stage in stages] == [1, 2, 3, 3, 4]
    encoding = fit_encoding(TRAIN, ("stage",), ordinal_stage=True)
    assert encoding.columns == ("stage", "stage unknown")
    assert encoding.encode(TRAIN[0]).tolist() == [-1, 0]
    assert encoding.encode(TRAIN[2]).tolist() == [0, 1]
    # A stage that nobody had still has its place on the scale.
    assert encoding.encode(ClinicalRecord(stage="Stage IVA")).tolist() == [2, 0]


def test_an_encoding_survives_its_file_and_a_wrong_one_does_not() -> None:
    encoding = fit_encoding(TRAIN)
    document = documents.parse(documents.dump(encoding))
    assert documents.structure(document, ClinicalEncoding) == encoding
    for key, value in (
        ("scales", {"age": {"mean": 1, "sd": 0}}),
        ("scales", {"sex": {"mean": 1, "sd": 1}}),
        ("levels", {"height": ["tall"]}),
        ("unknown", ["height"]),
    ):
        with pytest.raises(ValueError, match=r"encoding|number"):
            documents.structure({**document, key: value}, ClinicalEncoding)


def test_fields_that_do_not_exist_or_are_never_known_are_refused() -> None:
    with pytest.raises(ClinicalError, match="no clinical field 'height'"):
        fit_encoding(TRAIN, ("height",))
    with pytest.raises(ClinicalError, match="No training patient has a known"):
        fit_encoding(TRAIN, ("race",))


def test_rare_levels_share_a_column_or_have_none() -> None:
    common = [ClinicalRecord(age=50, sex="female", race="White", stage="Stage I")] * 20
    rare = [ClinicalRecord(age=50, sex="male", race=race) for race in ("Asian", "Asian", "Black", "Other")]
    encoding = fit_encoding([*common, *rare], rarest=4)
    assert encoding.columns == (
        "age", "sex=female", "sex=male", "stage=Stage I", "stage unknown", "race=White", "race=other levels",
    )  # fmt: skip
    assert encoding.encode(rare[0])[-1] == encoding.encode(rare[3])[-1] == 1
    assert encoding.unseen(rare[2]) == ()
    few = fit_encoding([*common, *rare[:3]], rarest=4)
    assert few.columns == ("age", "sex=female", "stage=Stage I", "race=White")  # 3 of anything are too few
    assert few.encode(rare[0])[1:].tolist() == [0, 0, 0]
    assert few.unseen(rare[0]) == ()
    for one in (encoding, few, fit_encoding(TRAIN)):
        assert documents.structure(documents.parse(documents.dump(one).encode()), ClinicalEncoding) == one
    assert "pooled" not in documents.unstructure(fit_encoding(TRAIN))  # as earlier versions wrote it
