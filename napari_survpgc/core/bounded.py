"""Packed and nested texts from anywhere, with limits that hold before memory is taken.

One KB of gzip unpacks to one MB, one MB of brackets becomes 64 MB of objects, and a nesting of thousands ends the
interpreter's stack: what a text will cost is counted or unpacked piece by piece first.
"""

from __future__ import annotations

import gzip
import io
import json
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_PIECE = 16 << 20
_FREE_BYTES = 256 << 20  # unpacked, of any ratio
_MAX_RATIO = 300  # tables of counts, most of them 0, reach 100
_MAX_OBJECTS = 1_800_000_000  # bytes that a document takes as objects
MAX_DEPTH = 200
_MAX_TOML = 1 << 20


class BoundError(ValueError):
    """A text would take more than any real one; a clause for the reader that names the file."""


def gunzip(raw: bytes, limit: int) -> bytes:
    """Unpack gzip piece by piece.

    Raises
    ------
    BoundError : more than ``limit`` bytes, or 300 times what was packed.
    OSError, EOFError, zlib.error : damaged or cut short.
    """
    with BoundedGzip(io.BytesIO(raw), len(raw), limit) as stream:
        return stream.read()


class BoundedGzip(io.BufferedIOBase):
    """A gzip stream that ends with a BoundError where it unpacks to more than it may; for readers of streams."""

    def __init__(self, packed: IO[bytes], size: int, limit: int) -> None:
        self._stream = gzip.GzipFile(fileobj=packed)
        self._packed, self._size, self._limit, self._read = packed, size, limit, 0

    def readable(self) -> bool:
        return True

    def read(self, count: int | None = -1) -> bytes:
        if count is not None and count >= 0:
            return self._counted(self._stream.read(count))
        pieces = []
        while piece := self._counted(self._stream.read(_PIECE)):
            pieces.append(piece)
        return b"".join(pieces)

    def read1(self, count: int = -1) -> bytes:
        return self._counted(self._stream.read1(count if count >= 0 else _PIECE))

    def _counted(self, piece: bytes) -> bytes:
        self._read += len(piece)
        if self._read > self._limit:
            raise BoundError(f"it unpacks to more than {self._limit >> 20} MB")
        if self._read > _FREE_BYTES and self._read > _MAX_RATIO * self._size:
            raise BoundError(f"it unpacks to more than {_MAX_RATIO} times its size")
        return piece

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()


def open_table(path: Path, limit: int) -> IO[bytes]:
    """Open a table for a reader of streams, unpacked where it is gzip by its content; BoundError where it is too large."""
    size = path.stat().st_size
    if size > limit:
        raise BoundError(f"it has {size / 1e6:,.0f} MB, at most {limit / 1e6:,.0f}")
    stream = path.open("rb")
    if stream.read(2) != b"\x1f\x8b":
        stream.seek(0)
        return stream
    stream.seek(0)
    return BoundedGzip(stream, size, limit)  # type: ignore[return-value]


def parse_json(text: str | bytes, constant: Callable[[str], Any]) -> Any:
    """Parse JSON whose objects will fit.

    Parameters
    ----------
    constant : what becomes of NaN and infinity.

    Raises
    ------
    ValueError : no JSON; a BoundError for too many objects, or nested too deeply.
    """
    signs = ("{", "[", ",") if isinstance(text, str) else (b"{", b"[", b",")
    objects, lists, values = (text.count(sign) for sign in signs)  # type: ignore[arg-type]
    # Measured on CPython 3.11: a dict takes 232 bytes with its first keys, a list 64 to 88, a value 8 and up to 48.
    if 240 * objects + 88 * lists + 48 * values > _MAX_OBJECTS:
        raise BoundError("it has more parts than fit into memory")
    try:
        document = json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise BoundError("nested too deeply") from error
    except MemoryError as error:
        raise BoundError("it has more parts than fit into memory") from error
    if objects + lists > MAX_DEPTH and _is_deep(document):
        raise BoundError("nested too deeply")
    return document


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; ValueError for none, for more than 1 MB (its parser is slow) and for one that is nested too deeply."""
    if len(text) > _MAX_TOML:
        raise BoundError("it is too long for settings")
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise BoundError("nested too deeply") from error
    if _is_deep(document):
        raise BoundError("nested too deeply")
    return document


def _is_deep(document: Any) -> bool:
    """Whether lists and dicts are nested more than MAX_DEPTH deep, so that whoever walks through them could not."""
    level = [document]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for node in level:
            parts = node.values() if isinstance(node, dict) else node
            inner += (
                [part for part in parts if isinstance(part, (dict, list))]
                if isinstance(node, (dict, list))
                else []
            )
        if not inner:
            return False
        level = inner
    return True


DAMAGED_GZIP = (OSError, EOFError, zlib.error)
