"""Irregular lattices of cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .noise import resize


def cell_centers(
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


def cell_borders(
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
    return np.clip(resize(edge, shape) * 2.0, 0, 1)
