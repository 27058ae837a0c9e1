"""JSON documents: what is written comes back, what is wrong is named by its place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_survpgc.core import documents
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.output.prediction_json import PredictionDocument, read_prediction_json
from napari_survpgc.core.types import Attribution, ClinicalRecord


class Stain(StrEnum):
    HE = "h&e"
    IHC = "ihc"


@dataclass(frozen=True)
class Slide:
    name: str
    n_patches: int
    stain: Stain = Stain.HE

    def __post_init__(self) -> None:
        if self.n_patches < 0:
            raise ValueError("has fewer patches than none")


@documents.leaves_out("note")
@dataclass(frozen=True, kw_only=True)
class Case:
    slides: Mapping[str, Slide]
    edges: tuple[tuple[float, ...], ...]
    note: str | None = None
    place: str | None = None
    done: bool = False
    free: Mapping[str, Any] = field(default_factory=dict)


GOOD: dict[str, Any] = {
    "slides": {"a": {"name": "A", "n_patches": 3, "stain": "ihc"}},
    "edges": [[0, 1.5], [0, 2]],
}


def test_a_document_comes_back_as_it_was_and_a_later_key_is_passed_over() -> None:
    case = documents.structure({**GOOD, "weather": "fine"}, Case)
    assert case == Case(slides={"a": Slide("A", 3, Stain.IHC)}, edges=((0, 1.5), (0, 2)))
    assert isinstance(case.slides["a"].stain, Stain)
    assert documents.unstructure(case) == {**GOOD, "place": None, "done": False, "free": {}}
    assert documents.structure(documents.parse(documents.dump(case)), Case) == case


def test_what_is_left_out_stands_in_its_place_when_it_is_there() -> None:
    case = Case(slides={}, edges=(), note="seen")
    assert list(documents.unstructure(case)) == ["slides", "edges", "note", "place", "done", "free"]


def test_numbers_of_numpy_paths_and_choices_become_plain() -> None:
    free = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "row": np.arange(2),
        "p": Path("a"),
        "stain": Stain.HE,
        "t": (1, True),
    }
    case = Case(slides={"a": Slide("A", np.int64(3))}, edges=((np.float64(0),),), free=free)  # type: ignore[arg-type]
    found = json.loads(documents.dump(case))
    assert found["free"] == {"n": 3, "x": 0.5, "row": [0, 1], "p": "a", "stain": "h&e", "t": [1, True]}
    assert found["slides"]["a"]["n_patches"] == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_neither_written_nor_read(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        documents.dump(Case(slides={}, edges=(), free={"x": value}))
    with pytest.raises(documents.DocumentError, match="is no number"):
        documents.parse(json.dumps({"x": value}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slides": []}, "slides has another form than it should have"),
        ({"slides": {"a": {"name": 3, "n_patches": 3}}}, "slides['a'].name is 3, not a text"),
        ({"slides": {"a": {"name": "A"}}}, "slides['a'].n_patches is missing"),
        ({"slides": {"a": {"name": "A", "n_patches": 2.5}}}, "slides['a'].n_patches is 2.5, not a whole number"),
        ({"slides": {"a": {"name": "A", "n_patches": True}}}, "slides['a'].n_patches is true, not a whole number"),
        ({"slides": {"a": {"name": "A", "n_patches": -1}}}, "slides['a'] has fewer patches than none"),
        ({"slides": {"a": {"name": "A", "n_patches": 1, "stain": "pas"}}}, "is \"pas\", not one of h&e, ihc"),
        ({"edges": [[0], [float("inf")]]}, "edges[1][0] is inf, not a finite number"),
        ({"edges": ["01"]}, 'edges[0] is "01", not a list'),
        ({"done": 1}, "done is 1, not true or false"),
        ({"place": "x" * 99, "note": ["y" * 99]}, "not a text"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_by_its_place(change: dict[str, Any], said: str) -> None:
    with pytest.raises(documents.DocumentError) as error:
        documents.structure({**GOOD, **change}, Case)
    assert said in str(error.value)
    assert len(str(error.value)) < 120


RESULT = PredictionDocument(
    risk=-2.5, risk_percentile=40.0, risk_group="intermediate", hazards=(0.1, 0.2), survival=(0.9, 0.72),
    bin_edges_months=(0.0, 12.0, 60.0), fold_risks=(-2.5,), fold_survival=((0.9, 0.72),),
    attribution=Attribution({"clinic": 0.1}, {"clinic:age": 0.2}, {"paths": 0.0}), bundle={"name": "demo", "later": [1]},
    encoders={"clinic": "minilm"}, slide={"n_patches": 9, "name": "a.svs", "mpp": None}, device="cpu",
    clinical=ClinicalRecord(age=60.5, sex="female"), sentences=("The age is 60.5.",), warnings=(), version="0.2.0",
    notice="research",
)  # fmt: skip


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "prediction.json"
    path.write_text(documents.dump(RESULT))
    assert read_prediction_json(path) == RESULT
    assert "slides" not in json.loads(path.read_text())
    assert RESULT.slide_names == ("a.svs",)
    alone = dataclasses.replace(RESULT, slide={"n_patches": 9}, attribution=None, clinical=None)
    path.write_text(documents.dump(alone))
    assert read_prediction_json(path) == alone
    assert alone.slide_names == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"risk": "high"}, 'risk is "high"'),
        ({"slide": {"name": "a.svs"}}, "slide.n_patches is missing"),
        ({"slides": [{"name": "a"}]}, "slides[0]"),
        ({"clinical": {"age": 400}}, "clinical"),
        (None, "not valid JSON"),
    ],
)
def test_a_damaged_result_is_one_sentence_that_names_the_file(
    tmp_path: Path, change: dict[str, Any] | None, said: str
) -> None:
    path = tmp_path / "prediction.json"
    whole = documents.dump(RESULT)
    path.write_text(whole[:50] if change is None else json.dumps({**json.loads(whole), **change}))
    with pytest.raises(CohortError) as error:
        read_prediction_json(path)
    assert said in error.value.problem
    assert str(path) in error.value.problem
    with pytest.raises(CohortError, match="cannot be read"):
        read_prediction_json(tmp_path / "none.json")
