"""The whole slide as one picture of a few µm per px, read in strips by several threads.

OpenSlide decodes one tile after the other: strips side by side take both the time and the memory of the read down.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.slide.slide import Slide

_STRIP_PX = 1 << 22  # px of the stored level in a strip, 16 MB
_CLOSE = 1.02  # a level this close to the wanted size is taken as it is
_TILE_ROWS = 256


def overview(slide: Slide, max_px: int) -> tuple[NDArray[np.uint8], float]:
    """Return (h, w, 3) of the whole slide with its longer side about ``max_px``, never enlarged, and its downsample.

    Raises
    ------
    SlideError : the slide is damaged.
    """
    levels = slide.info.levels
    wanted = max(1.0, max(levels[0].size) / max_px)
    fitting = [number for number, level in enumerate(levels) if level.downsample <= wanted * _CLOSE]
    number = fitting[-1] if fitting else 0
    level = levels[number]
    width, height = level.size
    image = np.empty((height, width, 3), np.uint8)
    factor = slide.source(number)[1]
    rows = max(1, _STRIP_PX // max(1, width * factor * factor * _TILE_ROWS // factor)) * _TILE_ROWS // factor
    workers = min(4, os.cpu_count() or 1)
    rows = max(1, min(rows, -(-height // workers)))

    def strip(top: int) -> None:
        count = min(rows, height - top)
        image[top : top + count] = slide.read_region(0, round(top * level.downsample), number, (width, count))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(strip, range(0, height, rows)))
    if level.downsample * _CLOSE >= wanted:
        return image, level.downsample
    size = max(1, round(levels[0].size[0] / wanted)), max(1, round(levels[0].size[1] / wanted))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)), max(levels[0].size) / max(size)
