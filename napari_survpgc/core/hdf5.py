"""HDF5 files, written whole or not at all, and read also where a drive has no file locks."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from .streams import atomic_stream

UNREACHABLE = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "EACCES", "EPERM", "ENODEV", "ENXIO", "ENOENT", "ENOMEDIUM", "EREMOTEIO"),
        *("ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENOTCONN", "ESHUTDOWN"),
    )
    if hasattr(errno, name)
)
"""What the system says of a file that it cannot get at, however sound the file may be."""
_NUMBER = re.compile(r"errno = (\d+)")
_LOCKED = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield a new file that becomes ``path`` when the block ends well; OutputError as :func:`.files.atomic`.

    It is written through a stream of ours: HDF5 ends the process when the disk is full at its closing.
    """
    with atomic_stream(path) as stream, h5py.File(stream, "w") as file:
        yield file


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading, without a lock where the drive has none; OSError as h5py.File."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        number = _NUMBER.search(str(error))
        if "unable to lock file" not in str(error) or (number and int(number[1]) in _LOCKED):
            raise
        return h5py.File(path, "r", locking=False)


def readable(name: str) -> str:
    """Return a name as text that HDF5 takes: the bytes of a file's name that are no UTF-8 as ``\\udcff``."""
    return name.encode("utf-8", "backslashreplace").decode()


def unreachable(error: BaseException) -> str:
    """Return what the system says of a file that it cannot get at; "" for a file that is damaged."""
    number = getattr(error, "errno", None)
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found[1])
    return os.strerror(number) if number is not None and number in UNREACHABLE else ""
