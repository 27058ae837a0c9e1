"""The log: what happened, and nothing of a patient."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from napari_survpgc import __version__
from napari_survpgc.cli import run
from napari_survpgc.core import log
from napari_survpgc.core.encoders.base import _tell
from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.jobs.doctor import DoctorReport, Finding, support_report
from tests.builders import tissue_image, write_tiff


@pytest.fixture(autouse=True)
def own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SURVPGC_LOG", str(tmp_path / "logs" / "survpgc.log"))
    _tell.cache_clear()  # a process says its device once
    return tmp_path / "logs" / "survpgc.log"


def test_a_prediction_leaves_steps_and_nothing_of_the_patient(own_log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Ward-7" / "Doe_Jane"
    folder.mkdir(parents=True)
    slide = write_tiff(folder / "H24-11873.tiff", tissue_image(600, 600))
    record = {"age": 63.5, "sex": "female", "stage": "Stage III", "subtype": "Papillary", "race": "Asian"}
    clinical = folder / "Jane.json"
    clinical.write_text(json.dumps(record))
    arguments = ["predict", str(slide), "--clinical", str(clinical), "--device", "cpu", "--no-attribution"]
    assert run([*arguments, "--out", str(folder / "out")]) == 0
    (folder / "Jane.json").write_text(json.dumps(record | {"age": "sixtythree"}))
    assert run([*arguments, "--out", str(folder / "out")]) == 2
    assert (
        run(["predict", str(folder / "gone_H24-9.svs"), "--clinical", str(clinical), "--out", str(folder)])
        == 2
    )
    text = own_log.read_text()
    words = (
        "Ward", "Doe", "Jane", "H24", "11873", "63", "female", "Stage III", "Papillary", "Asian", "sixtythree", "gone",
        str(tmp_path),
    )  # fmt: skip
    for line in text.splitlines():
        said = line[24:].split("processors")[0] if " start " not in line else ""
        body = said.partition(" ")[2]
        for word in words:
            shown = body.split("seconds=")[0] if word == "63" else body
            assert word.lower() not in shown.lower() or (word == "63" and ".py:" in shown), line
    assert f"napari-survpgc {__version__}" in text
    assert "device=cpu" in text
    assert text.count("predict outcome=done") == 1
    assert text.count("predict outcome=failed") == 2
    assert "step features" in text
    assert "seconds=" in text
    assert "ClinicalError: " in text
    assert "core/clinical/" in text


def test_only_words_of_our_own_messages_are_written() -> None:
    said = log.redacted(
        "The slide Smith.svs of '1234' cannot be opened (No such file), 17 of Smith's: /home/x female White"
    )
    for name in ("Smith", "1234", "17", "/home", "female", "White"):
        assert name not in said
    assert said.startswith("The slide <")
    assert "cannot be opened" in said
    assert log.redacted("Smith.svs") == log.redacted("Smith.svs")
    assert log.redacted("Brown, Miller, Stage II, 63 years") == log.redacted(
        "Brown, Miller, Stage II, 64 years"
    )
    assert "Miller" not in log.redacted("Brown, Miller")


def test_an_error_is_written_with_its_causes_and_places(own_log: Path) -> None:
    log.start("test")
    try:
        try:
            raise PermissionError(13, "Permission denied", "/home/jane/x.svs")
        except OSError as cause:
            raise ClinicalError("The age 'abc' of Jane is not a number", "Correct it") from cause
    except ClinicalError as error:
        log.failure(error, "testing")
    text = own_log.read_text()
    assert "ClinicalError: The age <" in text
    assert "PermissionError: EACCES" in text
    assert "core/test_log.py:" in text
    assert "jane" not in text.lower()


@pytest.mark.parametrize("kind", ["a file in the way", "a folder", "not a path"])
def test_a_log_that_cannot_be_written_stops_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    places = {
        "a file in the way": tmp_path / "file" / "x.log",
        "a folder": tmp_path / "folder",
        "not a path": "/proc/no/x",
    }
    monkeypatch.setenv("SURVPGC_LOG", str(places[kind]))
    log.start("test")
    log.step("step")
    with pytest.raises(ZeroDivisionError), log.timed("work"):
        _ = 1 / 0


def test_a_full_disk_stops_nothing(own_log: Path, capsys: pytest.CaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    own_log.parent.mkdir()
    own_log.symlink_to("/dev/full")
    log.start("test")
    log.note("step")
    assert capsys.readouterr().err == ""


def test_the_file_turns_and_keeps_a_few(own_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_BYTES", 2000)
    log.start("test")
    for number in range(200):
        log.note("step", number=float(number), filler="x" * 50)
    files = sorted(own_log.parent.iterdir())
    assert len(files) == 1 + log._KEPT
    assert all(file.stat().st_size <= 2200 for file in files)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_its_mode_follows_the_umask(own_log: Path) -> None:
    before = os.umask(0o027)
    try:
        log.start("test")
    finally:
        os.umask(before)
    assert own_log.stat().st_mode & 0o777 == 0o640


def test_on_a_thread_everything_is_written_too(own_log: Path) -> None:
    log.start("window", apart=True)
    log.note("step", number=1.0)
    log.start("test")
    assert "step number=1" in own_log.read_text()


def test_the_report_names_no_person_of_this_machine(own_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/jdoe42"))
    monkeypatch.setenv("SURVPGC_WEIGHTS", "/home/jdoe42/weights")
    monkeypatch.setenv("NAPARI_TOKEN", "abcdef")
    log.start("test")
    log.note("step number one")
    text = support_report(DoctorReport((Finding("Program", "log /home/jdoe42/x.log"),)))
    assert "jdoe42" not in text
    assert "abcdef" not in text
    assert "SURVPGC_WEIGHTS=~/weights" in text
    assert "step number one" in text
    assert f"napari-survpgc {__version__}" in text
