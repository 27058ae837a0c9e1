"""Every stored level of a slide, as the window shows it, pixel by pixel against OpenSlide and tifffile.

``python -m tests.formats.compare_levels SLIDE...`` prints a line a level: the share of pixels that differ. A gigapixel level takes
minutes; ``--side N`` looks at the N x N px from the corner of each level on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.slide import Slide, open_slide
from napari_survpgc.core.slide.tiles import TileCache, tiled_levels

_BAND = 2048


@dataclass(frozen=True)
class LevelDifference:
    """How one stored level differs, as shares of its pixels; None where a library has no such level to compare with."""

    level: int
    size: tuple[int, int]
    openslide: float | None
    tifffile: float | None


def compare_levels(path: Path, side: int | None = None) -> list[LevelDifference]:
    """Compare the stored levels of a slide, or their first ``side`` x ``side`` px, in bands of 2048 px."""
    with open_slide(path) as slide:
        cache = TileCache(slide, max_bytes=64 << 20)
        try:
            shown = tiled_levels(cache)
            return [
                _compare(slide, number, shown[number], side)
                for number, level in enumerate(slide.info.levels)
                if level.stored
            ]
        finally:
            cache.close()


def _compare(slide: Slide, number: int, shown: Any, side: int | None) -> LevelDifference:
    width, height = (min(n, side or n) for n in slide.info.levels[number].size)
    found: dict[str, float | None] = {}
    for name, read in (
        ("openslide", _openslide(slide, number, width)),
        ("tifffile", _tifffile(slide, number)),
    ):
        wrong = 0
        if read is not None:
            for top in range(0, height, _BAND):
                rows = min(_BAND, height - top)
                wrong += int((shown[top : top + rows, :width] != read(top, rows, width)).any(-1).sum())
        found[name] = None if read is None else wrong / (width * height)
    return LevelDifference(number, slide.info.levels[number].size, **found)


def _openslide(slide: Slide, number: int, width: int) -> Any:
    """Return a reader of bands. Only from the corner on is OpenSlide exact in levels whose px fall between those of level 0."""
    if slide.info.backend != "openslide":
        return None
    level = slide.info.levels[number]
    whole = level.size[0] * level.size[1] <= 64 << 20
    if level.downsample % 1 and not whole:
        return None
    if level.downsample % 1:
        pixels = slide.read_region(0, 0, number, level.size)
        return lambda top, rows, wide: pixels[top : top + rows, :wide]
    return lambda top, rows, wide: slide.read_region(0, round(top * level.downsample), number, (wide, rows))


def _tifffile(slide: Slide, number: int) -> Any:
    """Return a reader of bands from the page of that size; None where there is none, or several."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    path = slide.info.path
    if path.is_dir():
        return None
    try:
        with tifffile.TiffFile(path) as file:
            pages = list(_colors(file, slide.info.levels[number].size))
            if len(pages) != 1:
                return None
            pixels: NDArray[np.uint8] = pages[0].asarray()
    except tifffile.TiffFileError:
        return None
    if pages[0].planarconfig == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    return lambda top, rows, wide: pixels[top : top + rows, :wide, :3]


def _colors(file: Any, size: tuple[int, int]) -> Iterator[Any]:
    for page in file.pages:
        for one in (page, *(page.pages or ())):
            if (one.imagewidth, one.imagelength) == size and one.samplesperpixel >= 3:
                yield one


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", nargs="+", type=Path)
    parser.add_argument("--side", type=int)
    chosen = parser.parse_args()
    for one in chosen.slides:
        for difference in compare_levels(one, chosen.side):
            print(one.name, difference)
