"""What a slide's file says of itself: size, levels, pixel size, bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_survpgc.core.errors import SlideError
from napari_survpgc.core.types import Level, MppSource, SlideInfo

from .backends import Handle, fingerprint
from .pixel_size import pixel_size

COARSEST_PX = 2048


def describe(path: Path, handle: Handle, mpp: float | None) -> tuple[SlideInfo, list[tuple[int, int]]]:
    slide, properties = handle.slide, handle.properties
    size = (int(slide.dimensions[0]), int(slide.dimensions[1]))
    if min(size) < 1:
        raise SlideError(f"{path.name} has no pixels", "Copy or download it again")
    levels, sources = _pyramid(slide.level_dimensions, slide.level_downsamples)
    stated = pixel_size(properties, size, handle.pages)
    if mpp is not None:
        mpp_x = mpp_y = mpp
        source: MppSource | None = MppSource.USER
    elif stated is not None:
        mpp_x, mpp_y = stated
        source = MppSource.FILE
    else:
        mpp_x = mpp_y = 0.0
        source = None
    info = SlideInfo(
        path=path,
        fingerprint=fingerprint(path),
        backend=handle.backend,
        vendor=handle.vendor or "unknown",
        size=size,
        levels=levels,
        mpp=(mpp_x + mpp_y) / 2 if source else None,
        mpp_x=mpp_x if source else None,
        mpp_y=mpp_y if source else None,
        mpp_source=source,
        bounds=_bounds(properties, size),
        background=_background(properties),
        properties=properties,
    )
    return info, sources


def _pyramid(
    sizes: Sequence[tuple[int, int]], downsamples: Sequence[float]
) -> tuple[tuple[Level, ...], list[tuple[int, int]]]:
    """Fill the gaps of a pyramid; return the levels and, for each, (stored level, reduction factor)."""
    levels: list[Level] = []
    sources: list[tuple[int, int]] = []
    for index, (size, downsample) in enumerate(zip(sizes, downsamples, strict=True)):
        levels.append(Level((int(size[0]), int(size[1])), float(downsample)))
        sources.append((index, 1))
        last = index + 1 == len(sizes)
        factor = 2
        while True:
            smaller = (int(size[0]) // factor, int(size[1]) // factor)
            # A virtual level close to the next stored one would be a step of almost nothing.
            wanted = (
                max(int(size[0]), int(size[1])) * 2 // factor > COARSEST_PX
                if last
                else downsample * factor * 1.3 < downsamples[index + 1]
            )
            if not wanted or min(smaller) < 1:
                break
            levels.append(Level(smaller, float(downsample) * factor, stored=False))
            sources.append((index, factor))
            factor *= 2
    return tuple(levels), sources


def _bounds(properties: Any, size: tuple[int, int]) -> tuple[int, int, int, int]:
    names = [f"openslide.bounds-{n}" for n in ("x", "y", "width", "height")]
    try:
        x, y, width, height = (int(properties[name]) for name in names)
    except (KeyError, ValueError):
        return (0, 0, *size)
    if width < 1 or height < 1 or x < 0 or y < 0 or x >= size[0] or y >= size[1]:
        return (0, 0, *size)
    return x, y, min(width, size[0] - x), min(height, size[1] - y)


def _background(properties: Any) -> tuple[int, int, int]:
    text = properties.get("openslide.background-color", "")
    if len(text) == 6:
        try:
            return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)
        except ValueError:
            return (255, 255, 255)
    return (255, 255, 255)
