"""Where the regions of a simulated section lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .histology import COARSE, Histology, Region
from .noise import smooth_noise


def region_map(histology: Histology, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y = (rows - shape[0] / 2) / (shape[0] / 2)
    x = (columns - shape[1] / 2) / (shape[1] / 2)
    outline = 1.0 - np.hypot(x / 0.93, y / 0.93) ** 2.6
    tissue = outline + 0.13 * smooth_noise(shape, 36, rng) + 0.05 * smooth_noise(shape, 9, rng) > 0.04
    tissue = ndimage.binary_fill_holes(ndimage.binary_opening(tissue, iterations=2))
    regions = np.where(tissue, Region.STROMA, Region.GLASS).astype(np.uint8)

    # One side of the section is normal: glands and fat; the rest is the tumor bed.
    angle = rng.uniform(0, 2 * np.pi)
    side = x * np.cos(angle) + y * np.sin(angle) + 0.18 * smooth_noise(shape, 40, rng)
    normal = tissue & (side > np.quantile(side[tissue], 0.80))
    fat_field = smooth_noise(shape, 26, rng)
    regions[normal] = Region.NORMAL_GLANDS
    fat = normal & (fat_field > np.quantile(fat_field[normal], 0.5))
    regions[fat] = Region.FAT

    bed = tissue & ~normal
    nests = smooth_noise(shape, 20, rng) + 0.45 * smooth_noise(shape, 7, rng)
    tumor = bed & (nests > np.quantile(nests[bed], 0.40))
    regions[tumor] = Region.TUMOR
    if histology.lymphocytes > 0.005:
        # Aggregates prefer the rim of the nests.
        rim = np.abs(nests - np.quantile(nests[bed], 0.40))
        field = 1.1 * smooth_noise(shape, 11, rng) - 0.7 * rim
        regions[bed & (field > np.quantile(field[bed], 1 - histology.lymphocytes))] = Region.LYMPHOCYTES
    if histology.necrosis > 0.005:
        # Necrosis lies in the middle of large nests, away from the vessels of the stroma.
        field = smooth_noise(shape, 22, rng) + 0.8 * ndimage.gaussian_filter(tumor.astype(np.float32), 6)
        regions[bed & (field > np.quantile(field[bed], 1 - histology.necrosis))] = Region.NECROSIS
    _place_vessels(regions, rng)
    return regions


def _place_vessels(regions: NDArray[np.uint8], rng: np.random.Generator) -> None:
    stroma = np.argwhere(ndimage.binary_erosion(regions == Region.STROMA, iterations=2))
    count = min(len(stroma), max(3, int((regions > 0).sum() / 1800)))
    if count == 0:
        return
    rows, columns = np.ogrid[: regions.shape[0], : regions.shape[1]]
    for row, column in rng.permutation(stroma)[:count]:
        radius = rng.uniform(2.2, 4.5)
        regions[((rows - row) ** 2 + (columns - column) ** 2 < radius**2) & (regions == Region.STROMA)] = (
            Region.VESSEL
        )


def upsample_labels(
    regions: NDArray[np.uint8], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Look the coarse map up at displaced coordinates, so that borders wave at the scale of cells."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None] / COARSE - 0.5
    columns = np.arange(shape[1], dtype=np.float32)[None, :] / COARSE - 0.5
    bend = 0.75 * smooth_noise(shape, 34, rng) + 0.30 * smooth_noise(shape, 12, rng)
    sway = 0.75 * smooth_noise(shape, 34, rng) + 0.30 * smooth_noise(shape, 12, rng)
    r = np.clip(np.rint(rows + bend), 0, regions.shape[0] - 1).astype(np.int32)
    c = np.clip(np.rint(columns + sway), 0, regions.shape[1] - 1).astype(np.int32)
    return regions[r, c]
