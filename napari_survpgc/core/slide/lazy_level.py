"""One level of a slide as an array that reads what is asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .slide import Slide


class LazyLevel:
    """One level as an array-like (h, w, 3) uint8 that reads only what is asked for; for viewers."""

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, slide: Slide, level: int) -> None:
        self._slide, self._level = slide, level
        width, height = slide.info.levels[level].size
        self.shape = (height, width, 3)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy level is always read into a new array")
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (4 - len(keys))
        keys += [slice(None)] * (3 - len(keys))
        if len(keys) != 3:
            raise IndexError(f"too many indices for an array of {self.ndim} dimensions")
        rows, columns = (_span(k, n) for k, n in zip(keys[:2], self.shape[:2], strict=True))
        block = self._block(rows, columns)
        inner = [0 if isinstance(k, (int, np.integer)) else slice(None, None, k.step) for k in keys[:2]]
        return block[inner[0], inner[1]][..., keys[2]]

    def _block(self, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
        return self._slide.read_level(
            columns[0], rows[0], self._level, (columns[1] - columns[0], rows[1] - rows[0])
        )


def _span(key: Any, length: int) -> tuple[int, int]:
    if isinstance(key, (int, np.integer)):
        index = int(key) + length if key < 0 else int(key)
        if not 0 <= index < length:
            raise IndexError(f"index {key} is out of range for {length} px")
        return index, index + 1
    start, stop, step = key.indices(length)
    if step < 1:
        raise IndexError("a lazy level is read forwards only")
    return start, max(start, stop)
