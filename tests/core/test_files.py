from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from napari_survpgc.core import exchange, files
from napari_survpgc.core.encoders.weights.embedding_cache import EmbeddingCache
from napari_survpgc.core.errors import CohortError, OutputError, SlideError
from napari_survpgc.core.files import (
    atomic,
    atomic_folder,
    lock,
    read_bytes,
    read_json,
    read_text,
    staging,
    sweep,
    write_json,
    write_text,
)

posix = pytest.mark.skipif(os.name != "posix", reason="modes, signals and process numbers of POSIX")

_WRITES = "with files.atomic(target) as place:\n    place.write_text('half')\n    wait()"
_WRITES_FOLDER = (
    "with files.atomic_folder(target) as place:\n    (place / 'a').write_text('half')\n    wait()"
)
_STAGES = "with files.staging(target) as place:\n    (place / 'a').write_text('half')\n    wait()"
_LOCKS = "with files.lock(target, 'waiting'):\n    wait()"
# The second rename of a folder: the earlier one is aside, the new one not there yet.
_SWAPS = """
files.exchange.exchange = None  # as on a drive that needs two renames
rename = Path.replace
Path.replace = lambda self, to: rename(self, to) if self == target else wait()
with files.atomic_folder(target) as place:
    (place / 'new').write_text('new')
"""


@contextmanager
def _process(body: str, target: Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``body`` in a process of its own until it waits; it is killed when the block ends."""
    head = (
        "import sys, time\nfrom pathlib import Path\nfrom napari_survpgc.core import files\n"
        "target = Path(sys.argv[1])\n"
        "def wait():\n    print('here', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", head + body, str(target)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _kill(body: str, target: Path) -> None:
    with _process(body, target) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _fail(path: Path, error: BaseException) -> None:
    path.write_text("half")
    raise error


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o007])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


# --- writing ------------------------------------------------------------------------------------------------


def test_a_file_has_its_name_only_when_all_of_it_is_there(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.txt"
    with atomic(target) as place:
        place.write_text("all of it")
        assert not target.exists()
    assert target.read_text() == "all of it"
    assert _names(target.parent) == ["x.txt"]


@pytest.mark.parametrize("error", [SlideError("no", "why"), KeyboardInterrupt(), ValueError()])
def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(type(error)), atomic(target) as place:
        _fail(place, error)
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["x.txt"]


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"The disk is full, so .*x\.txt was not written"),
        atomic(tmp_path / "x.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert _names(tmp_path) == []


def test_a_folder_in_the_way_is_told_and_stays(tmp_path: Path) -> None:
    (tmp_path / "x" / "kept").mkdir(parents=True)
    with pytest.raises(OutputError, match="in the way"):
        write_text(tmp_path / "x", "text")
    assert _names(tmp_path) == ["x", "x/kept"]


def test_a_file_in_the_way_of_a_folder_is_told_and_stays(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(OutputError, match="in the way"), atomic_folder(tmp_path / "x") as place:
        (place / "a").write_text("a")
    assert (tmp_path / "x").read_text() == "mine"
    assert _names(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, ".hidden", "with.old"])
def test_any_name_that_a_file_may_have_is_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "text")
    with atomic_folder(tmp_path / "folder" / name) as place:
        (place / "a").touch()
    with atomic_folder(tmp_path / "folder" / name) as place:
        (place / "b").touch()
    assert _names(tmp_path) == sorted([name, "folder", f"folder/{name}", f"folder/{name}/b"])


def test_a_folder_is_replaced_as_one_set(tmp_path: Path) -> None:
    target = tmp_path / "set"
    for files_of_it in (["a", "b"], ["b", "c"]):
        with atomic_folder(target) as place:
            for name in files_of_it:
                (place / name).write_text(name)
        assert _names(tmp_path) == ["set", *(f"set/{name}" for name in files_of_it)]


def test_a_failure_keeps_the_old_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "set") as place:
        (place / "a").write_text("old")
    with pytest.raises(SlideError), atomic_folder(tmp_path / "set") as place:
        _fail(place / "a", SlideError("no", "why"))
    assert (tmp_path / "set" / "a").read_text() == "old"
    assert _names(tmp_path) == ["set", "set/a"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "set"
    with atomic_folder(target) as place:
        (place / "a").write_text("old")
    rename = Path.replace

    def refuse(self: Path, to: Path) -> Path:
        if self.suffix == ".partial":
            raise PermissionError(errno.EACCES, "in use")
        return rename(self, to)

    monkeypatch.setattr(exchange, "exchange", None)  # as on a drive that needs two renames
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="no permission"), atomic_folder(target) as place:
        (place / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert _names(tmp_path) == ["set", "set/a"]


def test_a_staging_folder_goes_and_a_new_folder_with_it_on_failure(tmp_path: Path) -> None:
    with staging(tmp_path / "out") as place:
        (place / "a").write_text("a")
        (place / "a").replace(tmp_path / "out" / "a")
    assert _names(tmp_path) == ["out", "out/a"]
    for target, left in (("out", ["out", "out/a"]), ("other", ["out", "out/a"])):
        with pytest.raises(SlideError), staging(tmp_path / target) as place:
            _fail(place / "b", SlideError("no", "why"))
        assert _names(tmp_path) == left


@posix
def test_modes_follow_the_umask_where_a_library_makes_private_files(tmp_path: Path, umask: int) -> None:
    arrays = {"x": np.zeros(3, np.float32)}
    with atomic(tmp_path / "file") as place:
        safetensors.numpy.save_file(arrays, place)
        place.chmod(0o600)
    assert _mode(tmp_path / "file") == 0o666 & ~umask
    with atomic_folder(tmp_path / "folder") as place:
        safetensors.numpy.save_file(arrays, place / "file")
        (place / "inner").mkdir(0o700)
        (place / "inner" / "file").touch(0o600)
    assert _mode(tmp_path / "folder") == _mode(tmp_path / "folder" / "inner") == 0o777 & ~umask
    assert _mode(tmp_path / "folder" / "file") == 0o666 & ~umask
    assert _mode(tmp_path / "folder" / "inner" / "file") == 0o666 & ~umask


def test_json_is_strict_and_the_same_on_every_system(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": [1.5], "a": "ä"})
    assert (tmp_path / "x.json").read_bytes() == b'{\n "b": [\n  1.5\n ],\n "a": "\\u00e4"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json", 100, CohortError, "")["a"] == "ä"


# --- what killed processes leave ----------------------------------------------------------------------------


@posix
def test_what_a_killed_process_left_is_swept_by_the_next_writer(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    _kill(_WRITES, target)
    assert len(_names(tmp_path)) == 1  # as killed
    write_text(tmp_path / "y.txt", "of another name")
    assert len(_names(tmp_path)) == 2
    write_text(target, "whole")
    assert _names(tmp_path) == ["x.txt", "y.txt"]


@posix
@pytest.mark.parametrize(("body", "left"), [(_WRITES_FOLDER, []), (_STAGES, ["out"])])
def test_what_a_killed_process_left_of_a_folder_is_swept(tmp_path: Path, body: str, left: list[str]) -> None:
    _kill(body, tmp_path / "out")
    assert any("partial" in name for name in _names(tmp_path))
    sweep(tmp_path)
    sweep(tmp_path / "out")
    assert _names(tmp_path) == left


@posix
def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    with _process(_WRITES, target), atomic(target) as mine:
        sweep(tmp_path)
        mine.write_text("mine")
        write_text(target, "another of this process")
        assert len(_names(tmp_path)) == 3
    assert target.read_text() == "mine"


def test_what_other_machines_write_is_left_alone_for_a_day(tmp_path: Path) -> None:
    place = tmp_path / f".x.txt.{'0' * 8}-1-{'0' * 8}.partial"
    place.touch()
    sweep(tmp_path)
    assert place.exists()
    _make_old(place, days=2)
    sweep(tmp_path)
    assert not place.exists()


@posix
def test_a_number_that_went_to_another_process_does_not_keep_a_place_for_ever(tmp_path: Path) -> None:
    place = tmp_path / f".x.txt.{files._HOST}-{os.getppid()}-{'0' * 8}.partial"
    place.touch()
    sweep(tmp_path)
    assert place.exists()
    _make_old(place, days=8)
    sweep(tmp_path)
    assert not place.exists()


@pytest.mark.parametrize(
    "name",
    [".run.json.partial", ".c.h5-k2_x9abc.partial", ".x.h5.writing", ".writing-k2_x9abc", ".b.k2_x9abc.partial"],
)  # fmt: skip
def test_places_of_version_0_1_0_are_swept_after_a_day(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    (place / "risk").touch()
    sweep(tmp_path, only_ours=True)
    assert place.exists()
    _make_old(place, days=2)
    sweep(tmp_path, only_ours=True)
    assert not place.exists()


@pytest.mark.parametrize(
    ("name", "swept"),
    [(".download.csv.partial", False), (".case.survpgc-k2_x9abc.partial", True), (".writing-k2_x9abc", True)],
)
def test_in_a_users_folder_only_what_is_surely_ours_is_swept(tmp_path: Path, name: str, swept: bool) -> None:
    (tmp_path / name).touch()
    _make_old(tmp_path / name, days=400)
    sweep(tmp_path)
    assert (tmp_path / name).exists() != swept


def test_a_writer_sweeps_the_earlier_places_of_its_own_target_only(tmp_path: Path) -> None:
    for name in (".run.json.partial", ".run.json-k2_x9abc.partial", ".fold.json.partial"):
        (tmp_path / name).touch()
        _make_old(tmp_path / name, days=2)
    write_text(tmp_path / "run.json", "{}")
    assert _names(tmp_path) == [".fold.json.partial", "run.json"]


@pytest.mark.parametrize("name", ["x.h5.partial", ".git", ".x.h5.part", f".x.{'0' * 8}-{'9' * 30}-{'0' * 8}.old"])  # fmt: skip
def test_nothing_else_is_swept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "rows.bin").touch()
    _make_old(tmp_path / name, days=400)
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    assert _names(tmp_path) == sorted([name, f"{name}/rows.bin"])


def test_the_cache_of_embeddings_sweeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURVPGC_CACHE", str(tmp_path))
    folder = tmp_path / "embeddings" / "e"
    folder.mkdir(parents=True)
    place = folder / ".k2_x9abc.partial"
    place.touch()
    _make_old(place, days=2)
    cache = EmbeddingCache("e", "w", (3,))
    for content in (b"1", b"2"):
        cache.put(content, np.zeros(3, np.float32))
    assert not place.exists()
    assert [path.suffix for path in folder.iterdir()] == [".npy", ".npy"]


def test_a_link_goes_without_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").touch()
    place = tmp_path / f".x.{'0' * 8}-1-{'0' * 8}.partial"
    place.symlink_to(tmp_path / "mine")
    os.utime(place, (0, 0), follow_symlinks=False)
    sweep(tmp_path)
    assert _names(tmp_path) == ["mine", "mine/a"]


@posix
@pytest.mark.parametrize("name", ["set", "ä" * 127])
def test_a_kill_between_the_renames_is_recovered(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with atomic_folder(target) as place:
        (place / "old").touch()
    _kill(_SWAPS, target)
    assert not target.exists()
    sweep(tmp_path, name)
    assert _names(tmp_path) == [name, f"{name}/old"]


@posix
def test_the_earlier_folder_is_not_put_back_under_a_living_writer(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "set") as place:
        (place / "old").touch()
    with _process(_SWAPS, tmp_path / "set"):
        sweep(tmp_path, "set")
        assert not (tmp_path / "set").exists()


def _make_old(path: Path, days: int) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))


# --- locks --------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with (
        _process(_LOCKS, tmp_path / "new" / "lock"),
        pytest.raises(OutputError, match=r"^Another process is computing x\.h5 at this moment\. Wait for it"),
        lock(tmp_path / "new" / "lock", "computing x.h5"),
    ):
        pass


def test_a_lock_is_free_when_its_process_is_gone(tmp_path: Path) -> None:
    with _process(_LOCKS, tmp_path / "lock"):
        pass
    for _ in range(2):
        with lock(tmp_path / "lock", "computing"):
            pass


# --- reading ------------------------------------------------------------------------------------------------


def test_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert read_bytes(path, 6, CohortError, "") == b"\xef\xbb\xbfabc"
    assert read_text(path, 6, CohortError, "") == "abc"
    with pytest.raises(CohortError, match=r"x\.txt is too large for gene sets .*\. Give a smaller file\."):
        read_text(path, 5, CohortError, "Give a smaller file", "gene sets")


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CohortError, match=r"x\.txt is not a text file \(UTF-8\)\. Save it anew\."):
        read_text(tmp_path / "x.txt", 100, CohortError, "Save it anew")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read .No such file"),
        (lambda path: path.mkdir(), "is not a file"),
        pytest.param(lambda path: os.mkfifo(path), "is not a file", marks=posix),
        pytest.param(lambda path: path.symlink_to(path), "cannot be read", marks=posix),
    ],
)
def test_what_is_no_file_is_told(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(CohortError, match=message):
        read_bytes(tmp_path / "x", 100, CohortError, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' * 200_000, "nested too deeply"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ("1" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CohortError, match=rf"x\.json is not valid JSON \({reason}.*\)\. Export it anew\."):
        read_json(tmp_path / "x.json", 10**7, CohortError, "Export it anew")


def test_nan_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": NaN, "b": -Infinity}')
    found = read_json(tmp_path / "x.json", 100, CohortError, "", nan=True)
    assert json.dumps(found) == '{"a": NaN, "b": -Infinity}'
