"""What a slide file's structure says before a native library believes it.

The libraries under OpenSlide allocate what a file declares: one changed byte in a table of tile sizes asks for 1 TB and
ends the process. Here the directories of a TIFF (SVS, NDPI, SCN, BIF, SVSLIDE, OME and plain) are walked in Python, each
number against the size of the file. Nothing is decoded: what is found is whether the file may be opened in this process.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import SlideError


class Trust(StrEnum):
    """PLAUSIBLE: every size was checked. UNKNOWN: the container cannot be checked from outside. IMPLAUSIBLE: one is wrong.

    IMPOSSIBLE: no library reads it, and some do not end trying.
    """

    PLAUSIBLE = "plausible"
    UNKNOWN = "unknown"
    IMPLAUSIBLE = "implausible"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class Structure:
    """What was found; ``reason`` is a clause that says why a file is not plausible, or ""."""

    trust: Trust
    reason: str = ""


_MAX_DIRECTORIES = 4096  # an OME-TIFF of a z-stack has some hundred
_MAX_ENTRIES = 512  # a directory of a slide has 20 to 60
_MAX_SIDE = 1 << 22  # px; the largest slides have 400,000
_MAX_TILE_BYTES = 256 << 20  # decoded; tiles are 256 to 2048 px wide, a strip of a macro image some MB
_MAX_TILES = 1 << 24
_MAX_TEXT = 64 << 20
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _DESCRIPTION, _STRIPS, _SAMPLES = 256, 257, 258, 259, 270, 273, 277
_ROWS, _STRIP_BYTES, _PLANAR, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES = (
    278,
    279,
    284,
    322,
    323,
    324,
    325,
)
_SUB, _TABLES, _XMP, _NDPI = 330, 347, 700, 65420
# Their geometry is in an XML text, which OpenSlide believes as it does the directories.
_XML_VENDORS = (b"<?xml", b"<scn", b"PHILIPS", b"<DataObject", b"<OME")
_KEPT = 256

_known: OrderedDict[tuple[str, int, int, int], Structure] = OrderedDict()
_lock = Lock()


def require_file(path: Path) -> None:
    """Raise SlideError for a named pipe, a device or a socket, which would be waited for or read without end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise SlideError(f"There is no file {path}", "Check the name and the folder") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SlideError(
            f"{path} cannot be read ({reason})", "Check its drive, and that you may read it"
        ) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SlideError(f"{path.name} is no file but a pipe or a device", "Choose a slide file")


def structure_of(path: Path) -> Structure:
    """Look at the structure of a file; remembered while its size and time stay. Never raises for its content."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return Structure(Trust.UNKNOWN)
        key = (os.fspath(path.absolute()), facts.st_size, facts.st_mtime_ns, facts.st_ino)
        with _lock:
            if key in _known:
                _known.move_to_end(key)
                return _known[key]
        with path.open("rb") as stream:
            found = _look(stream, facts.st_size)
    except OSError as error:
        return Structure(Trust.IMPLAUSIBLE, f"it cannot be read: {error.strerror}")
    with _lock:
        _known[key] = found
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return found


class _ImplausibleError(Exception):
    """A clause that says what is wrong."""


class _ImpossibleError(_ImplausibleError):
    """What no library reads, or reads without end."""


def _look(stream: BinaryIO, size: int) -> Structure:
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return Structure(Trust.UNKNOWN)
    version = struct.unpack(order + "H", head[2:4])[0]
    if version not in (42, 43):
        return Structure(Trust.UNKNOWN)
    try:
        xml = _Walk(stream, size, order, big=version == 43).all()
    except _ImpossibleError as error:
        return Structure(Trust.IMPOSSIBLE, str(error))
    except _ImplausibleError as error:
        return Structure(Trust.IMPLAUSIBLE, str(error))
    except (struct.error, OverflowError, ValueError, MemoryError):
        return Structure(Trust.IMPLAUSIBLE, "its directories are cut short")
    return Structure(Trust.UNKNOWN if xml else Trust.PLAUSIBLE)


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    value: bytes  # as it stands in the directory


class _Walk:
    """The directories of one TIFF file."""

    def __init__(self, stream: BinaryIO, size: int, order: str, *, big: bool) -> None:
        self.stream, self.size, self.order, self.big = stream, size, order, big
        self.word = "Q" if big else "I"
        self.word_bytes = 8 if big else 4
        self.entry_bytes = 20 if big else 12
        self.ndpi = False
        self.xml = False

    def all(self) -> bool:
        """Walk every directory; return whether a text decides about the geometry, too."""
        first = self._first()
        waiting, seen = [first], set[int]()
        while waiting:
            at = waiting.pop()
            chain = set[int]()
            while at and (at not in seen or at in chain):  # levels below a picture may also follow each other
                if at in chain:
                    raise _ImpossibleError("its directories run in a circle")
                if len(seen) >= _MAX_DIRECTORIES:
                    raise _ImplausibleError("it has more directories than any slide")
                seen.add(at)
                chain.add(at)
                entries, following = self._directory(at)
                waiting += self._check(at, entries)
                at = following
        return self.xml

    def _first(self) -> int:
        self.stream.seek(4)
        if self.big:
            width, zero, at = struct.unpack(self.order + "HHQ", self.stream.read(12))
            if (width, zero) != (8, 0):
                raise _ImplausibleError("its header is damaged")
            return int(at)
        (at,) = struct.unpack(self.order + "I", self._read(4, 4))
        if self.size > 16 and self._is_ndpi(at):
            self.ndpi = True
        elif self.size > 1 << 32:  # NDPI keeps 64 bits where a TIFF has 32
            (far,) = struct.unpack(self.order + "Q", self._read(4, 8))
            if self._is_ndpi(far):
                self.ndpi, at = True, far
        return int(at)

    def _is_ndpi(self, at: int) -> bool:
        if not 8 <= at < self.size - 2:
            return False
        (count,) = struct.unpack(self.order + "H", self._read(at, 2))
        self.stream.seek(at + 2)
        raw = self.stream.read(min(count, _MAX_ENTRIES) * 12)
        tags = {struct.unpack(self.order + "H", raw[i : i + 2])[0] for i in range(0, len(raw) - 11, 12)}
        return _NDPI in tags

    def _read(self, at: int, count: int) -> bytes:
        if at < 0 or at + count > self.size:
            raise _ImplausibleError("it refers to places behind its end")
        self.stream.seek(at)
        raw = self.stream.read(count)
        if len(raw) < count:
            raise _ImplausibleError("it is cut short")
        return raw

    def _directory(self, at: int) -> tuple[dict[int, _Entry], int]:
        count_bytes = 8 if self.big else 2
        (count,) = struct.unpack(self.order + ("Q" if self.big else "H"), self._read(at, count_bytes))
        if not 1 <= count <= _MAX_ENTRIES:
            raise _ImplausibleError(f"a directory claims {count} entries")
        next_bytes = 8 if self.ndpi else self.word_bytes
        raw = self._read(at + count_bytes, count * self.entry_bytes + next_bytes)
        entries = {}
        for start in range(0, count * self.entry_bytes, self.entry_bytes):
            tag, kind, number = struct.unpack_from(self.order + "HH" + self.word, raw, start)
            value = raw[start + 4 + self.word_bytes : start + self.entry_bytes]
            if kind not in _TYPE_BYTES:
                raise _ImplausibleError(f"entry {tag} is of an unknown kind")
            length = number * _TYPE_BYTES[kind]
            if length > self.word_bytes and self._place(value, at) + length > self.size:
                raise _ImplausibleError(f"entry {tag} lies behind its end")
            if tag in entries:
                raise _ImplausibleError(f"entry {tag} is there twice")
            entries[tag] = _Entry(kind, number, value)
        (following,) = struct.unpack_from(
            self.order + ("Q" if next_bytes == 8 else "I"), raw, count * self.entry_bytes
        )
        return entries, following

    def _place(self, value: bytes, directory: int) -> int:
        (at,) = struct.unpack(self.order + self.word, value)
        return self._near(np.array([at], np.uint64), directory)[0].item() if self.ndpi else int(at)

    def _near(self, places: NDArray[np.uint64], directory: int) -> NDArray[np.uint64]:
        """Return 64-bit places of an NDPI, which keeps the lower 32 bits: data stands before its directory."""
        near = (directory & ~0xFFFFFFFF) | (places & np.uint64(0xFFFFFFFF))
        return np.where((near >= directory) & (near >= 1 << 32), near - np.uint64(1 << 32), near)

    def _numbers(self, entry: _Entry, directory: int) -> NDArray[np.uint64]:
        if entry.kind not in _WHOLE:
            raise _ImplausibleError("a size in it is no whole number")
        if entry.count > _MAX_TILES:
            raise _ImplausibleError(f"it claims {entry.count} tiles")
        length = entry.count * _TYPE_BYTES[entry.kind]
        raw = (
            entry.value
            if length <= self.word_bytes
            else self._read(self._place(entry.value, directory), length)
        )
        return np.frombuffer(raw[:length], self.order + _WHOLE[entry.kind]).astype(np.uint64)

    def _check(self, at: int, entries: dict[int, _Entry]) -> list[int]:
        """Check one directory; return where the directories below it are."""

        def one(tag: int, otherwise: int) -> int:
            if tag not in entries or not len(numbers := self._numbers(entries[tag], at)):
                return otherwise
            return int(numbers[0])

        width, height = one(_WIDTH, 0), one(_LENGTH, 0)
        if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
            raise _ImpossibleError(f"a picture in it is said to be {width} x {height} px")
        samples, planes = one(_SAMPLES, 1), one(_PLANAR, 1)
        bits = int(self._numbers(entries[_BITS], at).max(initial=1)) if _BITS in entries else 1
        if not 1 <= samples <= 64 or bits > 64 or planes not in (1, 2):
            raise _ImplausibleError(f"a pixel in it is said to have {samples} x {bits} bits")
        for tag in (_DESCRIPTION, _XMP, _TABLES):
            if tag in entries and entries[tag].count * _TYPE_BYTES[entries[tag].kind] > _MAX_TEXT:
                raise _ImplausibleError("a text in it is too long")
        self._note_xml(entries, at)
        tiled = _TILE_WIDTH in entries or _TILE_LENGTH in entries
        if tiled:
            across, down = one(_TILE_WIDTH, 0), one(_TILE_LENGTH, 0)
        else:
            across, down = width, min(one(_ROWS, height) or height, height)
        if min(across, down) < 1:
            raise _ImplausibleError("its tiles have no size")
        decoded = across * down * -(-(samples if planes == 1 else 1) * bits // 8)
        if decoded > _MAX_TILE_BYTES and not self.ndpi:  # an NDPI level is one strip, read in parts
            raise _ImplausibleError(f"a tile in it is said to be {across} x {down} px")
        expected = -(-width // across) * -(-height // down) * (samples if planes == 2 else 1)
        self._check_tiles(at, entries, tiled, expected, decoded)
        return [int(p) for p in self._numbers(entries[_SUB], at)] if _SUB in entries else []

    def _check_tiles(
        self, at: int, entries: dict[int, _Entry], tiled: bool, expected: int, decoded: int
    ) -> None:
        places, lengths = (_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)
        if places not in entries or lengths not in entries:
            raise _ImplausibleError("a picture in it has no tiles")
        starts, counts = self._numbers(entries[places], at), self._numbers(entries[lengths], at)
        if len(starts) != len(counts) or len(starts) != expected:
            raise _ImplausibleError(f"a picture in it has {len(starts)} tiles where {expected} cover it")
        if self.ndpi:
            starts = self._near(starts, at)
        limit = np.uint64(self.size)
        if (counts > limit).any() or (starts > limit).any() or (starts + counts > limit).any():
            raise _ImplausibleError("a tile in it lies behind its end")
        # No codec makes twice of what it is given; a count beyond that is memory taken for nothing.
        if (counts > np.uint64(2 * decoded + (1 << 16))).any():
            raise _ImplausibleError("a tile in it is said to be larger than its pixels")

    def _note_xml(self, entries: dict[int, _Entry], at: int) -> None:
        if _XMP in entries:
            self.xml = True
        entry = entries.get(_DESCRIPTION)
        if entry is not None and entry.count > self.word_bytes:
            head = self._read(self._place(entry.value, at), min(entry.count, 64)).lstrip(
                b"\xef\xbb\xbf \r\n\t"
            )
            self.xml = self.xml or head.startswith(_XML_VENDORS)


def declared_px(tile: bytes) -> tuple[int, int] | None:
    """Return (width, height) that a JPEG or JPEG 2000 says of itself, for which a codec allocates; None for neither."""
    if tile.startswith(b"\xff\xd8"):
        at = 2
        while at + 9 <= len(tile) and tile[at] == 0xFF:
            marker = tile[at + 1]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack_from(">HH", tile, at + 5)
                return width, height
            at += 2 + struct.unpack_from(">H", tile, at + 2)[0]
        return None
    at = tile.find(b"\xff\x4f\xff\x51", 0, 1024)
    if at < 0 or at + 24 > len(tile):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", tile, at + 8)
    return right - left, bottom - top
