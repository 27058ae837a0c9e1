"""Streams for libraries that do not survive a write that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .files import atomic


class Sink:
    """A file for a library that does not survive a write that fails.

    HDF5 ends the process when it cannot write what it still holds, torch when it meets that in a destructor. So nothing
    ever fails here: the first refusal is kept, what comes after it is thrown away, and :func:`atomic_stream` raises when
    the library has let go of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._at = self._end = 0
        self.refusal: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            if self.refusal is None:
                os.lseek(self._file, self._at, os.SEEK_SET)
            while len(rest) and self.refusal is None:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self.refusal = error
        self._at += size
        self._end = max(self._end, self._at)
        return size

    def readinto(self, buffer: Any) -> int:
        """Read what was written; zeros where that was thrown away."""
        found = self.read(len(buffer))
        buffer[:] = found.ljust(len(buffer), b"\0")
        return len(buffer)

    def read(self, size: int = -1) -> bytes:
        size = max(0, self._end - self._at) if size < 0 else size
        os.lseek(self._file, self._at, os.SEEK_SET)
        found = b""
        while len(found) < size and (more := os.read(self._file, size - len(found))):
            found += more
        self._at += size if self.refusal else len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self._end = self._at if size is None else size
        try:
            if self.refusal is None:
                os.truncate(self._file, self._end)
        except OSError as error:
            self.refusal = error
        return self._end

    def flush(self) -> None:
        """Do nothing: what was written is with the system already."""

    def close(self) -> None:
        try:
            os.close(self._file)
        except OSError as error:  # a network drive may tell only now
            self.refusal = self.refusal or error


@contextmanager
def atomic_stream(path: Path) -> Iterator[Sink]:
    """Yield a stream whose contents become ``path``, as :func:`atomic`; for HDF5, torch and TIFF, see :class:`Sink`.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way, a drive that is gone.
    """
    with atomic(path) as place:
        sink = Sink(place)
        try:
            yield sink
        except Exception as error:
            if sink.refusal is not None:
                raise sink.refusal from error
            raise
        finally:
            sink.close()
        if sink.refusal is not None:
            raise sink.refusal
