"""The nuclei of a simulated section."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .histology import Histology, Region
from .lattice import cell_borders, cell_centers
from .stamps import mitosis, nucleus, put_stamp


def draw_nuclei(
    labels: NDArray[np.uint8],
    histology: Histology,
    flow: NDArray[np.float32],
    eosin: NDArray[np.float32],
    hema: NDArray[np.float32],
    rng: np.random.Generator,
    step: Callable[[], object],
) -> None:
    """Draw them into both stains; ``step`` is called four times."""
    grade = histology.grade
    tumor = labels == Region.TUMOR
    size = 7.4 + 5.0 * grade
    spacing = 25.0 + 7.0 * grade
    points = cell_centers(tumor, spacing, 0.13 + 0.07 * grade, rng)
    if len(points):
        border = cell_borders(points, tumor, 2, 2.2)
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
                nucleus(
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
        mitoses = [mitosis(rng) for _ in range(12)]
        for row, column in points:
            if rng.random() < 0.002 + 0.018 * grade:
                stamp = mitoses[rng.integers(len(mitoses))]
            else:
                stamp = library[rng.integers(len(library))]
            put_stamp(hema, eosin, stamp, row, column)

    step()
    lymphoid = [
        nucleus(rng.uniform(5.8, 7.4), rng.uniform(5.4, 6.8), rng.uniform(0.62, 0.82), 0, rng, texture=0.16)
        for _ in range(80)
    ]
    for row, column in cell_centers(labels == Region.LYMPHOCYTES, 15.5, 0.16, rng):
        put_stamp(hema, eosin, lymphoid[rng.integers(len(lymphoid))], row, column)
    # A few stray lymphocytes everywhere.
    stray = (labels == Region.STROMA) | (labels == Region.TUMOR)
    points = cell_centers(stray, 95, 0.35, rng)
    for row, column in points[rng.random(len(points)) < 0.25 + 0.6 * histology.lymphocytes]:
        put_stamp(hema, eosin, lymphoid[rng.integers(len(lymphoid))], row, column)

    step()
    stromal = (labels == Region.STROMA) | (labels == Region.NORMAL_GLANDS)
    points = cell_centers(stromal, 44, 0.30, rng)
    angles = np.arange(0, 16) * np.pi / 16
    spindles = [
        [
            nucleus(rng.uniform(10, 17), rng.uniform(2.6, 4.2), rng.uniform(0.45, 0.62), angle, rng)
            for _ in range(6)
        ]
        for angle in angles
    ]
    gradient_r, gradient_c = (np.asarray(g) for g in np.gradient(flow[::8, ::8]))
    for row, column in points:
        r, c = min(int(row) // 8, gradient_r.shape[0] - 1), min(int(column) // 8, gradient_r.shape[1] - 1)
        # Across the fibers is the gradient of the bent coordinate of fibers; nuclei lie along them.
        across_r, across_c = 0.8 + 55 * gradient_r[r, c] / 8, 0.35 + 55 * gradient_c[r, c] / 8
        angle = np.arctan2(across_c, -across_r) + rng.normal(0, 0.15)
        put_stamp(hema, eosin, spindles[round(angle / (np.pi / 16)) % 16][rng.integers(6)], row, column)

    step()
    ghosts = [
        nucleus(rng.uniform(5, 9), rng.uniform(4, 8), rng.uniform(0.06, 0.16), 0, rng, irregular=0.15)
        for _ in range(40)
    ]
    dust = [
        nucleus(rng.uniform(1.4, 3.4), rng.uniform(1.3, 2.6), rng.uniform(0.5, 0.85), 0, rng)
        for _ in range(30)
    ]
    dead = labels == Region.NECROSIS
    for row, column in cell_centers(dead, 27, 0.3, rng):
        put_stamp(hema, eosin, ghosts[rng.integers(len(ghosts))], row, column)
    points = cell_centers(dead, 21, 0.4, rng)
    for row, column in points[rng.random(len(points)) < 0.45]:
        put_stamp(hema, eosin, dust[rng.integers(len(dust))], row, column)
    step()
