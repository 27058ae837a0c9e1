"""One set of results, one process in a folder; drives without locks; damage that hides nothing."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_survpgc.core import exchange, locks
from napari_survpgc.core.errors import OutputError, writing
from napari_survpgc.core.hdf5 import new_hdf5, open_hdf5
from napari_survpgc.core.jobs.results_folder import results_in
from napari_survpgc.core.output.folder import check_ours
from napari_survpgc.core.output.swap import JOURNAL, Place, finish, new_set
from tests.test_earlier_versions import OLD

PLACES = [Place("a.txt"), Place("b.txt"), Place("top", ("rank_*",)), Place("S1/a.txt")]


def _old(out: Path) -> None:
    for name in (
        "a.txt",
        "top/rank_1",
        "top/rank_9",
        "top/notes.txt",
        "S1/a.txt",
        "features/S.h5",
        "mine.txt",
    ):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("old")


def _make(made: Path) -> None:
    (made / "top").mkdir()
    for name in ("b.txt", "top/rank_1", "top/rank_2"):
        (made / name).write_text("new")


NEW = {
    "b.txt": "new", "top/rank_1": "new", "top/rank_2": "new", "top/notes.txt": "old", "features/S.h5": "old",
    "mine.txt": "old",
}  # fmt: skip


def _state(out: Path) -> dict[str, str]:
    return {p.relative_to(out).as_posix(): p.read_text() for p in out.rglob("*") if p.is_file()}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_set_replaces_the_earlier_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(exchange, "exchange", None)
    elif exchange.exchange is None:
        pytest.skip("this system cannot exchange folders")
    out = tmp_path / "out"
    _old(out)
    with new_set(out, lambda: PLACES) as made:
        _make(made)
    assert _state(out) == NEW
    assert not (out / "S1").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("moved", range(6))
def test_what_a_killed_process_was_moving_is_moved_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    class Killed(BaseException):
        pass

    out, replace, count = tmp_path / "out", Path.replace, [0]
    _old(out)

    def dying(self: Path, target: Path) -> Path:
        if JOURNAL in str(self) or JOURNAL in str(target):
            count[0] += 1
            if count[0] == moved + 1:
                raise Killed
        return replace(self, target)

    monkeypatch.setattr(exchange, "exchange", None)
    monkeypatch.setattr(Path, "replace", dying)
    try:
        with new_set(out, lambda: PLACES) as made:
            _make(made)
    except Killed:
        pass
    monkeypatch.setattr(Path, "replace", replace)
    finish(out)
    state = _state(out)
    if moved:
        assert state == NEW
    else:  # before the set counted
        assert state["a.txt"] == "old"
    assert not (out / JOURNAL).exists()


def test_a_users_report_is_refused_and_one_of_ours_is_not(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>my own</p>")
    with pytest.raises(OutputError, match=r"report\.html is not of a prediction"):
        check_ours(tmp_path)
    (tmp_path / "report.html").write_text("<p>Research use only: not for diagnosis</p>")
    check_ours(tmp_path)
    (tmp_path / "heatmap_clinic.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="heatmap_clinic"):
        check_ours(tmp_path)
    (tmp_path / "prediction.json").write_text('{"risk": 1}')
    check_ours(tmp_path)


# --- locks --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="flock")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_worked_on_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_said", set())
    with caplog.at_level(logging.WARNING):
        for name in "ab":
            with locks.claim(tmp_path / name, "working"), locks.lock(tmp_path / "file", "working"):
                pass
    assert sum("no file locks" in record.message for record in caplog.records) == 1


def test_the_second_process_in_a_folder_says_so_and_the_lock_goes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locks.claim(out, "predicting"):
        with (
            pytest.raises(OutputError, match="Another process is predicting at this moment"),
            locks.claim(out, "predicting"),
        ):
            pytest.fail("both work")
        assert out.is_dir()
    assert not out.exists()


def test_hdf5_is_read_where_a_drive_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_hdf5(tmp_path / "a.h5") as file:
        file["x"] = np.arange(3)
    opened = h5py.File

    def without(path: object, mode: str, *, locking: bool | None = None) -> h5py.File:
        if locking is not False:
            raise OSError("unable to lock file, errno = 37, error message = 'No locks available'")
        return opened(path, mode, locking=False)

    monkeypatch.setattr(h5py, "File", without)
    with open_hdf5(tmp_path / "a.h5") as file:
        assert file["x"][()].tolist() == [0, 1, 2]


# --- refused writes -----------------------------------------------------------------------------------------


class SafetensorError(Exception):
    """As that of the library."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(
            "Can't write data (file write failed: errno = 28, error message = 'No space left on device')"
        ),
        RuntimeError("Can't decrement id ref count (unable to close file, errno = 28)"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_librarys_full_disk_is_the_same_sentence(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(OutputError, match=r"The disk is full, so .*a\.h5 was not written"),
        writing(tmp_path / "a.h5"),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        RuntimeError(
            "[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed writing file data/0"
        ),
        OSError("encoder error -2 when writing image file"),
        OSError("1000 requested and 12 written"),
    ],
)
def test_a_write_that_fails_otherwise_names_the_file(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OutputError, match=r"a\.png"), writing(tmp_path / "a.png"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), BrokenPipeError(errno.EPIPE, "gone")])
def test_other_errors_are_not_taken_for_a_refused_write(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), writing(tmp_path / "a.h5"):
        raise error


def _write_hdf5(path: Path) -> None:
    with new_hdf5(path) as file:
        file.create_dataset("x", data=np.zeros((500, 8)), chunks=(50, 8))
        file.attrs["name"] = "x" * 2000


@pytest.mark.parametrize("limit", [0, 700, 3000])
def test_hdf5_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    write: Callable[..., int] = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if os.fstat(descriptor).st_size >= limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: max(1, limit)])

    (tmp_path / "a.h5").write_text("old")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="disk is full"):
        _write_hdf5(tmp_path / "a.h5")
    monkeypatch.undo()
    assert (tmp_path / "a.h5").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


# --- damage -------------------------------------------------------------------------------------------------


def test_a_damaged_result_is_named_and_hides_no_other(tmp_path: Path) -> None:

    shutil.copytree(OLD / "results", tmp_path / "results")
    before = results_in(tmp_path / "results")
    assert before.cases
    assert not before.damaged
    (tmp_path / "results" / "torn").mkdir()
    (tmp_path / "results" / "torn" / "prediction.json").write_text('{"risk": ')
    (tmp_path / "results" / "patients.csv").write_bytes(b"\xff\xfe\x00")
    after = results_in(tmp_path / "results")
    assert [case.case_id for case in after.cases] == [case.case_id for case in before.cases]
    assert any(said.startswith("torn: ") for said in after.damaged)
    assert all("\n" not in said for said in after.damaged)
