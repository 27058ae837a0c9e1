"""Draw H&E sections with known tissue classes, by an optical-density model.

Hematoxylin and eosin are drawn as two density maps; light passing through both gives the color (Beer-Lambert, with
the hematoxylin vector of Ruifrok & Johnston 2001 and an eosin between theirs and scanned slides'). What a tumor looks like (nuclear grade, lymphocytes, necrosis) is set
by :class:`Histology`, so that a survival model can be checked against the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from napari_survpgc.core.errors import writing

MPP = 0.5
COARSE = 16
"""The class map is drawn at 1/16 of the full resolution (8 µm per px)."""
STAIN_H = np.array([0.650, 0.704, 0.286], np.float32)
STAIN_E = np.array([0.115, 0.930, 0.330], np.float32)
STAIN_BLOOD = np.array([0.130, 0.860, 0.620], np.float32)


class Region(IntEnum):
    """What a place on the slide is; the values of the truth map."""

    GLASS = 0
    STROMA = 1
    TUMOR = 2
    LYMPHOCYTES = 3
    NECROSIS = 4
    FAT = 5
    VESSEL = 6
    NORMAL_GLANDS = 7
    ARTEFACT = 8


@dataclass(frozen=True)
class Histology:
    """What the section of one patient looks like.

    Attributes
    ----------
    grade : 0 (small regular nuclei) to 1 (large, irregular, dark nuclei with nucleoli, crowded).
    lymphocytes, necrosis : share of the tumor bed, 0 to about 0.45.
    pen, fold : draw a pen mark or a tissue fold.
    """

    grade: float
    lymphocytes: float
    necrosis: float
    pen: str | None = None
    fold: bool = False


@dataclass(frozen=True)
class Section:
    """A drawn section: (h, w, 3) uint8 at 0.5 µm per px and its (h/16, w/16) uint8 map of Region."""

    image: NDArray[np.uint8]
    regions: NDArray[np.uint8]


def draw_section(histology: Histology, size: tuple[int, int], rng: np.random.Generator) -> Section:
    """Draw one section.

    Parameters
    ----------
    size : (width, height) px at 0.5 µm per px, multiples of 16.
    rng : the only source of chance: the same generator state gives the same bytes.
    """
    width, height = size
    regions = _region_map(histology, (height // COARSE, width // COARSE), rng)
    shape = (height, width)
    # Full-resolution membership with wavy borders: the coarse map is looked up at slightly displaced places.
    labels = _upsample_labels(regions, shape, rng)
    flow = _smooth_noise(shape, 420, rng) * 2.2
    hema = np.zeros(shape, np.float32)
    eosin = np.zeros(shape, np.float32)
    blood = np.zeros(shape, np.float32)
    grain = _smooth_noise(shape, 5, rng)
    cloud = _smooth_noise(shape, 60, rng)

    fibers = _fibers(shape, flow, rng)
    stroma = (labels == Region.STROMA) | (labels == Region.VESSEL) | (labels == Region.NORMAL_GLANDS)
    eosin += stroma * np.clip(
        0.25 + 0.075 * fibers + 0.04 * cloud - 0.16 * np.clip(-fibers - 1.0, 0, None), 0.02, None
    )
    hema += stroma * 0.02

    tumor = labels == Region.TUMOR
    eosin += tumor * (0.27 + 0.05 * grain + 0.04 * cloud)
    hema += tumor * (0.07 + 0.05 * histology.grade + 0.02 * grain)

    lymph = labels == Region.LYMPHOCYTES
    eosin += lymph * (0.14 + 0.05 * grain)
    hema += lymph * 0.08

    necrosis = labels == Region.NECROSIS
    debris = _smooth_noise(shape, 9, rng)
    eosin += necrosis * np.clip(0.42 + 0.10 * debris + 0.07 * grain + 0.06 * cloud, 0.1, None)
    hema += necrosis * (0.035 + 0.02 * np.clip(debris, 0, None))

    _draw_fat(labels == Region.FAT, eosin, hema, rng)
    _draw_vessels(labels, regions, eosin, hema, blood, rng)
    _draw_glands(labels, eosin, hema, rng)
    _draw_nuclei(labels, histology, flow, eosin, hema, rng)

    if histology.fold:
        _draw_fold(labels, regions, eosin, hema, rng)
    # Section thickness varies slowly; glass stays clean but for a little dust.
    thickness = 1 + 0.10 * _smooth_noise(shape, 900, rng)
    image = _to_rgb(hema * thickness, eosin * thickness, blood, rng)
    if histology.pen:
        _draw_pen(image, regions, histology.pen, rng)
    return Section(image, regions)


def write_slide(section: Section, path: Path, *, quality: int = 88) -> None:
    """Write a section as a pyramidal tiled JPEG TIFF that says its pixel size (0.5 µm)."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        try:
            with tifffile.TiffWriter(temporary, bigtiff=False) as tiff:
                level, mpp = section.image, MPP
                first = True
                while True:
                    tiff.write(
                        level,
                        tile=(256, 256),
                        photometric="rgb",
                        compression="jpeg",
                        compressionargs={"level": quality},
                        resolution=(1e4 / mpp, 1e4 / mpp),
                        resolutionunit="CENTIMETER",
                        subfiletype=0 if first else 1,
                        description="Simulated H&E section" if first else None,
                        metadata=None,
                        software="napari-survpgc",
                    )
                    if max(level.shape[:2]) <= 1024:
                        break
                    h, w = level.shape[:2]
                    level = np.asarray(Image.fromarray(level).resize((w // 2, h // 2), Image.Resampling.BOX))
                    mpp, first = mpp * 2, False
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


# --- layout -------------------------------------------------------------------------------------------------


def _smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise of unit variance that varies over ``scale`` px; coarse grids are interpolated, so it is cheap."""
    step = max(1.0, scale / 3)
    small = (int(np.ceil(shape[0] / step)) + 3, int(np.ceil(shape[1] / step)) + 3)
    field = rng.standard_normal(small, np.float32)
    field = ndimage.gaussian_filter(field, 1.0, mode="wrap")
    field /= field.std() + 1e-9
    if step <= 1.0:
        return field[: shape[0], : shape[1]]
    return _resize(field, (round(small[0] * step), round(small[1] * step)))[: shape[0], : shape[1]]


def _resize(field: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(field, np.float32), mode="F")
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _region_map(histology: Histology, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y = (rows - shape[0] / 2) / (shape[0] / 2)
    x = (columns - shape[1] / 2) / (shape[1] / 2)
    outline = 1.0 - np.hypot(x / 0.93, y / 0.93) ** 2.6
    tissue = outline + 0.13 * _smooth_noise(shape, 36, rng) + 0.05 * _smooth_noise(shape, 9, rng) > 0.04
    tissue = ndimage.binary_fill_holes(ndimage.binary_opening(tissue, iterations=2))
    regions = np.where(tissue, Region.STROMA, Region.GLASS).astype(np.uint8)

    # One side of the section is normal: glands and fat; the rest is the tumor bed.
    angle = rng.uniform(0, 2 * np.pi)
    side = x * np.cos(angle) + y * np.sin(angle) + 0.18 * _smooth_noise(shape, 40, rng)
    normal = tissue & (side > np.quantile(side[tissue], 0.80))
    fat_field = _smooth_noise(shape, 26, rng)
    regions[normal] = Region.NORMAL_GLANDS
    fat = normal & (fat_field > np.quantile(fat_field[normal], 0.5))
    regions[fat] = Region.FAT

    bed = tissue & ~normal
    nests = _smooth_noise(shape, 20, rng) + 0.45 * _smooth_noise(shape, 7, rng)
    tumor = bed & (nests > np.quantile(nests[bed], 0.40))
    regions[tumor] = Region.TUMOR
    if histology.lymphocytes > 0.005:
        # Aggregates prefer the rim of the nests.
        rim = np.abs(nests - np.quantile(nests[bed], 0.40))
        field = 1.1 * _smooth_noise(shape, 11, rng) - 0.7 * rim
        regions[bed & (field > np.quantile(field[bed], 1 - histology.lymphocytes))] = Region.LYMPHOCYTES
    if histology.necrosis > 0.005:
        # Necrosis lies in the middle of large nests, away from the vessels of the stroma.
        field = _smooth_noise(shape, 22, rng) + 0.8 * ndimage.gaussian_filter(tumor.astype(np.float32), 6)
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


def _upsample_labels(
    regions: NDArray[np.uint8], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Look the coarse map up at displaced coordinates, so that borders wave at the scale of cells."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None] / COARSE - 0.5
    columns = np.arange(shape[1], dtype=np.float32)[None, :] / COARSE - 0.5
    bend = 0.75 * _smooth_noise(shape, 34, rng) + 0.30 * _smooth_noise(shape, 12, rng)
    sway = 0.75 * _smooth_noise(shape, 34, rng) + 0.30 * _smooth_noise(shape, 12, rng)
    r = np.clip(np.rint(rows + bend), 0, regions.shape[0] - 1).astype(np.int32)
    c = np.clip(np.rint(columns + sway), 0, regions.shape[1] - 1).astype(np.int32)
    return regions[r, c]


def _fibers(
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
    across = rows * 0.8 + columns * 0.35 + 55 * flow + 5 * _smooth_noise(shape, 45, rng)
    along = columns * 0.8 - rows * 0.35 + 20 * _smooth_noise(shape, 200, rng)
    return noise[across.astype(np.int32) % 700, along.astype(np.int32) % 700]


# --- structures ---------------------------------------------------------------------------------------------


def _cells(
    inside: NDArray[np.bool_], spacing: float, jitter: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return (n, 2) row, column of a jittered hexagonal lattice, kept where ``inside`` is true."""
    rows = np.arange(0, inside.shape[0], spacing * 0.866, dtype=np.float32)
    columns = np.arange(0, inside.shape[1], spacing, dtype=np.float32)
    grid_r, grid_c = np.meshgrid(rows, columns, indexing="ij")
    shifted_c = grid_c + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([grid_r, shifted_c], -1).reshape(-1, 2)
    points += rng.normal(0, jitter * spacing, points.shape).astype(np.float32)
    index = np.rint(points).astype(np.int64)
    valid = ((index >= 0) & (index < np.array(inside.shape))).all(1)
    points, index = points[valid], index[valid]
    return points[inside[index[:, 0], index[:, 1]]]


def _cell_borders(
    points: NDArray[np.float32], inside: NDArray[np.bool_], factor: int, width: float
) -> NDArray[np.float32]:
    """Return 1 on the borders between the Voronoi cells of ``points`` and 0 within, at full resolution."""
    shape = inside.shape
    small = (shape[0] // factor, shape[1] // factor)
    seeds = np.zeros(small, np.int32)
    index = np.clip((points / factor).astype(np.int64), 0, np.array(small) - 1)
    seeds[index[:, 0], index[:, 1]] = np.arange(1, len(points) + 1)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    owner = seeds[nearest[0], nearest[1]]
    edge = np.zeros(small, np.float32)
    edge[:, 1:] += owner[:, 1:] != owner[:, :-1]
    edge[1:] += owner[1:] != owner[:-1]
    edge = np.minimum(edge, 1)
    edge = ndimage.gaussian_filter(edge, width / factor)
    return np.clip(_resize(edge, shape) * 2.0, 0, 1)


def _draw_fat(
    fat: NDArray[np.bool_], eosin: NDArray[np.float32], hema: NDArray[np.float32], rng: np.random.Generator
) -> None:
    if not fat.any():
        return
    border = _cell_borders(_cells(fat, 105, 0.2, rng), fat, 4, 5.0)
    wall = np.clip(border * 1.7, 0, 1) ** 3
    eosin += fat * 0.30 * wall
    hema += fat * 0.05 * wall
    for row, column in _cells(fat & (wall > 0.75), 90, 0.3, rng):
        _stamp(hema, eosin, _nucleus(7, 2.5, 0.6, 0.0, rng), row, column)


def _draw_vessels(
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
        cells = _cells(lumen & (depth > wall + 4), 12.5, 0.18, rng)
        full = rng.uniform(0.25, 0.95)
        canvas = np.zeros(inside.shape, np.float32)
        for row, column in cells[rng.random(len(cells)) < full]:
            _add_disc(canvas, row, column, rng.uniform(5.2, 6.6), rng.uniform(0.30, 0.42))
        blood[window] += canvas * lumen
        ring = np.argwhere((depth > wall - 3) & (depth <= wall + 1))
        for row, column in rng.permutation(ring)[: max(3, len(ring) // 130)]:
            _stamp(
                hema,
                eosin,
                _nucleus(8, 3, 0.55, rng.uniform(0, np.pi), rng),
                row + window[0].start,
                column + window[1].start,
            )


def _draw_glands(
    labels: NDArray[np.uint8], eosin: NDArray[np.float32], hema: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Normal glands: a round or oval lumen, tall pink cells, one row of small basal nuclei."""
    area = labels == Region.NORMAL_GLANDS
    if not area.any():
        return
    for row, column in _cells(ndimage.binary_erosion(area[::8, ::8], iterations=6), 17, 0.12, rng) * 8:
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
            _stamp(hema, eosin, _nucleus(7.5, 4.6, 0.55, turn + angle, rng), row + y, column + x)


def _draw_nuclei(
    labels: NDArray[np.uint8],
    histology: Histology,
    flow: NDArray[np.float32],
    eosin: NDArray[np.float32],
    hema: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    grade = histology.grade
    tumor = labels == Region.TUMOR
    size = 7.4 + 5.0 * grade
    spacing = 25.0 + 7.0 * grade
    points = _cells(tumor, spacing, 0.13 + 0.07 * grade, rng)
    if len(points):
        border = _cell_borders(points, tumor, 2, 2.2)
        eosin -= tumor * 0.13 * border * (1 - 0.35 * grade)
        hema -= tumor * 0.03 * border
        np.clip(eosin, 0, None, out=eosin)
        np.clip(hema, 0, None, out=hema)
        spread = 0.08 + 0.30 * grade
        library = []
        for _ in range(160):
            scale = float(np.exp(rng.normal(0, spread)))
            a = float(np.clip(size * scale, 5, 21))
            library.append(
                _nucleus(
                    a,
                    a * rng.uniform(0.68 - 0.12 * grade, 0.95),
                    0.38 + 0.22 * grade * rng.uniform(0.3, 1.2),
                    rng.uniform(0, np.pi),
                    rng,
                    irregular=0.04 + 0.10 * grade,
                    texture=0.10 + 0.16 * grade,
                    nucleoli=int(rng.random() < 0.15 + 0.75 * grade) + int(rng.random() < 0.4 * grade),
                    vesicular=rng.uniform(0.1, 0.5),
                )
            )
        mitoses = [_mitosis(rng) for _ in range(12)]
        for row, column in points:
            if rng.random() < 0.002 + 0.018 * grade:
                stamp = mitoses[rng.integers(len(mitoses))]
            else:
                stamp = library[rng.integers(len(library))]
            _stamp(hema, eosin, stamp, row, column)

    lymphoid = [
        _nucleus(rng.uniform(5.8, 7.4), rng.uniform(5.4, 6.8), rng.uniform(0.62, 0.82), 0, rng, texture=0.16)
        for _ in range(80)
    ]
    for row, column in _cells(labels == Region.LYMPHOCYTES, 15.5, 0.16, rng):
        _stamp(hema, eosin, lymphoid[rng.integers(len(lymphoid))], row, column)
    # A few stray lymphocytes everywhere.
    stray = (labels == Region.STROMA) | (labels == Region.TUMOR)
    points = _cells(stray, 95, 0.35, rng)
    for row, column in points[rng.random(len(points)) < 0.25 + 0.6 * histology.lymphocytes]:
        _stamp(hema, eosin, lymphoid[rng.integers(len(lymphoid))], row, column)

    stromal = (labels == Region.STROMA) | (labels == Region.NORMAL_GLANDS)
    points = _cells(stromal, 44, 0.30, rng)
    angles = np.arange(0, 16) * np.pi / 16
    spindles = [
        [
            _nucleus(rng.uniform(10, 17), rng.uniform(2.6, 4.2), rng.uniform(0.45, 0.62), angle, rng)
            for _ in range(6)
        ]
        for angle in angles
    ]
    gradient_r, gradient_c = (np.asarray(g) for g in np.gradient(flow[::8, ::8]))
    for row, column in points:
        r, c = min(int(row) // 8, gradient_r.shape[0] - 1), min(int(column) // 8, gradient_r.shape[1] - 1)
        # Across the fibers is the gradient of the bent coordinate of _fibers; nuclei lie along them.
        across_r, across_c = 0.8 + 55 * gradient_r[r, c] / 8, 0.35 + 55 * gradient_c[r, c] / 8
        angle = np.arctan2(across_c, -across_r) + rng.normal(0, 0.15)
        _stamp(hema, eosin, spindles[round(angle / (np.pi / 16)) % 16][rng.integers(6)], row, column)

    ghosts = [
        _nucleus(rng.uniform(5, 9), rng.uniform(4, 8), rng.uniform(0.06, 0.16), 0, rng, irregular=0.15)
        for _ in range(40)
    ]
    dust = [
        _nucleus(rng.uniform(1.4, 3.4), rng.uniform(1.3, 2.6), rng.uniform(0.5, 0.85), 0, rng)
        for _ in range(30)
    ]
    dead = labels == Region.NECROSIS
    for row, column in _cells(dead, 27, 0.3, rng):
        _stamp(hema, eosin, ghosts[rng.integers(len(ghosts))], row, column)
    points = _cells(dead, 21, 0.4, rng)
    for row, column in points[rng.random(len(points)) < 0.45]:
        _stamp(hema, eosin, dust[rng.integers(len(dust))], row, column)


# --- nuclei -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stamp:
    hema: NDArray[np.float32]
    cover: NDArray[np.float32]  # 1 where the nucleus hides the cytoplasm


def _nucleus(
    a: float,
    b: float,
    density: float,
    angle: float,
    rng: np.random.Generator,
    *,
    irregular: float = 0.05,
    texture: float = 0.12,
    nucleoli: int = 0,
    vesicular: float = 0.2,
) -> _Stamp:
    """Draw one nucleus with half axes ``a`` and ``b`` px: uneven outline, chromatin clumps, darker membrane."""
    reach = int(np.ceil(max(a, b) * 1.35)) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    u = (x * np.cos(angle) + y * np.sin(angle)) / a
    v = (y * np.cos(angle) - x * np.sin(angle)) / b
    theta = np.arctan2(v, u)
    outline = np.ones_like(u)
    for order in (2, 3, 4, 5):
        outline += irregular * rng.normal() / order * 1.6 * np.sin(order * theta + rng.uniform(0, 2 * np.pi))
    depth = (outline - np.hypot(u, v)) * min(a, b)
    cover = np.clip(depth / 1.6 + 0.5, 0, 1)
    chromatin = ndimage.gaussian_filter(rng.standard_normal(u.shape).astype(np.float32), 1.3)
    chromatin /= chromatin.std() + 1e-6
    rim = np.exp(-((depth - 1.2) ** 2) / 2.4)
    body = density * (1 - vesicular * np.clip(depth / (0.6 * min(a, b)), 0, 1) * 0.8)
    hema = body + texture * density * 1.4 * chromatin + 0.22 * density * rim
    for _ in range(nucleoli):
        radius, turn = rng.uniform(0, 0.45), rng.uniform(0, 2 * np.pi)
        spot = np.hypot(u - radius * np.cos(turn), v - radius * np.sin(turn)) * min(a, b)
        hema += 0.40 * np.exp(-((spot / rng.uniform(1.4, 2.3)) ** 2))
    return _Stamp((np.clip(hema, 0, None) * cover).astype(np.float32), cover.astype(np.float32))


def _mitosis(rng: np.random.Generator) -> _Stamp:
    """Draw a metaphase plate: a short dark ragged bar without membrane."""
    return _nucleus(
        rng.uniform(8, 11),
        rng.uniform(2.6, 4.0),
        1.05,
        rng.uniform(0, np.pi),
        rng,
        irregular=0.22,
        vesicular=0.0,
    )


def _stamp(
    hema: NDArray[np.float32], eosin: NDArray[np.float32], stamp: _Stamp, row: float, column: float
) -> None:
    reach = stamp.hema.shape[0] // 2
    r, c = round(float(row)) - reach, round(float(column)) - reach
    size = stamp.hema.shape[0]
    top, left = max(r, 0), max(c, 0)
    bottom, right = min(r + size, hema.shape[0]), min(c + size, hema.shape[1])
    if top >= bottom or left >= right:
        return
    part = (slice(top - r, bottom - r), slice(left - c, right - c))
    target = (slice(top, bottom), slice(left, right))
    cover = stamp.cover[part]
    hema[target] = hema[target] * (1 - cover) + np.maximum(stamp.hema[part], hema[target] * cover)
    eosin[target] *= 1 - 0.55 * cover


def _add_disc(canvas: NDArray[np.float32], row: float, column: float, radius: float, density: float) -> None:
    reach = int(radius) + 2
    r0, c0 = max(int(row) - reach, 0), max(int(column) - reach, 0)
    r1, c1 = min(int(row) + reach + 1, canvas.shape[0]), min(int(column) + reach + 1, canvas.shape[1])
    y = np.arange(r0, r1, dtype=np.float32)[:, None] - row
    x = np.arange(c0, c1, dtype=np.float32)[None, :] - column
    distance = np.hypot(y, x)
    disc = density * (0.72 + 0.28 * np.clip(distance / radius, 0, 1)) * np.clip(radius - distance + 0.5, 0, 1)
    canvas[r0:r1, c0:c1] = np.maximum(canvas[r0:r1, c0:c1], disc)


# --- artefacts and color ------------------------------------------------------------------------------------


def _draw_fold(
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


def _draw_pen(
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
    full = _resize(distance, (height, width)) * COARSE
    strength = (np.clip(1.6 - full / rng.uniform(45, 70), 0, 1) * rng.uniform(0.75, 0.9))[..., None]
    rows = np.flatnonzero(strength.any((1, 2)))
    part = slice(rows[0], rows[-1] + 1)
    image[part] = (image[part] * (1 - strength[part]) + ink * strength[part]).astype(np.uint8)
    regions[distance * COARSE < 60] = Region.ARTEFACT


def _to_rgb(
    hema: NDArray[np.float32],
    eosin: NDArray[np.float32],
    blood: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Light through both stains; the batch of stain and the scanner differ a little from slide to slide."""
    h_vector = STAIN_H * rng.normal(1, 0.05, 3).astype(np.float32) * np.float32(rng.uniform(0.9, 1.12))
    e_vector = STAIN_E * np.float32(rng.uniform(0.85, 1.12)) + np.array(
        [rng.uniform(-0.02, 0.03), 0, rng.uniform(-0.08, 0.08)], np.float32
    )
    white = np.array([244, 243, 245], np.float32) + rng.normal(0, 1.5, 3).astype(np.float32)
    sigma = rng.uniform(0.55, 0.8)
    out = np.empty((*hema.shape, 3), np.uint8)
    hema, eosin = np.clip(hema, 0, 1.8), np.clip(eosin, 0, 1.6)
    for channel in range(3):
        density = hema * h_vector[channel] + eosin * e_vector[channel] + blood * STAIN_BLOOD[channel]
        density = ndimage.gaussian_filter(density, sigma)
        light = white[channel] * np.exp(-np.float32(np.log(10)) * density)
        light += rng.standard_normal(light.shape, np.float32) * 1.6
        out[..., channel] = np.clip(light, 0, 255)
    return out
