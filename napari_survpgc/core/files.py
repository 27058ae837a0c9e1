"""Files written whole or not at all, and read with a limit.

Whoever writes asks :func:`atomic` (or :func:`atomic_folder`) for a place beside the target, which takes the target's
name when all of it is there. A process that is killed leaves its place behind, `.<name>.<host>-<process>-<n>.partial`;
the next one that writes the same target sweeps it. Modes follow the umask, whatever a library chose.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import OutputError, SurvPGCError, writing

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_OURS = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)-(?P<token>[0-9a-f]{8})\.(?P<kind>partial|old)"
)
# Of version 0.1.0, which did not say whose it was: `.<name>.partial`, `.<name>-<random>.partial`, `.writing-<random>`.
_EARLIER = re.compile(r"\.(?P<name>.+?)([.-]\w+)?\.partial|\.writing-\w+")
_DAY = 24 * 3600
_LONGEST_NAME = 120
_open_here: set[str] = set()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield the place of a new file that becomes ``path`` when the block ends well, and is removed otherwise.

    The folder is made where it is missing. The place ends in ``.partial``, so a writer that goes by the ending must be
    told the format.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        place = _beside(path, "partial")
        place.touch(exist_ok=False)
        mode = stat.S_IMODE(place.stat().st_mode)
    try:
        with writing(path):
            yield place
            _set_mode(place, mode)  # safetensors and tempfile make private files
            place.replace(path)
    finally:
        place.unlink(missing_ok=True)
        _open_here.discard(place.name)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``path`` when the block ends well, and is removed otherwise.

    A folder that stands there is replaced as a whole; whether it may be is for the caller to check. A kill between the
    two renames leaves the earlier folder aside, which :func:`recover` puts back.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        place = _beside(path, "partial")
        place.mkdir()
    aside = _beside(path, "old")
    try:
        with writing(path):
            probe = place / ".mode"
            probe.touch()
            mode = stat.S_IMODE(probe.stat().st_mode)
            probe.unlink()
            yield place
            for file in place.rglob("*"):
                if file.is_file():
                    _set_mode(file, mode)
            if path.exists():
                path.replace(aside)
            place.replace(path)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        _open_here.difference_update((place.name, aside.name))
        if aside.exists():
            recover(path)


def recover(path: Path) -> None:
    """Finish what a kill during :func:`atomic_folder` left half done: the earlier folder comes back if there is none."""
    if path.parent.is_dir() and os.access(path.parent, os.W_OK):
        sweep(path.parent, path.name)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left of their writing: of ``name``, or of all files of a folder."""
    with os.scandir(folder) as entries:
        hidden = [entry for entry in entries if entry.name.startswith(".")]
    for entry in hidden:
        place = Path(entry.path)
        if match := _OURS.fullmatch(entry.name):
            if name is not None and match["name"] != name[:_LONGEST_NAME]:
                continue
            if _is_alive(match, place):
                continue
            target = folder / (name or match["name"])
            if match["kind"] == "old" and not target.exists():
                place.replace(target)
                continue
        elif (
            not (match := _EARLIER.fullmatch(entry.name))
            or _age(place) < _DAY
            or (name is not None and match["name"] != name)
        ):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8, ``\\n``) whole or not at all; OutputError as :func:`atomic`."""
    with atomic(path) as place:
        place.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, document: Any) -> None:
    """Write a document as JSON, keys in their order, no NaN; OutputError as :func:`atomic`."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_bytes(path: Path, limit: int, error: type[SurvPGCError], step: str) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Parameters
    ----------
    error, step : what is raised for a file that is missing, no file, too large or unreadable, and what to do then.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            # A named pipe would be waited for without end.
            raise error(f"{path} is not a file", step)
        if facts.st_size > limit:
            raise error(
                f"{path} is too large ({facts.st_size / 1e6:.0f} MB, at most {limit / 1e6:.0f})", step
            )
        with path.open("rb") as stream:
            return stream.read(limit)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path} cannot be read ({reason})", step) from problem


def read_text(path: Path, limit: int, error: type[SurvPGCError], step: str) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark; see :func:`read_bytes`."""
    raw = read_bytes(path, limit, error, step)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not a text file (UTF-8)", step) from problem


def read_json(path: Path, limit: int, error: type[SurvPGCError], step: str) -> Any:
    """Read a JSON file; see :func:`read_bytes`."""
    text = read_text(path, limit, error, step)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else problem
        raise error(f"{path} is not valid JSON ({reason})", step) from problem


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold ``path`` for this process alone; the system frees what a killed process held.

    Raises
    ------
    OutputError : another process holds it.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path.with_name(f".{path.name[:_LONGEST_NAME]}.lock"), timeout=0, thread_local=False)
    try:
        with writing(path):
            held.acquire()
    except Timeout as problem:
        raise OutputError(
            f"Another process is writing {path.name} at this moment", "Wait for it, or choose another place"
        ) from problem
    try:
        yield
    finally:
        held.release()


def _beside(path: Path, kind: str) -> Path:
    token = secrets.token_hex(4)
    place = path.with_name(f".{path.name[:_LONGEST_NAME]}.{_HOST}-{os.getpid()}-{token}.{kind}")
    _open_here.add(place.name)
    return place


def _set_mode(file: Path, mode: int) -> None:
    if os.name == "posix" and stat.S_IMODE(file.stat().st_mode) != mode:
        file.chmod(mode)


def _is_alive(match: re.Match[str], place: Path) -> bool:
    """Whether the process that made a place may still be writing it."""
    process = int(match["process"])
    if match["host"] != _HOST or os.name != "posix":
        return (
            _age(place) < _DAY
        )  # of another machine on a shared drive, or where asking would end the process
    if process == os.getpid():
        return place.name in _open_here  # in a container every run may have the same number
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _age(place: Path) -> float:
    try:
        return time.time() - place.lstat().st_mtime
    except OSError:
        return 0.0
