"""Files written whole or not at all, and read with a limit.

Whoever writes asks :func:`atomic` (or :func:`atomic_folder`) for a place beside the target, which takes the target's
name when all of it is there. A process that is killed leaves its place behind, `.<name>.<host>-<process>-<n>.partial`;
the next one that writes the same target sweeps it. Modes follow the umask, whatever a library chose.
"""

from __future__ import annotations

import contextlib
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
from typing import TYPE_CHECKING, Any, NoReturn

from . import exchange
from .cells import frame_text
from .errors import SurvPGCError, writing
from .locks import LOCK
from .locks import lock as lock

if TYPE_CHECKING:
    import pandas as pd

_OURS = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>\d{1,9})-[0-9a-f]{8}\.(?P<kind>partial|old)"
)
# Of version 0.1.0, which did not say whose it was.
_EARLIER = re.compile(r"\..+\.(partial|writing)|\.writing-\w{8}")
# Of these none but us makes any: what else in a folder has such a name may be a user's own download.
_SURELY_EARLIER = re.compile(r"\..+\.survpgc-\w+\.partial|\.writing-\w{8}")
_DAY = 24 * 3600
_LONGEST_NAME = 180  # bytes; a name has at most 255, and what is added takes up to 40
_WHERE = "Check the name and the folder"
_open_here: set[str] = set()


def _host() -> str:
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())  # containers may share a machine's name
    except OSError:
        processes = ""
    return hashlib.sha256(f"{platform.node()} {processes}".encode()).hexdigest()[:8]


_HOST = _host()


@contextmanager
def atomic(path: Path, *, swept: bool = False) -> Iterator[Path]:
    """Yield the place of a new file that becomes ``path`` when the block ends well, and is removed otherwise.

    The folder is made where it is missing. The place ends in ``.partial``, so a writer that goes by the ending must be
    told the format.

    Parameters
    ----------
    swept : the caller has swept the folder, one of so many files that going through it for each would tell.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not swept:
            sweep(path.parent, path.name)
        place = _beside(path, "partial")
        place.touch(exist_ok=False)
        mode = _mode(place)
    try:
        with writing(path):
            yield place
            _set_mode(place, mode)  # safetensors and tempfile make private files
            place.replace(path)
    finally:
        _remove(place)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``path`` when the block ends well, and is removed otherwise.

    A folder that stands there is replaced as a whole, at once; whether it may be is for the caller to check. Where a drive
    takes two renames for it, a kill between them leaves the earlier folder aside, and :func:`sweep` puts it back.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way.
    """
    with new_folder(path.parent, path.name, path) as place:
        folder_mode = _mode(place)
        probe = place / ".mode"
        probe.touch()
        file_mode = _mode(probe)
        probe.unlink()
        yield place
        for item in place.rglob("*"):
            _set_mode(item, folder_mode if item.is_dir() else file_mode)
        if not (path.is_dir() and _exchanged(place, path)):
            aside = _beside(path, "old")
            try:
                if path.is_dir():
                    path.replace(aside)
                place.replace(path)
            finally:
                _open_here.discard(aside.name)
                sweep(path.parent, path.name)


def _exchanged(place: Path, path: Path) -> bool:
    """Let a new folder take the place of another in one step; False where the drive cannot do it."""
    if exchange.exchange is None:
        return False
    try:
        exchange.exchange(place, path)
    except OSError:
        return False
    return True


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder in ``folder``, for files that the block moves there when all of them are written.

    It goes in any case, and ``folder`` too if it was made for it and has nothing else. What killed processes left in
    ``folder`` is swept.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way.
    """
    new = not folder.exists()
    try:
        with new_folder(folder, "staging", folder) as place:
            sweep(folder)
            yield place
    finally:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def new_folder(parent: Path, name: str, path: Path) -> Iterator[Path]:
    """Yield a hidden folder in ``parent``, which goes at the end where it has not taken a name of its own.

    Parameters
    ----------
    name : whose partial it is, for :func:`sweep`.   path : for the message of an OutputError.
    """
    with writing(path):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent, name)
        place = _beside(parent / name, "partial")
        place.mkdir()
    try:
        with writing(path):
            yield place
    finally:
        _remove(place)


def sweep(folder: Path, name: str | None = None, *, only_ours: bool = False) -> None:
    """Remove what killed processes left of their writing: of ``name``, or of everything in a folder.

    Where :func:`atomic_folder` was killed between its renames, the earlier folder comes back. Whatever cannot be read
    or removed stays: it is nobody's task to mend.

    Parameters
    ----------
    only_ours : nobody else writes into the folder. Elsewhere a hidden ``.partial`` that does not say whose it is may be
        a user's own download, and goes only with ``name``.
    """
    try:
        with os.scandir(folder) as entries:
            hidden = [entry.name for entry in entries if entry.name.startswith(".")]
    except OSError:
        return
    for found in hidden:
        place = folder / found
        if match := _OURS.fullmatch(found):
            if (name is not None and match["name"] != _short(name)) or _is_alive(match, place):
                continue
            if match["kind"] == "old":
                target = folder / (name or match["name"])
                if name is None and match["name"].startswith("~"):
                    continue  # its name is too long to stand here: whoever asks for it by name finds it
                if not target.exists():
                    with contextlib.suppress(OSError):
                        place.replace(target)
                    continue
            _remove(place)
        elif _is_earlier(found, name, only_ours) and _age(place) > _DAY:
            _remove(place)


def is_partial(name: str) -> bool:
    """Whether a name is that of something that a process of ours is writing, or was when it was killed."""
    return _OURS.fullmatch(name) is not None


def is_vacant(folder: Path) -> bool:
    """Whether a folder is not there, or holds nothing but empty folders, locks and what killed processes left."""
    if not folder.is_dir():
        return not folder.exists()
    return all(
        is_vacant(place)
        if place.is_dir() and not place.is_symlink() and not _OURS.fullmatch(place.name)
        else place.name == LOCK or _OURS.fullmatch(place.name) is not None
        for place in folder.iterdir()
    )


def _is_earlier(found: str, name: str | None, only_ours: bool) -> bool:
    """Whether a hidden file is one that version 0.1.0 was writing."""
    if name is not None:
        return _EARLIER.fullmatch(found) is not None and found.startswith((f".{name}.", f".{name}-"))
    return (_EARLIER if only_ours else _SURELY_EARLIER).fullmatch(found) is not None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; OutputError as :func:`atomic`."""
    with atomic(path) as place:
        place.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as they are) whole or not at all; OutputError as :func:`atomic`.

    The bytes of a file's name that are no UTF-8 are written as ``\\udcff``, so that the text stays one.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, document: Any, *, indent: int | None = 1) -> None:
    """Write a document as JSON, keys in their order, no NaN; OutputError as :func:`atomic`."""
    write_text(path, json.dumps(document, indent=indent, allow_nan=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index, its texts defused; OutputError as :func:`atomic`."""
    write_text(path, frame_text(table))


def read_bytes(path: Path, limit: int, error: type[SurvPGCError], step: str, what: str = "") -> bytes:
    """Read a file of at most ``limit`` bytes.

    Parameters
    ----------
    error : raised for a file that is missing, no file, unreadable or too large.
    step : what to do about one with other contents than it should have.   what : these should be, e.g. "gene sets".
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            # A named pipe would be waited for without end.
            raise error(f"{path} is not a file", _WHERE)
        if facts.st_size > limit:
            size = f"{facts.st_size / 1e6:,.0f} MB, at most {limit / 1e6:,.0f}"
            raise error(f"{path.name} is too large{f' for {what}' if what else ''} ({size})", step)
        with path.open("rb") as stream:
            return stream.read(facts.st_size)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path} cannot be read ({reason})", _WHERE) from problem


def read_text(path: Path, limit: int, error: type[SurvPGCError], step: str, what: str = "") -> str:
    """Read a UTF-8 text file, with or without a byte-order mark; see :func:`read_bytes`."""
    content = read_bytes(path, limit, error, step, what)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path.name} is not a text file (UTF-8)", step) from problem


def read_json(
    path: Path, limit: int, error: type[SurvPGCError], step: str, what: str = "", *, nan: bool = False
) -> Any:
    """Read a JSON file; see :func:`read_bytes`.

    Parameters
    ----------
    nan : take NaN and infinity, which are no JSON but written by many.
    """
    text = read_text(path, limit, error, step, what)
    try:
        return json.loads(text, parse_constant=float if nan else _no_number)
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else problem
        raise error(f"{path.name} is not valid JSON ({reason})", step) from problem


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _short(name: str) -> str:
    """Return what stands for a name in that of its place."""
    raw = os.fsencode(name)
    return name if len(raw) <= _LONGEST_NAME else f"~{hashlib.sha256(raw).hexdigest()}"


def _beside(path: Path, kind: str) -> Path:
    place = path.with_name(f".{_short(path.name)}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.{kind}")
    _open_here.add(place.name)
    return place


def _remove(place: Path) -> None:
    with contextlib.suppress(OSError):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    _open_here.discard(place.name)


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def _set_mode(file: Path, mode: int) -> None:
    if os.name == "posix" and _mode(file) != mode:
        file.chmod(mode)


def _is_alive(match: re.Match[str], place: Path) -> bool:
    """Whether the process that made a place may still be writing it."""
    process = int(match["process"])
    if match["host"] == _HOST and process == os.getpid():
        return place.name in _open_here  # a restarted container may give every run the same number
    if match["host"] != _HOST or os.name != "posix":
        # Of another machine on a shared drive, or where asking would end the process.
        return _age(place) < _DAY
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _age(place) < 7 * _DAY  # else the number has gone to another process


def _age(place: Path) -> float:
    try:
        return time.time() - place.lstat().st_mtime
    except OSError:
        return 0.0
