"""What a TIFF says of its pictures: read from its directories alone, before any library decodes a pixel.

Only what is needed to tell an 8-bit colour slide from anything else. Directories, entries and values are bounded, a chain of
directories that turns in a circle ends; nothing of this allocates by what a file declares.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAX_PAGES = 4096
_MAX_ENTRIES = 1024
_MAX_TEXT = 16 << 20  # the OME-XML of a plate; a slide's has some thousand characters
_OTHER_TEXT = 4096  # of the pages after the first: enough for their kind
_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _TEXT = 256, 257, 258, 259, 262, 270
_SAMPLES, _ROWS_PER_STRIP, _X_RESOLUTION, _Y_RESOLUTION, _PLANAR, _UNIT = 277, 278, 282, 283, 284, 296
_SUBFILE, _TILE_WIDTH, _TILE_HEIGHT, _SUB_IFDS, _FORMAT, _NDPI_LENS = 254, 322, 323, 330, 339, 65421
_WANTED = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _TEXT, _SAMPLES, _ROWS_PER_STRIP, _X_RESOLUTION, _Y_RESOLUTION,
    _PLANAR, _UNIT, _SUBFILE, _TILE_WIDTH, _TILE_HEIGHT, _SUB_IFDS, _FORMAT, _NDPI_LENS,
}  # fmt: skip


@dataclass(frozen=True)
class TiffPage:
    """One directory of a TIFF.

    Attributes
    ----------
    offset : of the directory, in bytes.   width, height : px.   bits : of one sample, the largest.
    samples : values of a pixel.   sample_format : 1 unsigned, 2 signed, 3 floating.
    photometric, compression : the numbers of TIFF 6.0; photometric is None where the file states none.
    planar : the colours are stored one after the other.   tile : (width, height), or None for strips of ``rows`` rows.
    reduced : a smaller copy of another page.   text : ImageDescription (its beginning, after the first page).
    resolution : (x, y) px per unit, 0 where the file has none.   unit : 1 none, 2 inch, 3 cm, 4 mm, 5 µm.
    pyramid : it has levels of its own (SubIFDs).   ndpi_lens : Hamamatsu's objective; below 0 a picture of the whole glass.
    """

    offset: int
    width: int
    height: int
    bits: int = 1
    samples: int = 1
    sample_format: int = 1
    photometric: int | None = None
    compression: int = 1
    planar: bool = False
    tile: tuple[int, int] | None = None
    rows: int = 0
    reduced: bool = False
    text: str = ""
    resolution: tuple[float, float] = (0.0, 0.0)
    unit: int = 2
    pyramid: bool = False
    ndpi_lens: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def segment_bytes(self) -> int:
        """Bytes that are decoded at once: one tile or one strip, of all colors or, planar, of one."""
        width, height = self.tile or (self.width, self.rows)
        return width * height * (1 if self.planar else self.samples)


@dataclass(frozen=True)
class _Style:
    """Byte order and the widths of a classic, a big or an NDPI TIFF."""

    order: str
    word: str
    count: str
    entry: int


def read_pages(path: Path) -> tuple[TiffPage, ...]:
    """Return the pages of a TIFF that can be read; none for another file, or where the first directory is damaged."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(132)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16 or head[128:132] == b"DICM":
            return ()
        version = struct.unpack(order + "H", head[2:4])[0]
        if version == 43:
            style, offset = _Style(order, "Q", "Q", 20), struct.unpack(order + "Q", head[8:16])[0]
        elif version == 42:
            style, offset = _Style(order, "I", "H", 12), struct.unpack(order + "I", head[4:8])[0]
            if path.suffix.lower() == ".ndpi" and size > 1 << 32:
                offset = struct.unpack(order + "Q", head[4:12])[0]  # NDPI has eight bytes there
        else:
            return ()
        # The directories of an NDPI above 4 GB are linked by words of another width; the first tells enough.
        limit = 1 if size > 1 << 32 and version == 42 else _MAX_PAGES
        return tuple(_chain(stream, style, offset, size, limit))


def _chain(stream: BinaryIO, style: _Style, offset: int, size: int, limit: int) -> list[TiffPage]:
    pages: list[TiffPage] = []
    seen: set[int] = set()
    count_size, word_size = struct.calcsize(style.count), struct.calcsize(style.word)
    while 0 < offset < size and offset not in seen and len(pages) < limit:
        seen.add(offset)
        stream.seek(offset)
        raw = stream.read(count_size)
        if len(raw) < count_size:
            break
        entries = struct.unpack(style.order + style.count, raw)[0]
        if not 0 < entries <= _MAX_ENTRIES:
            break
        directory = stream.read(entries * style.entry + word_size)
        if len(directory) < entries * style.entry:
            break
        page = _page(stream, style, directory, entries, offset, first=not pages)
        if page is not None:
            pages.append(page)
        tail = directory[entries * style.entry :]
        offset = struct.unpack(style.order + style.word, tail)[0] if len(tail) == word_size else 0
    return pages


def _page(
    stream: BinaryIO, style: _Style, directory: bytes, entries: int, offset: int, *, first: bool
) -> TiffPage | None:
    found: dict[int, tuple[float, ...] | bytes] = {}
    for number in range(entries):
        entry = directory[number * style.entry : (number + 1) * style.entry]
        tag, kind = struct.unpack(style.order + "HH", entry[:4])
        if tag in _WANTED:
            value = _value(stream, style, tag, kind, entry, _MAX_TEXT if first else _OTHER_TEXT)
            if value:
                found[tag] = value

    def whole(tag: int, default: int) -> int:
        value = found.get(tag)
        return int(value[0]) if isinstance(value, tuple) else default

    def ratio(tag: int) -> float:
        value = found.get(tag)
        if isinstance(value, tuple) and len(value) >= 2 and value[1]:
            return value[0] / value[1]
        return 0.0

    width, height = whole(_WIDTH, 0), whole(_HEIGHT, 0)
    if width < 1 or height < 1:
        return None
    bits, text, formats = found.get(_BITS), found.get(_TEXT, b""), found.get(_FORMAT)
    lens = found.get(_NDPI_LENS)
    tiled = _TILE_WIDTH in found and _TILE_HEIGHT in found
    return TiffPage(
        offset,
        width,
        height,
        bits=int(max(bits)) if isinstance(bits, tuple) else 1,
        samples=whole(_SAMPLES, 1),
        sample_format=int(max(formats)) if isinstance(formats, tuple) else 1,
        photometric=whole(_PHOTOMETRIC, -1) if _PHOTOMETRIC in found else None,
        compression=whole(_COMPRESSION, 1),
        planar=whole(_PLANAR, 1) == 2 and whole(_SAMPLES, 1) > 1,
        tile=(whole(_TILE_WIDTH, 0), whole(_TILE_HEIGHT, 0)) if tiled else None,
        rows=min(whole(_ROWS_PER_STRIP, height), height),
        reduced=bool(whole(_SUBFILE, 0) & 1),
        text=text.split(b"\0")[0].decode("utf-8", "replace") if isinstance(text, bytes) else "",
        resolution=(ratio(_X_RESOLUTION), ratio(_Y_RESOLUTION)),
        unit=whole(_UNIT, 2),
        pyramid=_SUB_IFDS in found,
        ndpi_lens=float(lens[0]) if isinstance(lens, tuple) else 0.0,
    )


def _value(
    stream: BinaryIO, style: _Style, tag: int, kind: int, entry: bytes, longest: int
) -> tuple[float, ...] | bytes | None:
    """Return the values of one entry, the first 16; bytes for text; None for a kind that is not known."""
    word_size = struct.calcsize(style.word)
    count = struct.unpack(style.order + style.word, entry[4 : 4 + word_size])[0]
    if kind == 11:
        letter = "f"  # NDPI's lens
    elif kind in _TYPES:
        letter = _TYPES[kind]
    else:
        return None
    text = tag == _TEXT
    width = 1 if letter == "s" else struct.calcsize("=" + letter)
    count = min(count, longest if text else 16)
    length, inline = count * width, entry[4 + word_size :]
    if length > word_size:
        stream.seek(min(struct.unpack(style.order + style.word, inline)[0], (1 << 63) - 1))
        raw = stream.read(length)
    else:
        raw = inline[:length]
    if text or letter == "s":
        return raw
    if len(raw) < length:
        return None
    return struct.unpack(style.order + letter * count, raw)
