"""The command line as a user meets it: whole runs, one clear line for bad input, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_survpgc import __version__
from napari_survpgc.cli import run
from tests.builders import GENES, tiny_bundle, tissue_image, write_tiff

RECORD = '{"age": 58, "sex": "female", "stage": "Stage II"}'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a slide, a record, an expression file, a bundle and features."""
    folder = tmp_path_factory.mktemp("files")
    write_tiff(folder / "slide.tiff", tissue_image(1280, 1280))
    write_tiff(folder / "nompp.tiff", tissue_image(800, 800), mpp=None)
    write_tiff(folder / "glass.tiff", np.full((900, 900, 3), 243, np.uint8))
    (folder / "record.json").write_text(RECORD)
    (folder / "genes.csv").write_text(
        "gene,z-score\n" + "".join(f"{g},{i - 2}\n" for i, g in enumerate(GENES))
    )
    tiny_bundle(folder / "bundle")
    return folder


def _predict(files: Path, out: Path, *more: str, slide: str = "slide.tiff") -> int:
    return run(
        [
            "predict", str(files / slide), "--clinical", str(files / "record.json"),
            "--bundle", str(files / "bundle"), "--out", str(out), "--device", "cpu", *more,
        ]
    )  # fmt: skip


def test_predict_writes_everything_and_can_be_repeated(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _predict(files, tmp_path / "a", "--expression", str(files / "genes.csv")) == 0
    text = capsys.readouterr().out
    assert "Risk: higher than" in text
    assert "Research use only" in text
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "prediction.json", "attention.h5", "heatmap_clinic.png", "heatmap_genomic.png", "top_clinic", "top_genomic",
        "attention.geojson", "report.html", "tissue.geojson", "features", "case.survpgc",
    }  # fmt: skip
    features = tmp_path / "a" / "features" / "slide.h5"
    tissue = tmp_path / "a" / "tissue.geojson"
    again = _predict(
        files,
        tmp_path / "b",
        "--expression",
        str(files / "genes.csv"),
        "--features",
        str(features),
        "--tissue",
        str(tissue),
    )
    assert again == 0
    first, second = (json.loads((tmp_path / n / "prediction.json").read_text()) for n in "ab")
    assert first == second


def test_predict_without_expression_says_so(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _predict(files, tmp_path / "a", "--no-attribution") == 0
    assert "No expression file" in capsys.readouterr().out
    document = json.loads((tmp_path / "a" / "prediction.json").read_text())
    assert document["attribution"] is None


def test_a_given_pixel_size_is_kept_with_the_result(files: Path, tmp_path: Path) -> None:
    assert (
        _predict(files, tmp_path / "a", "--mpp-override", "1.0", "--no-attribution", slide="nompp.tiff") == 0
    )
    document = json.loads((tmp_path / "a" / "prediction.json").read_text())
    assert document["slide"]["mpp"] == 1.0
    assert document["slide"]["mpp_source"] == "user"
    assert any("enlarged 2.0 times" in w for w in document["warnings"])


def _bad(files: Path, folder: Path, name: str) -> tuple[list[str], str]:
    """Return (arguments that replace or extend the good ones, what the message must say)."""
    out: list[str] = []
    slide = "slide.tiff"

    def text(file: str, content: str | bytes) -> str:
        path = folder / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def changed_bundle(file: str, change: bytes | None) -> str:
        copy = folder / "bundle"
        shutil.copytree(files / "bundle", copy)
        if change is None:
            (copy / file).unlink()
        else:
            (copy / file).write_bytes((copy / file).read_bytes()[:-1] + change)
        return str(copy)

    def features(width: int, encoder: str, x: int = 0) -> str:
        with h5py.File(folder / "f.h5", "w") as file:
            file["features"] = np.ones((2, width), np.float32)
            file["coords"] = np.array([[0, 0], [x, 256]])
            file["coords"].attrs["patch_size_level0"] = 256
            file["features"].attrs["encoder"] = encoder
        return str(folder / "f.h5")

    match name:
        case "missing slide":
            slide, message = "nowhere.svs", "no file"
        case "text named svs":
            text("words.svs", "these are words")
            slide, message = str(folder / "words.svs"), "words.svs is not a slide"
        case "truncated slide":
            text("cut.tiff", (files / "slide.tiff").read_bytes()[:-4000])
            slide, message = str(folder / "cut.tiff"), "cut.tiff"
        case "no pixel size":
            slide, message = "nompp.tiff", "--mpp-override"
        case "no tissue":
            slide, message = "glass.tiff", "No tissue was found"
        case "wrong columns":
            out, message = ["--clinical", text("c.csv", "a,b\n1,2\n")], "c.csv has none of the columns"
        case "impossible age":
            out, message = ["--clinical", text("c.json", '{"age": 300}')], "age is 300"
        case "duplicate genes":
            out, message = ["--expression", text("g.csv", "gene,v\nTP53,1\nTP53,2\n")], "duplicate genes"
        case "not a number":
            out, message = ["--expression", text("g.csv", "gene,v\nTP53,x\n")], "not numbers"
        case "wrong sample":
            out, message = (
                ["--expression", text("g.csv", "gene,A,B\nTP53,1,2\n"), "--case", "Z"],
                "no sample Z",
            )
        case "few genes":
            out, message = ["--expression", text("g.csv", "gene,v\nTP53,-1\n")], "1 of the model's 5 genes"
        case "unknown unit":
            out, message = (
                ["--expression", str(files / "genes.csv"), "--expression-unit", "liters"],
                "no unit",
            )
        case "wrong encoder":
            out, message = ["--features", features(1280, "uni_v1")], "made with the encoder uni,"
        case "wrong width":
            out, message = ["--features", features(99, "None")], "99 numbers wide"
        case "outside the slide":
            out, message = ["--features", features(1280, "None", 99999)], "outside slide.tiff"
        case "changed weights":
            out, message = (
                ["--bundle", changed_bundle("fold_0.safetensors", b"?")],
                "fold_0.safetensors of bundle",
            )
        case "lost weights":
            out, message = ["--bundle", changed_bundle("fold_1.safetensors", None)], "lacks its file fold_1"
        case "no bundle":
            out, message = ["--bundle", str(folder / "nothing")], "no bundle folder"
        case "no such device":
            out, message = ["--device", "toaster"], "toaster"
        case "outlines of another slide":
            ring = '{"type": "Polygon", "coordinates": [[[0, 0], [90000, 0], [90000, 90000]]]}'
            out, message = ["--tissue", text("t.geojson", ring)], "outside the slide"
        case _:
            raise AssertionError(name)
    return [slide, *out], message


@pytest.mark.parametrize(
    "name",
    [
        "missing slide", "text named svs", "truncated slide", "no pixel size", "no tissue", "wrong columns",
        "impossible age", "duplicate genes", "not a number", "wrong sample", "few genes", "unknown unit",
        "wrong encoder", "wrong width", "outside the slide", "changed weights", "lost weights", "no bundle",
        "no such device", "outlines of another slide",
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_line_code_2_and_nothing_left(
    files: Path, tmp_path: Path, capfd: pytest.CaptureFixture, name: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (slide, *more), message = _bad(files, work, name)
    code = _predict(files, tmp_path / "out", *more, slide=slide)
    error = capfd.readouterr().err.strip()
    assert code == 2
    assert message in error
    assert "\n" not in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_the_broken_real_slide_is_refused(
    files: Path, shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _predict(files, tmp_path / "out", slide=str(shared_dir / "slides" / "broken.svs")) == 2
    assert "broken.svs is not a slide" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert _predict(files, tmp_path / "file") == 2
    assert "is a file" in capsys.readouterr().err
    assert _predict(files, tmp_path / "file" / "deeper") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_folder_without_permission_is_named(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("permissions do not bind this user (root or Windows)")
    (tmp_path / "locked").mkdir(mode=0o500)
    assert _predict(files, tmp_path / "locked" / "out") == 2
    assert "no permission" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "left"), [("100k", []), ("300k", ["out/features/slide.h5"])])
def test_a_full_disk_is_named_and_leaves_nothing_but_finished_features(
    files: Path, tmp_path: Path, size: str, left: list[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "napari_survpgc.cli", "predict", str(files / "slide.tiff"), "--clinical",
                str(files / "record.json"), "--bundle", str(files / "bundle"), "--out", str(disk / "out"),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "disk is full" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        kept = [path.relative_to(disk).as_posix() for path in disk.rglob("*") if path.is_file()]
        # Rows that are finished stay: with room again the same line goes on from them.
        assert [name for name in kept if not name.startswith("out/features/slide.h5.partial/")] == left
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_features_of_several_slides_skip_the_bad_one(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    slides = [str(files / n) for n in ("glass.tiff", "slide.tiff")]
    assert run(["features", *slides, "--out", str(tmp_path / "f"), "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert "No tissue was found on glass.tiff" in captured.err
    assert "slide.tiff: " in captured.out
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["slide.geojson", "slide.h5"]


def test_help_version_and_mistakes(capsys: pytest.CaptureFixture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"survpgc {__version__}"
    assert run(["--help"]) == 0
    assert "Research use only" in " ".join(capsys.readouterr().out.split())
    assert run(["predict"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "--clinical" in error
    assert run(["predict", "x", "--clinical", "y", "--out", "z", "--mpp-override", "-3"]) == 2
    assert "-3 is no pixel size from 0.05 to 10" in capsys.readouterr().err
    for size in ("25", "0.01", "x", "nan"):
        assert run(["features", "x", "--out", "z", "--mpp", size]) == 2
        assert f"{size} is no pixel size" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["demo", "features", "predict", "train", "simulate", "bundle", "import-checkpoint", "doctor"],
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture) -> None:
    assert run([command, "--help"]) == 0
    assert f"survpgc {command}" in capsys.readouterr().out


def test_an_interrupt_ends_with_130_and_keeps_what_is_done(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from napari_survpgc.core.features.rows import Rows

    original = Rows.append
    calls = []

    def stop(self: object, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Rows, "append", stop)
    assert _predict(files, tmp_path / "out", "--batch-size", "4") == 130
    assert "interrupted" in capsys.readouterr().err
    assert (tmp_path / "out" / "features" / "slide.h5.partial" / "rows.bin").stat().st_size > 0
    assert not (tmp_path / "out" / "prediction.json").exists()
    monkeypatch.undo()
    assert _predict(files, tmp_path / "out") == 0
    assert not (tmp_path / "out" / "features" / "slide.h5.partial").exists()


def test_of_several_classes_of_outlines_the_tissue_is_said(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def square(x: int, name: str) -> dict[str, object]:
        ring = [[x, 0], [x + 600, 0], [x + 600, 900], [x, 900], [x, 0]]
        said = {"objectType": "annotation", "classification": {"name": name}}
        return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": said}

    outlines = tmp_path / "o.geojson"
    outlines.write_text(
        json.dumps({"features": [square(0, "Tumor"), square(600, "Stroma")], "type": "FeatureCollection"})
    )
    line = [
        "features",
        str(files / "slide.tiff"),
        "--out",
        str(tmp_path / "f"),
        "--device",
        "cpu",
        "--tissue",
        str(outlines),
    ]
    assert run(line) == 2
    assert "classes Stroma, Tumor" in capsys.readouterr().err
    assert run([*line, "--tissue-class", "tumor"]) == 0
    assert "Outlines of the class Tumor are the tissue" in capsys.readouterr().out


def test_predict_says_what_regions_do_to_the_risk(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ring = [[0, 0], [600, 0], [600, 600], [0, 600], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    said = {"name": "corner", "classification": {"name": "Tumor"}}
    regions = tmp_path / "r.geojson"
    regions.write_text(json.dumps({"type": "Feature", "geometry": shape, "properties": said}))
    assert _predict(files, tmp_path / "a", "--no-attribution", "--regions", str(regions)) == 0
    text = capsys.readouterr().out
    document = json.loads((tmp_path / "a" / "prediction.json").read_text())
    (region,) = document["regions"]
    assert f"Region corner ({region['n_patches']} patches" in text
    assert "Map clinic: " in text
    assert region["change"] == region["risk_without"] - document["risk"]
    assert _predict(files, tmp_path / "b", "--regions", str(tmp_path / "none.geojson")) == 2
    assert "none.geojson" in capsys.readouterr().err
