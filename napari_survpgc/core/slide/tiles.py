"""Tiles of a slide for a viewer: read side by side, kept in memory, so that panning back reads nothing.

A viewer asks for the whole visible region again whenever it moves (napari issues 4795 and 9056); without a cache
each move decodes all of it once more.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.errors import SlideError

from .lazy_level import LazyLevel
from .slide import Slide
from .stored_tiles import stored_tiles

TILE_PX = 512
CACHE_BYTES = 384 << 20
_READERS = max(2, min(4, os.cpu_count() or 2))
DAMAGED = (200, 200, 200)
"""Color of a tile that cannot be read."""


class TileCache:
    """The tiles of all levels of one slide, the least recently used dropped first. Safe in several threads.

    A damaged tile is gray and counted in ``damaged`` instead of ending the session.
    """

    def __init__(self, slide: Slide, *, max_bytes: int = CACHE_BYTES) -> None:
        self.slide = slide
        self.damaged = 0
        self._max_bytes, self._bytes = max_bytes, 0
        self._tiles: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._stored = stored_tiles(slide)
        self._side = [self._side_of(level) for level in range(len(slide.info.levels))]

    def _side_of(self, level: int) -> int:
        """Return the side of the tiles kept of a level: about TILE_PX, and whole stored tiles."""
        side = self._stored.side(self.slide.source(level)[0]) if self._stored is not None else None
        return TILE_PX if side is None else side * max(1, round(TILE_PX / side))

    def side(self, level: int) -> int:
        """Return the side in px of the tiles of a level."""
        return self._side[level]

    def close(self) -> None:
        """Forget the tiles and stop the readers; later reads give background."""
        with self._lock:
            self._closed = True
            self._tiles.clear()
            self._bytes = 0
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        if self._stored is not None:
            self._stored.close()

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return (height, width, 3) of a level, (x, y) in px of that level and inside it."""
        out = np.empty((height, width, 3), np.uint8)
        side = self._side[level]
        wanted = [
            (level, row, column)
            for row in range(y // side, math.ceil((y + height) / side))
            for column in range(x // side, math.ceil((x + width) / side))
        ]
        for (_, row, column), tile in zip(wanted, self._get(wanted), strict=True):
            top, left = row * side, column * side
            y0, y1 = max(y, top), min(y + height, top + tile.shape[0])
            x0, x1 = max(x, left), min(x + width, left + tile.shape[1])
            out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _get(self, keys: Sequence[tuple[int, int, int]]) -> list[NDArray[np.uint8]]:
        found: dict[tuple[int, int, int], NDArray[np.uint8]] = {}
        with self._lock:
            for key in keys:
                if key in self._tiles:
                    self._tiles.move_to_end(key)
                    found[key] = self._tiles[key]
            missing = [key for key in keys if key not in found]
            if len(missing) > 1 and self._pool is None and not self._closed:
                self._pool = ThreadPoolExecutor(_READERS, "tiles")
            pool = self._pool
        if len(missing) > 1 and pool is not None:
            read = list(pool.map(self._read, missing))
        else:
            read = [self._read(key) for key in missing]
        with self._lock:
            for key, tile in zip(missing, read, strict=True):
                found[key] = tile
                if not self._closed and key not in self._tiles:
                    self._tiles[key] = tile
                    self._bytes += tile.nbytes
            while self._bytes > self._max_bytes and self._tiles:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes
        return [found[key] for key in keys]

    def _read(self, key: tuple[int, int, int]) -> NDArray[np.uint8]:
        level, row, column = key
        info, side = self.slide.info, self._side[level]
        width, height = info.levels[level].size
        size = (min(side, width - column * side), min(side, height - row * side))
        if self._closed:
            return np.full((size[1], size[0], 3), info.background, np.uint8)
        stored, factor = self.slide.source(level)
        if self._stored is not None and self._stored.side(stored) is not None:
            x, y = column * side * factor, row * side * factor
            pixels = self._stored.region(stored, x, y, size[0] * factor, size[1] * factor)
            if pixels is not None:
                return pixels if factor == 1 else np.asarray(Image.fromarray(pixels).reduce(factor))
        try:
            return self.slide.read_level(column * side, row * side, level, size)
        except SlideError:
            self.damaged += 1
            return np.full((size[1], size[0], 3), DAMAGED, np.uint8)


class TiledLevel(LazyLevel):
    """One level as an array-like that reads through a :class:`TileCache`; ``chunks`` tells viewers its tiles."""

    def __init__(self, cache: TileCache, level: int) -> None:
        super().__init__(cache.slide, level)
        self._cache = cache
        self.chunks = (cache.side(level), cache.side(level), 3)

    def _block(self, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
        return self._cache.region(
            self._level, columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0]
        )


def tiled_levels(cache: TileCache) -> list[TiledLevel]:
    """Return all levels, finest first, as array-likes for a multiscale viewer layer."""
    return [TiledLevel(cache, index) for index in range(len(cache.slide.info.levels))]
