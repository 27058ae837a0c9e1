"""The tiles of a TIFF slide as they are stored, decoded without a detour.

OpenSlide copies every tile into a picture with transparency and that into the region asked for, which costs four times
the decoding (a 240-px JPEG tile of an SVS: 1.6 ms, decoded alone 0.3 ms). For display the stored tiles are enough. They
are used only where they give the same pixels as OpenSlide, which is tried out on the slide itself when it is opened.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import SlideError

from .slide import Slide
from .structure import declared_px

_VENDORS = ("aperio", "generic-tiff")  # a level is one directory of tiles, from the corner on
_TILE_PX = (128, 1024)
# tifffile's numbers: none, LZW, deflate and PackBits make no more of a tile than its side allows.
_BOUNDED = (1, 5, 8, 32946, 32773)
_JPEGS = (6, 7, 33003, 33004, 33005, 34712)


@dataclass(frozen=True)
class _Directory:
    """One level: its tiles row by row."""

    side: int
    columns: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    decode: Callable[..., tuple[Any, ...]]
    says_its_size: bool  # JPEG and JPEG 2000, whose codecs allocate what the tile itself says


class StoredTiles:
    """See the module's docstring. Safe in several threads; make it with :func:`stored_tiles`."""

    def __init__(self, path: Path, directories: dict[int, _Directory]) -> None:
        self._directories = directories
        self._file: BinaryIO | None = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            file.close()

    def side(self, level: int) -> int | None:
        """Return the side in px of the square tiles of a stored level; None where they are not to be used."""
        directory = self._directories.get(level)
        return None if directory is None else directory.side

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8] | None:
        """Return (height, width, 3) of a stored level, (x, y) in its px and all of it inside.

        None when a tile is missing, damaged or the file closed: OpenSlide knows what to make of that.
        """
        directory = self._directories[level]
        side = directory.side
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // side, (y + height - 1) // side + 1):
            for column in range(x // side, (x + width - 1) // side + 1):
                tile = self._tile(directory, row * directory.columns + column)
                if tile is None:
                    return None
                top, left = row * side, column * side
                y0, y1 = max(y, top), min(y + height, top + side)
                x0, x1 = max(x, left), min(x + width, left + side)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _tile(self, directory: _Directory, number: int) -> NDArray[np.uint8] | None:
        count = directory.counts[number]
        with self._lock:
            if self._file is None or count == 0:
                return None
            self._file.seek(directory.offsets[number])
            data = self._file.read(count)
        if directory.says_its_size and declared_px(data) != (directory.side, directory.side):
            return None
        try:
            decoded = directory.decode(data, number)[0]
        except Exception:  # noqa: BLE001  codecs raise anything at all on damaged data; OpenSlide reads it again and says so
            return None
        if decoded is None or decoded.dtype != np.uint8 or decoded.shape[-1] != 3:
            return None
        return np.asarray(decoded.reshape(decoded.shape[-3:]))

    def _largest(self, level: int) -> tuple[int, int]:
        """Return (column, row) of the tile with the most in it."""
        directory = self._directories[level]
        number = int(np.argmax(directory.counts))
        return number % directory.columns, number // directory.columns

    def _agrees(self, slide: Slide, level: int) -> bool:
        """Compare the first tile, and on the finest level the one with the most in it, with what OpenSlide reads."""
        width, height = slide.info.levels[slide.level_of(level)].size
        side = self._directories[level].side
        # The coarser levels cannot be asked for in their own px: level-0 px fall between theirs.
        for column, row in {(0, 0), self._largest(level)} if level == 0 else {(0, 0)}:
            x, y = column * side, row * side
            size = min(side, width - x), min(side, height - y)
            ours = self.region(level, x, y, *size)
            try:
                theirs = slide.read_region(x, y, slide.level_of(level), size)
            except SlideError:
                return False
            if ours is None or not np.array_equal(ours, theirs):
                return False
        return True


def stored_tiles(slide: Slide) -> StoredTiles | None:
    """Return the stored tiles of a slide, of those levels where they are what OpenSlide shows; None where none are."""
    info = slide.info
    if slide.isolated or info.backend != "openslide" or info.vendor not in _VENDORS:
        return None
    try:
        directories = _directories(slide)
    except Exception:  # noqa: BLE001  tifffile raises anything at all; OpenSlide has opened the slide and goes on
        return None
    if not directories:
        return None
    tiles = StoredTiles(info.path, directories)
    for level in tuple(directories):
        if not tiles._agrees(slide, level):
            del directories[level]
    if directories:
        return tiles
    tiles.close()
    return None


def _directories(slide: Slide) -> dict[int, _Directory]:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    stored = [level.size for level in slide.info.levels if level.stored]
    found: dict[int, _Directory] = {}
    with tifffile.TiffFile(slide.info.path) as file:
        for page in file.pages:
            size = (page.imagewidth, page.imagelength)
            if not page.is_tiled or size not in stored or stored.count(size) > 1:
                continue
            page = page.aspage()
            side, height = page.tile[::-1][:2]
            plain = page.samplesperpixel == 3 and page.planarconfig == 1 and page.bitspersample == 8
            if page.compression not in _BOUNDED + _JPEGS:
                continue
            if not plain or side != height or not _TILE_PX[0] <= side <= _TILE_PX[1]:
                continue
            columns, rows = -(-size[0] // side), -(-size[1] // side)
            if len(page.dataoffsets) != columns * rows:
                continue
            tables, header, decode = page.jpegtables, page.jpegheader, page.decode
            found[stored.index(size)] = _Directory(
                side,
                columns,
                tuple(page.dataoffsets),
                tuple(page.databytecounts),
                lambda data, number, d=decode, t=tables, h=header: d(
                    data, number, jpegtables=t, jpegheader=h
                ),
                page.compression in _JPEGS,
            )
    return found
