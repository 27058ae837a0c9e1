"""TIFF layouts that neither OpenSlide nor tiffslide reads, or not at a bearable cost: colours one after the other, huge strips.

A strip that holds most of a picture would be decoded again for every patch. Where the picture fits into memory it is decoded
once; uncompressed pixels are read where they lie; else it is refused before anything is allocated.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.errors import SlideError

from .pixel_kinds import EXPORT
from .tiff import TiffPage

LARGE_SEGMENT = 16 << 20
"""Bytes of a tile or strip from which decoding it for every patch is not bearable: about 0.1 s."""
MAX_DECODED = 1 << 30
"""Bytes of a picture that is decoded as a whole, about 18,900 x 18,900 px."""


class PlainTiff:
    """One picture of a TIFF with its levels; the part of OpenSlide's interface that slides need. Safe in several threads.

    Parameters
    ----------
    path : of the file.   page : its picture, 8-bit RGB or RGBA.

    Raises
    ------
    SlideError : the picture is too large to be decoded at once, or the layout is not known.
    """

    def __init__(self, path: Path, page: TiffPage) -> None:
        import tifffile

        self._path = path
        self._file = tifffile.TiffFile(path)
        self._lock = threading.Lock()
        self._arrays: dict[int, Any] = {}
        try:
            series = next((s for s in self._file.series if s.levels[0].keyframe.offset == page.offset), None)
            if series is None or series.keyframe.dtype != np.uint8:
                raise SlideError(f"{path.name} is a TIFF of a layout that is not read", EXPORT)
            self._levels = [level for level in series.levels if level.axes in ("YXS", "SYX", "CYX")]
            if len(series) != 1 or not self._levels or self._levels[0] is not series.levels[0]:
                raise SlideError(f"{path.name} is a TIFF of a layout that is not read", EXPORT)
            self.level_dimensions = tuple(self._size(level) for level in self._levels)
            self._check_cost(page)
        except BaseException:
            self._file.close()
            raise
        self.dimensions = self.level_dimensions[0]
        width, height = self.dimensions
        self.level_downsamples = tuple((width / w + height / h) / 2 for w, h in self.level_dimensions)
        self.properties = {"tiffslide.vendor": "generic-tiff", "tiff.ImageDescription": page.text}

    @staticmethod
    def _size(level: Any) -> tuple[int, int]:
        height, width = level.shape[:2] if level.axes == "YXS" else level.shape[1:]
        return int(width), int(height)

    def _check_cost(self, page: TiffPage) -> None:
        if any(w > page.width or h > page.height for w, h in self.level_dimensions):
            raise SlideError(f"{self._path.name} is a TIFF of a layout that is not read", EXPORT)
        segment = page.segment_bytes
        lies_open = page.compression == 1 and page.tile is None
        # What is decoded at once: a segment or, where that would be too slow for every patch, all of them together.
        decoded = (
            segment if segment <= LARGE_SEGMENT else max(segment, page.width * page.height * page.samples)
        )
        if lies_open or decoded <= MAX_DECODED:
            return
        raise SlideError(
            f"{self._path.name} is stored in {'strips' if page.tile is None else 'tiles'} of"
            f" {segment / 2**20:,.0f} MB that would be decoded again for every patch, and as a whole"
            f" ({decoded / 2**30:.1f} GB) it is too large for memory",
            EXPORT,
        )

    def close(self) -> None:
        with self._lock:
            self._arrays.clear()
            self._file.close()

    def read_level(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        """Return part of a level, all of it inside; ``x``, ``y`` in px of that level."""
        array, axes = self._array(level), self._levels[level].axes
        rows, columns = slice(y, y + size[1]), slice(x, x + size[0])
        if axes == "YXS":
            return Image.fromarray(np.ascontiguousarray(array[rows, columns]))
        return Image.fromarray(np.ascontiguousarray(np.moveaxis(np.asarray(array[:, rows, columns]), 0, -1)))

    def _array(self, level: int) -> Any:
        """Return a level as something that is sliced: the file itself, decoded pixels, or tiles decoded when asked for."""
        with self._lock:
            if level not in self._arrays:
                self._arrays[level] = self._opened(self._levels[level])
            return self._arrays[level]

    def _opened(self, level: Any) -> NDArray[np.uint8] | Any:
        page = level.keyframe
        if page.is_memmappable and page.dataoffsets:
            return np.memmap(self._path, np.uint8, "r", page.dataoffsets[0], level.shape)
        segment = int(np.prod(page.chunks))
        if segment > LARGE_SEGMENT and level.size <= MAX_DECODED:
            return level.asarray(maxworkers=1)
        import zarr

        return zarr.open_array(level.pages[0].aszarr(), mode="r", zarr_format=2)
