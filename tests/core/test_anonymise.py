"""A copy of results that names nobody."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_survpgc.commands import anonymise as command
from napari_survpgc.core.errors import CohortError, OutputError
from napari_survpgc.core.features.feature_file import write_features
from napari_survpgc.core.files import write_table
from napari_survpgc.core.jobs.anonymise import anonymise
from napari_survpgc.core.jobs.one_patient import predict_case
from napari_survpgc.core.jobs.pseudonyms import LEFT_OUT, Pseudonyms, age
from napari_survpgc.core.jobs.results_folder import read_results
from napari_survpgc.core.output.case_file import load_case
from napari_survpgc.core.tissue.geojson import write_geojson
from napari_survpgc.core.types import (
    Case,
    ClinicalRecord,
    ExpressionProfile,
    ExpressionUnit,
    JobOptions,
    PatchFeatures,
    PatchGrid,
    Polygon,
    TissueMask,
)
from tests.builders import GENES, tiny_bundle, tissue_image, write_tiff

NAMES = [
    "MRN-77123", "MRN-88456", "Doe_Jane-H24-117", "H24-118-block2", "H24-119", "S-9981-T", "jane_expression", "free.note",
    "secret-region", "2024-03-17", "hiddenpng", "hiddenh5", "Dr. Who",
]  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients, one with two slides, as a list leaves them; with what people and other tools add."""
    folder = tmp_path_factory.mktemp("clinic-of-dr-who")
    bundle = tiny_bundle(folder / "bundle")
    slides = [
        write_tiff(folder / f"{name}.tiff", tissue_image(900, 900, i)) for i, name in enumerate(NAMES[2:5])
    ]
    profile = ExpressionProfile(
        dict.fromkeys(GENES, 1.0), ExpressionUnit.ZSCORE, True, NAMES[5], f"{NAMES[6]}.csv", ("read",)
    )
    record = ClinicalRecord(age=93.0, sex="female", stage="Stage II")
    out = folder / "batch"
    options = JobOptions("cpu", attribution=False)
    given = [_features(folder / f"{i}.h5", i) for i in range(3)]
    predict_case(
        Case(NAMES[0], (slides[0],), record, profile, (given[0],)), bundle, out / NAMES[0], options=options
    )
    predict_case(
        Case(NAMES[1], tuple(slides[1:]), replace(record, age=50.0), None, tuple(given[1:])),
        bundle,
        out / NAMES[1],
        options=options,
    )
    write_table(
        out / "risks.csv",
        pd.DataFrame(
            {
                "case_id": NAMES[:2], "slide_ids": [NAMES[2], ";".join(NAMES[3:5])], "risk": [-1.5, -2.0], "age": [93, 50],
                "sex": "female", "date_of_birth": "2024-03-17", "phone": 5551234567, "stage": ["Stage II", "free.note"],
            }
        ),
    )  # fmt: skip
    write_table(
        out / "failed.csv",
        pd.DataFrame({"case_id": ["MRN-99999"], "reason": ["/data/Dr. Who/x.svs is damaged"]}),
    )
    write_table(
        out / "patients.csv",
        pd.DataFrame({"case_id": NAMES[:2], "survival_months": [5.0, 6.0], "event": [1, 0]}),
    )
    one = out / NAMES[0]
    (one / "Dr. Who.txt").write_text("free.note")
    (one / "features").mkdir()
    (one / "features" / f"{NAMES[2]}.h5").touch()
    document = json.loads((one / "prediction.json").read_text())
    document["warnings"] += [
        f"The slide {NAMES[2]}.tiff was scanned twice",
        "Few patches were found",
        "Made on 2024-03-17",
    ]
    document["expression_sample"] = NAMES[5]
    document["regions"] = [{"name": "secret-region", "class": "Tumor", "share": 0.5}]
    document["later"] = "free.note"
    (one / "prediction.json").write_text(json.dumps(document))
    info = PngInfo()
    info.add_text("Comment", "hiddenpng 2024-03-17")
    for picture in (one / "heatmap_clinic.png", next((one / "top_clinic").glob("rank_01*"))):
        Image.open(picture).save(picture, pnginfo=info)
    with h5py.File(one / "attention.h5", "a") as file:
        file.attrs["path"] = "/home/hiddenh5"
        file["coords"].attrs["name"] = "hiddenh5"
        file["hiddenh5"] = np.zeros(3)
    ring = np.array([[0.0, 0.0], [700.0, 0.0], [700.0, 700.0]])
    write_geojson(TissueMask((Polygon(ring),), (900, 900), "found"), one / "tissue.geojson")
    outlines = json.loads((one / "tissue.geojson").read_text())
    outlines["features"][0] |= {"id": "free.note"}
    outlines["features"][0]["properties"] |= {"name": "Dr. Who", "metadata": {"who": NAMES[0]}}
    (one / "tissue.geojson").write_text(json.dumps(outlines))
    return out


def _features(path: Path, seed: int) -> Path:
    place = np.arange(9)
    coords = np.stack([place % 3 * 256, place // 3 * 256], 1).astype(np.int32)
    rows = np.random.default_rng(seed).normal(size=(9, 1280)).astype(np.float32)
    grid = PatchGrid(coords, 256, 0.5, 256.0, (900, 900))
    write_features(PatchFeatures(rows, grid, "efficientnet-lite0", np.zeros((0, 2), np.int32), None), path)
    return path


@pytest.fixture(scope="module")
def copy(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("given") / "away"
    options = type("Options", (), {"results": results, "out": out, "key": out.parent / "key.csv"})()
    assert command.run(options) == 0
    return out


def _strings_of(path: Path) -> str:
    found: list[str] = []

    def look(name: str, node: h5py.Dataset | h5py.Group) -> None:
        found.extend([name, *(f"{key} {value}" for key, value in node.attrs.items())])
        if isinstance(node, h5py.Dataset) and node.dtype.kind == "O":
            found.append(str(node[()]))

    with h5py.File(path) as file:
        found += [f"{key} {value}" for key, value in file.attrs.items()]
        file.visititems(look)
    return "\n".join(found)


def test_nothing_of_the_originals_is_in_the_copy(results: Path, copy: Path) -> None:
    prints = re.findall(
        r'"fingerprint": "([0-9a-f]{40,})"', (results / NAMES[0] / "prediction.json").read_text()
    )
    model = json.loads((results / NAMES[0] / "prediction.json").read_text())["bundle"]["fingerprint"]
    wanted = [
        *NAMES,
        "MRN",
        "99999",
        "H24",
        "Doe",
        "jane",
        "who",
        "5551234567",
        *{*prints} - {model},
        str(results.parent),
    ]
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        content = path.read_bytes().lower()
        text = (_strings_of(path) if path.suffix in (".h5", ".survpgc") else "").lower()
        place = path.relative_to(copy).as_posix().lower()
        for name in wanted:
            alone = re.compile(rb"(?<!\w)" + re.escape(name.lower().encode()) + rb"(?!\w)")
            if len(name) > 5 or path.suffix not in (
                ".png",
                ".h5",
                ".survpgc",
            ):  # three bytes stand anywhere by chance
                assert not alone.search(content), (path, name)
            assert name.lower() not in place
            if name != "who":  # nor a part of a number, 0.99999 of a survival
                found = re.search(rf"(?<![\d.]){re.escape(name.lower())}", text)
                assert not found, (path, name)
        if path.suffix == ".png":
            assert set(Image.open(path).info) == set()


def test_numbers_pictures_and_shapes_are_those_of_the_originals(results: Path, copy: Path) -> None:
    key = dict(pd.read_csv(copy.parent / "key.csv")[["id", "name"]].to_numpy().tolist())
    for name in NAMES[:2]:
        one, other = results / name, copy / key[name]
        before, after = (json.loads((place / "prediction.json").read_text()) for place in (one, other))
        for entry in ("risk", "hazards", "fold_survival", "risk_percentile", "bin_edges_months", "encoders"):
            assert after[entry] == before[entry]
    one, other = results / NAMES[0], copy / key[NAMES[0]]
    assert key[NAMES[0]].startswith("patient-")
    for picture in ("heatmap_clinic.png", "heatmap_genomic.png"):
        pixels = [np.asarray(Image.open(place / picture).convert("RGB")) for place in (one, other)]
        assert np.array_equal(*pixels)
    assert (one / "top_clinic" / "patches.csv").read_bytes() == (
        other / "top_clinic" / "patches.csv"
    ).read_bytes()
    with h5py.File(one / "attention.h5") as before, h5py.File(other / "attention.h5") as after:
        assert set(after) == set(before) - {"hiddenh5"}
        assert np.array_equal(before["clinic"][()], after["clinic"][()])
        assert list(before["clinic"].attrs["rows"]) == list(after["clinic"].attrs["rows"])
    shapes = [json.loads((place / "tissue.geojson").read_text())["features"] for place in (one, other)]
    assert [f["geometry"] for f in shapes[0]] == [f["geometry"] for f in shapes[1]]
    page = (other / "report.html").read_text()
    assert "Content-Security-Policy" in page
    assert page.count("<img") == 22
    risks = pd.read_csv(copy / "risks.csv").set_index("case_id")
    assert risks.loc[key[NAMES[0]], "risk"] == -1.5
    assert risks.loc[key[NAMES[0]], "age"] == 90
    assert list(risks.columns) == ["slide_ids", "risk", "age", "sex", "stage"]
    assert risks.loc[key[NAMES[1]], "slide_ids"] == f"{key[NAMES[3]]};{key[NAMES[4]]}"


def test_a_copy_opens_like_any_results(copy: Path) -> None:
    found = read_results(copy)
    assert len(found) == 2
    assert {each.months for each in found} == {5.0, 6.0}
    assert {each.record.age for each in found} == {90.0, 50.0}
    for each in found:
        assert each.case_file is not None
        saved = load_case(each.case_file)
        assert saved.fingerprint == "anonymised"
        assert saved.prediction.risk == each.risk


def test_what_was_left_out_is_said_in_the_copy_and_on_screen(results: Path, tmp_path: Path, capsys) -> None:
    options = type("Options", (), {"results": results / NAMES[0], "out": tmp_path / "o", "key": None})()
    assert command.run(options) == 0
    shown = capsys.readouterr().out
    text = (tmp_path / "o" / "anonymised.txt").read_text()
    assert text.strip() in shown
    assert "Dr. Who.txt" in shown
    assert "Dr. Who" not in text
    for words in ("feature file", "other file", "Pixels", "data of attention.h5", "entry of prediction.json"):
        assert words in text
    document = json.loads((tmp_path / "o" / "patient-0001" / "prediction.json").read_text())
    assert (
        document["warnings"][-2:] == ["Few patches were found", LEFT_OUT] or LEFT_OUT in document["warnings"]
    )
    assert "Few patches were found" in document["warnings"]
    assert document["regions"] == [{"class": "Tumor", "share": 0.5, "name": "region 1"}]


def test_names_are_stable_within_a_copy_and_say_no_order() -> None:
    ids = [f"MRN-{i}" for i in range(200)]
    names = Pseudonyms()
    names.note_patients(ids)
    given = [names.patient(each) for each in ids]
    assert given != sorted(given)
    assert given == [names.patient(each) for each in ids]
    assert len(set(given)) == 200
    assert names.slide("a.svs") == names.slide("a") == names.slide("/x/a.svs")


def test_texts_lose_names_days_files_and_old_ages() -> None:
    names = Pseudonyms()
    names.note_patients(["Smith", "12"])
    assert names.text("The patient smith has 12 patches") == "The patient (name) has 12 patches"
    for text in (
        "see x.svs",
        "C:\\a",
        "on 17.03.2024",
        "number 123456",
        "TCGA-02-0001",
        "mail a@b",
        "called 'Bob'",
    ):
        assert names.text(text) == LEFT_OUT
    assert names.text("Stage II, 7th edition, log2(TPM+1), 20x") == "Stage II, 7th edition, log2(TPM+1), 20x"
    assert [age(v) for v in (89, 89.5, 101, None, float("nan"), True)] == [89, 90, 90, None, None, None]


def test_a_copy_is_never_written_over_or_into_the_originals(results: Path, tmp_path: Path) -> None:
    for out in (results, results / "copy", results.parent):
        with pytest.raises(OutputError):
            anonymise(results, out)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").touch()
    with pytest.raises(OutputError, match="there already"):
        anonymise(results, tmp_path / "there")
    with pytest.raises(CohortError, match="no result"):
        anonymise(tmp_path / "there", tmp_path / "new")
    assert not (tmp_path / "new").exists()
