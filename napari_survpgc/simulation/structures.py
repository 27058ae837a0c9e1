"""Fibers, fat, vessels, glands, folds and pen of a simulated section."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .histology import COARSE, Region
from .lattice import cell_borders, cell_centers
from .noise import resize, smooth_noise
from .stamps import add_disc, nucleus, put_stamp


def fiber_field(
    shape: tuple[int, int], flow: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return wavy collagen bundles: stretched noise, looked up along a bent coordinate system."""
    noise = np.empty((700, 700), np.float32)
    raw = rng.standard_normal((700, 700), np.float32)
    ndimage.gaussian_filter(raw, (1.1, 14), mode="wrap", output=noise)
    noise /= noise.std()
    broad = ndimage.gaussian_filter(raw, (3.5, 22), mode="wrap")
    noise = 0.65 * noise + 0.6 * broad / broad.std()
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    across = rows * 0.8 + columns * 0.35 + 55 * flow + 5 * smooth_noise(shape, 45, rng)
    along = columns * 0.8 - rows * 0.35 + 20 * smooth_noise(shape, 200, rng)
    return noise[across.astype(np.int32) % 700, along.astype(np.int32) % 700]


def draw_fat(
    fat: NDArray[np.bool_], eosin: NDArray[np.float32], hema: NDArray[np.float32], rng: np.random.Generator
) -> None:
    if not fat.any():
        return
    border = cell_borders(cell_centers(fat, 105, 0.2, rng), fat, 4, 5.0)
    wall = np.clip(border * 1.7, 0, 1) ** 3
    eosin += fat * 0.30 * wall
    hema += fat * 0.05 * wall
    for row, column in cell_centers(fat & (wall > 0.75), 90, 0.3, rng):
        put_stamp(hema, eosin, nucleus(7, 2.5, 0.6, 0.0, rng), row, column)


def draw_vessels(
    labels: NDArray[np.uint8],
    regions: NDArray[np.uint8],
    eosin: NDArray[np.float32],
    hema: NDArray[np.float32],
    blood: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    vessel = labels == Region.VESSEL
    if not vessel.any():
        return
    parts, _ = ndimage.label(vessel)
    for number, window in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[window] == number
        if inside.sum() < 600:
            continue
        depth = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1].astype(np.float32)
        wall = rng.uniform(7, 15)
        lumen = depth > wall
        eosin[window] = np.where(inside & ~lumen, 0.34 + 0.05 * np.sin(depth * 0.9), eosin[window])
        eosin[window][lumen] = 0.015
        hema[window][lumen] = 0.0
        cells = cell_centers(lumen & (depth > wall + 4), 12.5, 0.18, rng)
        full = rng.uniform(0.25, 0.95)
        canvas = np.zeros(inside.shape, np.float32)
        for row, column in cells[rng.random(len(cells)) < full]:
            add_disc(canvas, row, column, rng.uniform(5.2, 6.6), rng.uniform(0.30, 0.42))
        blood[window] += canvas * lumen
        ring = np.argwhere((depth > wall - 3) & (depth <= wall + 1))
        for row, column in rng.permutation(ring)[: max(3, len(ring) // 130)]:
            put_stamp(
                hema,
                eosin,
                nucleus(8, 3, 0.55, rng.uniform(0, np.pi), rng),
                row + window[0].start,
                column + window[1].start,
            )


def draw_glands(
    labels: NDArray[np.uint8], eosin: NDArray[np.float32], hema: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Normal glands: a round or oval lumen, tall pink cells, one row of small basal nuclei."""
    area = labels == Region.NORMAL_GLANDS
    if not area.any():
        return
    for row, column in cell_centers(ndimage.binary_erosion(area[::8, ::8], iterations=6), 17, 0.12, rng) * 8:
        outer = rng.uniform(38, 56)
        stretch, angle = rng.uniform(0.75, 1.0), rng.uniform(0, np.pi)
        reach = int(outer * 1.25)
        r0, c0 = int(row), int(column)
        window = (
            slice(max(r0 - reach, 0), min(r0 + reach, area.shape[0])),
            slice(max(c0 - reach, 0), min(c0 + reach, area.shape[1])),
        )
        dy = np.arange(window[0].start - r0, window[0].stop - r0, dtype=np.float32)[:, None]
        dx = np.arange(window[1].start - c0, window[1].stop - c0, dtype=np.float32)[None, :]
        u = dx * np.cos(angle) + dy * np.sin(angle)
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / stretch
        theta = np.arctan2(v, u)
        wobble = (
            1 + 0.05 * np.sin(3 * theta + rng.uniform(0, 6)) + 0.03 * np.sin(5 * theta + rng.uniform(0, 6))
        )
        distance = np.hypot(u, v) / wobble
        inside, lumen = distance < outer, distance < outer * rng.uniform(0.28, 0.42)
        mucin = np.clip((outer - distance) / outer, 0, 1)
        eosin[window] = np.where(inside, 0.30 - 0.10 * mucin, eosin[window])
        hema[window] = np.where(inside, 0.06, hema[window])
        eosin[window] = np.where(lumen, 0.02, eosin[window])
        hema[window] = np.where(lumen, 0.0, hema[window])
        count = int(2 * np.pi * outer / 13)
        for turn in 2 * np.pi * (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count:
            radius = outer * rng.uniform(0.80, 0.88)
            a, b = radius * np.cos(turn), radius * np.sin(turn) * stretch
            x, y = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
            put_stamp(hema, eosin, nucleus(7.5, 4.6, 0.55, turn + angle, rng), row + y, column + x)


def draw_fold(
    labels: NDArray[np.uint8],
    regions: NDArray[np.uint8],
    eosin: NDArray[np.float32],
    hema: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """A strip where the section lies double: both stains twice as dense, out of focus."""
    height, width = labels.shape
    x = np.arange(width, dtype=np.float32)
    center = rng.uniform(0.3, 0.7) * height + rng.uniform(-0.25, 0.25) * (x - width / 2)
    center += 40 * np.sin(x / rng.uniform(250, 500) + rng.uniform(0, 6))
    y = np.arange(height, dtype=np.float32)[:, None]
    strip = np.clip(1.5 - np.abs(y - center[None, :]) / rng.uniform(22, 40), 0, 1)
    strip *= labels > 0
    eosin *= 1 + 0.9 * strip
    hema *= 1 + 0.9 * strip
    regions[
        strip[COARSE // 2 :: COARSE, COARSE // 2 :: COARSE][: regions.shape[0], : regions.shape[1]] > 0.5
    ] = Region.ARTEFACT


def draw_pen(
    image: NDArray[np.uint8], regions: NDArray[np.uint8], color: str, rng: np.random.Generator
) -> None:
    """A felt-tip stroke near the edge of the section."""
    inks = {"blue": (35, 60, 170), "green": (25, 125, 70), "red": (200, 40, 45), "black": (30, 30, 34)}
    ink = np.array(inks[color], np.float32)
    height, width = image.shape[:2]
    t = np.linspace(0, 1, 240)
    x = (0.05 + 0.30 * t) * width
    y = height * (0.10 + 0.05 * np.sin(t * rng.uniform(3, 6) + rng.uniform(0, 6)) + rng.uniform(0, 0.05))
    small = np.zeros(regions.shape, bool)
    small[(y / COARSE).astype(int), (x / COARSE).astype(int)] = True
    distance = ndimage.distance_transform_edt(~small).astype(np.float32)
    full = resize(distance, (height, width)) * COARSE
    strength = (np.clip(1.6 - full / rng.uniform(45, 70), 0, 1) * rng.uniform(0.75, 0.9))[..., None]
    rows = np.flatnonzero(strength.any((1, 2)))
    part = slice(rows[0], rows[-1] + 1)
    image[part] = (image[part] * (1 - strength[part]) + ink * strength[part]).astype(np.uint8)
    regions[distance * COARSE < 60] = Region.ARTEFACT
