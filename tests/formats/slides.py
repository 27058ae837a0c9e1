"""Slides: what opens, and with which sentence the others are refused."""

from __future__ import annotations

from pathlib import Path

from napari_survpgc.core.slide import open_slide
from tests.builders import tissue_image, write_tiff

from .case import Case


def _open(path: Path) -> str:
    with open_slide(path) as slide:
        info = slide.info
        slide.read_region(0, 0, len(info.levels) - 1, (64, 64))
    stored = sum(level.stored for level in info.levels)
    size = f"{info.mpp:.4g} µm/px" if info.mpp else "pixel size asked for"
    return f"{info.size[0]} x {info.size[1]} px, {stored} level{'s' * (stored > 1)}, {size} ({info.backend})"


CASES = [
    Case(
        "TIFF, tiled, RGB, pyramid",
        "libvips, QuPath",
        _open,
        "900 x 700 px, 2 levels, 0.5 µm/px (openslide)",
        write=lambda folder: write_tiff(folder / "slide.tif", tissue_image(700, 900), levels=2),
    ),
]
