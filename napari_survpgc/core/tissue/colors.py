"""What a pixel of a low-resolution picture is by its color: stained tissue, ink, glass.

Colors are optical densities (absorbances) relative to the slide's own glass, and what decides are their ratios: ratios
belong to a dye, whatever its thickness (Beer-Lambert), and hold from scanner to scanner where RGB thresholds do not.
Measured at 8 µm per px, as red/green and blue/green (5th to 95th percentile): H&E of nine slides 0.14-0.85 and
0.51-0.70; red ink 0.07-0.34 and 0.66-0.88; black ink 0.88-0.96 and 1.08-1.17; green ink 2.2-4.4 and 1.0-1.4; blue ink
1.3-1.65 and 0.05-0.3; melanin and other brown 0.5-0.75 and above 1.1.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_BAND_PX = 1 << 17  # pixels classified at once: the arrays of a band stay in the processor's cache
_HALO = 4  # rows around a band that smoothing (2) and roughness (2 more) look at
WHITE = 245.0
_STEPS, _LEAST = 1500, 0.1  # densities as whole numbers of 12 bits
_USUAL_EOSIN = 0.58
_STAINED, _PALE = np.uint8(1 << 6), np.uint8(1 << 7)


class Ink(IntEnum):
    """Kinds of ink; the value is the place of their two bits in :attr:`PixelKinds.flags`."""

    COLORED = 0  # blue, green
    RED = 2
    BLACK = 4


class Surely(IntEnum):
    """How sure it is that a pixel is ink: right beside a mark, on a slide that has a mark, in any case."""

    BESIDE = 1
    LIKELY = 2
    MIDDLE = 3


@dataclass(frozen=True)
class PixelKinds:
    """What the pixels of one picture are.

    Attributes
    ----------
    flags : (h, w) uint8, eight bits a pixel, since large slides have twelve million of them.
    """

    flags: NDArray[np.uint8]

    @property
    def stained(self) -> NDArray[np.bool_]:
        """In the colors of H&E, or dense and rough."""
        return (self.flags & _STAINED) != 0

    @property
    def pale(self) -> NDArray[np.bool_]:
        """With so little color that it may as well be the edge of a coverslip."""
        return (self.flags & _PALE) != 0

    def ink(self, kind: Ink, surely: Surely) -> NDArray[np.bool_]:
        """Ink at least as surely: its thin edge, its dry strokes, the middle of a mark."""
        bits = self.flags & np.uint8(3 << kind)
        return bits >= np.uint8(surely << kind)


def pixel_kinds(image: NDArray[np.uint8]) -> PixelKinds:
    """Classify every pixel of an (h, w, 3) RGB picture at a cost linear in its pixels."""
    height, width = image.shape[:2]
    tables = _density_tables(glass_color(image))
    eosin = _own_eosin(image, tables)
    flags = np.empty((height, width), np.uint8)
    rows = max(8, _BAND_PX // width)

    def band(top: int) -> None:
        bottom = min(height, top + rows)
        above, below = max(0, top - _HALO), min(height, bottom + _HALO)
        padding = ((_HALO - (top - above), _HALO - (below - bottom)), (_HALO, _HALO), (0, 0))
        part = np.pad(image[above:below], padding, mode="edge")
        flags[top:bottom] = _classify(part, tables, eosin)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(band, range(0, height, rows)))
    return PixelKinds(flags)


def _sample(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return every second pixel along both axes, fewer of a large picture: a quarter million are enough."""
    step = max(2, round((image.shape[0] * image.shape[1]) ** 0.5 / 500))
    return image[::step, ::step].reshape(-1, 3)


def glass_color(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the color of bare glass: the most frequent of the bright, gray pixels; white when there are none."""
    flat = _sample(image)
    low, high = flat.min(1), flat.max(1)
    bright = flat[(low > 185) & (high - low < 26)]
    if len(bright) < 0.005 * len(flat):
        return np.full(3, WHITE, np.float32)
    return np.percentile(bright, 70, axis=0).astype(np.float32)


def _density_tables(glass: NDArray[np.float32]) -> list[NDArray[np.uint16]]:
    """Return the density of each value of a channel, in steps of 1/1500 from -0.1 on: 12 bits."""
    values = np.arange(256, dtype=np.float32)
    return [
        np.clip(np.round((np.log10((bare + 1) / (values + 1)) + _LEAST) * _STEPS), 0, 4095).astype(np.uint16)
        for bare in glass
    ]


def _density(steps: NDArray[np.uint16]) -> NDArray[np.float32]:
    return steps * np.float32(1 / _STEPS) - np.float32(_LEAST)


def _own_eosin(image: NDArray[np.uint8], tables: list[NDArray[np.uint16]]) -> float:
    """Return the median blue/green of what has the colors of H&E; what is usual where there is little of it."""
    flat = _sample(image)
    red, green, blue = (_density(table.take(flat[:, channel])) for channel, table in enumerate(tables))
    usual = (
        (green > 0.08) & (red > 0.15 * green) & (red < green) & (blue > 0.4 * green) & (blue < 0.72 * green)
    )
    if usual.sum() < max(100, 0.005 * len(flat)):
        return _USUAL_EOSIN
    return float(np.median(blue[usual] / green[usual]))


def _smooth(steps: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the density smoothed by a Gaussian of 1 px (binomial 1 4 6 4 1), two px smaller on every side."""
    four, six = np.uint16(4), np.uint16(6)  # 16 times 12 bits are 16 bits
    rows = (steps[:-4] + steps[4:]) + (steps[1:-3] + steps[3:-1]) * four + steps[2:-2] * six
    rows >>= four
    both = (rows[:, :-4] + rows[:, 4:]) + (rows[:, 1:-3] + rows[:, 3:-1]) * four + rows[:, 2:-2] * six
    return both * np.float32(1 / 16 / _STEPS) - np.float32(_LEAST)


def _classify(part: NDArray[np.uint8], tables: list[NDArray[np.uint16]], eosin: float) -> NDArray[np.uint8]:
    """Return the flags (h, w), see :class:`PixelKinds`, of a picture with ``_HALO`` more px on every side."""
    densities = [table.take(part[..., channel]) for channel, table in enumerate(tables)]
    inner = slice(_HALO - 2, -(_HALO - 2))
    red, green, blue = (_smooth(density[inner, inner]) for density in densities)
    mean = (red + green + blue) * np.float32(1 / 3)
    # H&E absorbs green most: hematoxylin red > blue, eosin blue >= red. Gray dirt and shadow absorb all alike.
    chroma = green - np.minimum(red, blue)
    stained = (chroma > 0.028) & (green > 0.035) & (green >= 0.82 * red) & (green >= 0.85 * blue)
    # Bluish scanners show hematoxylin with more red than green; it is no ink as long as it absorbs blue as well.
    stained &= (green >= 0.92 * red) | ((blue > 0.4 * green) & (mean > 0.1))
    dense = (mean > 0.14) & (mean < 0.75) & ~stained
    if dense.any():
        # Crushed or very dark hematoxylin is nearly gray-blue, and melanin brown, but dense and rough, unlike a shadow.
        # What absorbs blue as much as green and red is neither, but black ink or dirt.
        bluish = (green >= 0.8 * red) & (blue < 0.9 * green)
        brown = (red < 0.75 * green) & (blue > green) & (blue < 2.2 * green)
        dense &= bluish | brown
        if dense.any():
            dense &= _roughness(densities) > 0.045
            stained |= dense
    flags = _ink(red, green, blue, mean, eosin)
    flags |= stained.view(np.uint8) << np.uint8(6)
    flags |= (chroma < 0.12).view(np.uint8) << np.uint8(7)
    return flags


def _roughness(densities: list[NDArray[np.uint16]]) -> NDArray[np.float32]:
    """Return the standard deviation of the mean density over 5 x 5 px."""
    red, green, blue = (_density(steps) for steps in densities)
    density = (red + green + blue) * np.float32(1 / 3)
    mean = ndimage.uniform_filter(density, 5)
    square = ndimage.uniform_filter(density * density, 5)
    inner = slice(_HALO, -_HALO)
    return np.asarray(np.sqrt(np.clip(square - mean * mean, 0, None))[inner, inner])


def _ink(
    red: NDArray[np.float32],
    green: NDArray[np.float32],
    blue: NDArray[np.float32],
    mean: NDArray[np.float32],
    eosin: float,
) -> NDArray[np.uint8]:
    """Return the flags of colored, red and black ink.

    Parameters
    ----------
    eosin : blue/green of the slide's own tissue; red ink is told from it by absorbing more blue.
    """
    flags = np.zeros(red.shape, np.uint8)

    def mark(kind: Ink, beside: NDArray[np.bool_], *surer: NDArray[np.bool_]) -> None:
        """Count how many of the masks hold, each within the one before."""
        for mask in (beside, *surer):
            flags[:] += mask.view(np.uint8) << np.uint8(kind)

    beside = (red > 1.1 * green) & (red > 0.03)
    if beside.any():
        # Hematoxylin has red/green to 1.2 on bluish scanners, but blue/green about 0.45; blue and green ink are far off.
        blue_ink = (red > 0.12) & (blue < 0.7 * green) & ((blue < 0.38 * green) | (red > 1.25 * green))
        green_ink = (red > green + 0.04) & (blue > green + 0.008) & (red > 0.06)
        colored = beside & (red > 1.12 * green) & (blue_ink | green_ink)
        mark(Ink.COLORED, beside, colored, colored)
    beside = (green > 0.1) & (red < 0.4 * green) & (blue > (eosin + 0.075) * green)
    if beside.any():
        # Eosin lets less red through, and more blue, than red ink, and blood lies between: only strong ink is sure.
        dry = beside & (green > 0.2) & (red < 0.27 * green) & (blue > (eosin + 0.1) * green)
        pure = ((red < 0.15 * green) & (blue > (eosin + 0.09) * green)) | (
            (red < 0.25 * green) & (blue > 0.82 * green)
        )
        wet = beside & (green > 0.45) & pure
        mark(Ink.RED, beside, dry | wet, wet)
    # Where hardly any light comes through, stray light takes the color of every ink, and of nothing that is tissue.
    darkest = (mean > 0.9) & (red > 0.8 * green) & (blue > 0.72 * green)
    gray = (
        (mean > 0.05)
        & (red > 0.78 * green)
        & (red < 1.3 * green)
        & (blue > 0.85 * green)
        & (blue < 1.5 * green)
    )
    gray |= darkest
    black = gray & ((mean > 0.3) | darkest)
    mark(Ink.BLACK, gray, black, black)
    return flags
