"""One process at a time: on a file that is being made, or in a folder of results.

flock (msvcrt on Windows), which the system frees when a process is killed. A lock file goes with the work, so that
folders of results hold nothing else; who opened it meanwhile sees that it is another's and tries again. Network drives without locks (ENOLCK, ENOSYS, EOPNOTSUPP) are worked on
without, which is said once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError, writing

LOCK = ".survpgc.lock"
"""Held in a folder by the one process that works in it."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_said: set[str] = set()


@contextmanager
def lock(file: Path, doing: str) -> Iterator[None]:
    """Hold a lock file for this process alone; it stays where it is.

    Parameters
    ----------
    doing : what another process that holds it is doing, e.g. "computing slide.h5".

    Raises
    ------
    OutputError : another process holds it; disk full, no permission.
    """
    with _held(file, doing, stays=True):
        yield


@contextmanager
def claim(folder: Path, doing: str, *, name: str = LOCK) -> Iterator[None]:
    """Work in a folder of results alone; the lock file goes with the work, and so does a folder made for it that is empty.

    Raises
    ------
    OutputError : another process works there; disk full, no permission.
    """
    new = not folder.exists()
    try:
        with _held(folder / name, doing, stays=False):
            yield
    finally:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def _held(file: Path, doing: str, *, stays: bool) -> Iterator[None]:
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(file, doing)
    try:
        yield
    finally:
        if not stays and os.name == "posix":
            _remove(file)
        os.close(descriptor)
        if not stays and os.name != "posix":  # which lets no open file be removed
            _remove(file)


def _take(file: Path, doing: str) -> int:
    """Return the descriptor of the lock file, locked."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except OSError as refusal:
            if refusal.errno in NO_LOCKS:
                _say_once(file.parent)
                return descriptor
            os.close(descriptor)
            if refusal.errno not in _TAKEN:
                raise
            raise OutputError(
                f"Another process is {doing} at this moment", "Wait for it, or choose another folder"
            ) from refusal
        try:
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # who held it has just removed it


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _say_once(folder: Path) -> None:
    if not _said:
        logging.getLogger(__name__).warning(
            "The drive of %s has no file locks: do not let two programs write into one folder there.", folder
        )
    _said.add(str(folder))
