"""One log file for who helps: versions, device, steps, durations, errors; nothing of a patient.

What a message of an error or the name of a step may say is not trusted: of its words only those are written that stand
in our own messages, numbers are not, and all else becomes a mark that is the same within one run (:func:`redacted`).
Logging never stops the work: where the file cannot be written there is none.
"""

from __future__ import annotations

import atexit
import errno
import functools
import hashlib
import importlib.metadata
import logging
import logging.handlers
import os
import platform
import queue
import re
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import platformdirs

from napari_survpgc import __version__

_BYTES, _KEPT = 1 << 20, 3
_SALT = secrets.token_bytes(16)
_listener: logging.handlers.QueueListener | None = None
_PACKAGE = Path(__file__).resolve().parents[1]
_LOG = logging.getLogger("napari_survpgc.log")
_LOG.propagate = False
_LOG.setLevel(logging.INFO)
PACKAGES = (
    "torch", "numpy", "pandas", "h5py", "openslide-python", "openslide-bin", "tiffslide", "tifffile", "imagecodecs",
    "timm", "transformers", "lifelines", "matplotlib", "napari", "qtpy", "PyQt5", "PyQt6", "PySide6",
)  # fmt: skip


def log_file() -> Path:
    """Return where the log is (it may not exist yet); SURVPGC_LOG names another file."""
    given, cache = os.environ.get("SURVPGC_LOG"), os.environ.get("SURVPGC_CACHE")
    if given:
        return Path(given)
    if cache:
        return Path(cache) / "log" / "survpgc.log"
    return Path(platformdirs.user_log_dir("napari-survpgc", appauthor=False)) / "survpgc.log"


def versions() -> tuple[str, ...]:
    """Return the program, Python, the system and the packages that matter, a line each; nothing is imported."""
    found = [
        f"napari-survpgc {__version__}",
        f"Python {platform.python_version()}",
        f"{platform.system()} {platform.release()} {platform.machine()}",
    ]
    found += [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    return tuple(found)


def start(what: str, *, apart: bool = False) -> None:
    """Begin to write, for a command or the window.

    Parameters
    ----------
    apart : write on a thread, so that a slow disk holds nobody up.
    """
    global _listener
    place = log_file()
    for old in list(_LOG.handlers):
        _LOG.removeHandler(old)
        with suppress(OSError):  # what a full disk did not take is tried once more
            old.close()
    if _listener is not None:
        _listener.stop()
        _listener = None
    handler: logging.Handler = logging.NullHandler()
    with suppress(OSError, ValueError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handler = _File(place, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8")
        handler.setFormatter(_Lines("%(asctime)s %(process)d %(message)s"))
    if apart:
        waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        _listener = logging.handlers.QueueListener(waiting, handler)
        _listener.start()
        handler = _Waiting(waiting)
        threading.Thread(
            target=_our_words, name="survpgc words", daemon=True
        ).start()  # 0.2 s, before an error needs them
    _LOG.addHandler(handler)
    _write(f"start {what}: {'; '.join(versions())}; {os.cpu_count()} processors")


def step(what: str, **facts: float | str) -> None:
    """Write a line.

    Parameters
    ----------
    what : may name anything: it is redacted.   facts : of the program, e.g. device="cuda:0", seconds=3.2.
    """
    note(redacted(what), **facts)


def note(what: str, **facts: float | str) -> None:
    """Write a line of ours as it stands: ``what`` names no patient, see :func:`step`."""
    said = " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in facts.items())
    _write(f"{what} {said}".strip())


def failure(error: BaseException, where: str = "") -> None:
    """Write an error with the places of the code it came through; ``where`` is a word of ours."""
    if not _LOG.handlers:
        return
    lines = [f"error {where}".strip()]
    each: BaseException | None = error
    while each is not None and len(lines) < 200:
        lines += [*_frames(each.__traceback__), f"  {type(each).__name__}: {_message(each)}"]
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    _write("\n".join(lines))


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Write the end of something, how it ended and how long it took; an error is written with its places."""
    begin = time.monotonic()
    outcome = "done"
    try:
        yield
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "stopped"
        failure(error, what)
        raise
    finally:
        note(what, outcome=outcome, seconds=time.monotonic() - begin)


def catch_all() -> None:
    """Write what nobody catches, then let it be told as before."""
    before, before_thread = sys.excepthook, threading.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        failure(error, "uncaught")
        before(kind, error, trace)

    def thread_hook(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is not None:
            failure(found.exc_value, "uncaught in a thread")
        before_thread(found)

    sys.excepthook, threading.excepthook = hook, thread_hook


def last_lines(count: int = 300) -> tuple[str, ...]:
    """Return the end of the log; nothing where there is none."""
    with suppress(OSError, ValueError), log_file().open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 256 * count))
        return tuple(stream.read().decode("utf-8", "replace").splitlines()[-count:])
    return ()


def redacted(text: str) -> str:
    """Return a text with nothing in it that is not a word of our own messages.

    Quoted parts, numbers, names, paths and unknown words become marks; the same word has the same mark within a run.
    """
    parts = re.split(r"(\"[^\"]*\"|'[^']*'|\s+)", text)
    return "".join(part if part.isspace() or not part else _word(part) for part in parts)


def _word(part: str) -> str:
    bare = part.strip(".,;:()!?")
    if not bare:
        return part
    if bare in _our_words():
        return part
    if re.fullmatch(r"[\d.,+-]+%?", bare):
        return part.replace(bare, "#")
    mark = hashlib.blake2b(part.encode("utf-8", "replace"), key=_SALT, digest_size=3).hexdigest()
    return f"<{mark}>"


@functools.cache
def _our_words() -> frozenset[str]:
    """Words of our own messages, but for what may be a value of a patient."""
    found: set[str] = set()
    for path in _PACKAGE.rglob("*.py"):
        with suppress(OSError, UnicodeDecodeError):
            texts = " ".join(re.findall(r"\"([^\"\n]+)\"", path.read_text(encoding="utf-8")))
            found.update(re.findall(r"(?<![\w{.-])[A-Za-z]{1,24}(?![\w}])", texts))
    return frozenset(word for word in found if word.lower() not in _VALUES)


# Values of the six fields and what resembles them; also colors and months, which are names of persons, too.
_VALUES = frozenset(
    [
        "male",
        "female",
        "m",
        "f",
        "man",
        "woman",
        "men",
        "women",
        "i",
        "ii",
        "iii",
        "iv",
        "v",
        "x",
        "tis",
        "white",
        "black",
        "brown",
        "green",
        "gray",
        "grey",
        "rose",
        "violet",
        "yellow",
        "asian",
        "african",
        "american",
        "indian",
        "alaska",
        "native",
        "hawaiian",
        "pacific",
        "islander",
        "hispanic",
        "latino",
        "caucasian",
        "european",
        "other",
        "ductal",
        "lobular",
        "papillary",
        "clear",
        "serous",
        "mucinous",
        "squamous",
        "adenocarcinoma",
        "carcinoma",
        "sarcoma",
        "glioma",
        "glioblastoma",
        "astrocytoma",
        "oligodendroglioma",
        "melanoma",
        "kich",
        "kirc",
        "kirp",
        "luad",
        "lusc",
        "brca",
        "blca",
        "coad",
        "read",
        "ucec",
        "dead",
        "death",
        "deceased",
        "alive",
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "oct",
        "nov",
        "dec",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "ward",
        "clinic",
        "hospital",
        "doctor",
        "dr",
        "mr",
        "mrs",
        "smith",
        "jones",
        "doe",
        "jane",
        "john",
        "marie",
        "max",
        "case",
        "will",
        "mark",
        "bill",
        "frank",
        "grant",
        "young",
        "long",
        "small",
        "may",
    ]
) - {"other", "read", "case", "may", "will", "long", "small", "i", "mark", "death", "clinic"}


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return redacted(str(error)[:2000])


def _frames(trace: TracebackType | None) -> list[str]:
    found = []
    for frame in traceback.extract_tb(trace):
        path = Path(frame.filename)
        # Of our own files the place in the package, of others their name: a folder may be called like a person.
        ours = _PACKAGE in path.parents
        name = path.relative_to(_PACKAGE).as_posix() if ours else "/".join(path.parts[-2:])
        found.append(f"  {name}:{frame.lineno} {frame.name}")
    return found[-60:]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _write(line: str) -> None:
    with suppress(Exception):  # of whatever kind: a log is never worth the work
        _LOG.info(line)


@atexit.register
def _end() -> None:
    if _listener is not None:
        with suppress(Exception):
            _listener.stop()


class _File(logging.handlers.RotatingFileHandler):
    """A file whose errors are nobody's: a full disk, a file that another process is turning."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        return


class _Waiting(logging.handlers.QueueHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        return


class _Lines(logging.Formatter):
    converter = time.gmtime  # type: ignore[assignment]
