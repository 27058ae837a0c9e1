"""The whole slide as one picture of a few µm per px, read in strips by several threads.

OpenSlide decodes one tile after the other: strips side by side take both the time and the memory of the read down.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.slide.slide import Slide

_STRIP_PX = 1 << 22  # px of the stored level in a strip, 16 MB
_CLOSE = 1.02  # a level this close to the wanted size is taken as it is
_TILE_ROWS = 256


@dataclass(frozen=True)
class Overview:
    """The whole slide.

    Attributes
    ----------
    image : (h, w, 3) RGB.
    downsample : level-0 px a px of it.
    px_um : µm a px of it; about what was asked for where the slide has no pixel size.
    """

    image: NDArray[np.uint8]
    downsample: float
    px_um: float


def slide_overview(slide: Slide, um_per_px: float = 8.0) -> Overview:
    """Read a slide at about ``um_per_px``; without a pixel size with about 2,000 px on its longer side.

    Raises
    ------
    SlideError : the slide is damaged.
    """
    longest, mpp = max(slide.info.size), slide.info.mpp
    max_px = round(longest * mpp / um_per_px) if mpp else 2000
    image, downsample = _read(slide, max(64, min(max_px, longest)))
    return Overview(image, downsample, downsample * mpp if mpp else um_per_px)


def _read(slide: Slide, max_px: int) -> tuple[NDArray[np.uint8], float]:
    """Return the slide with its longer side about ``max_px``, never enlarged, and its downsample."""
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
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)), max(levels[0].size) / max(
        size
    )
