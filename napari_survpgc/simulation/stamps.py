"""Small pictures of nuclei and discs, and how they are stamped onto a canvas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class _Stamp:
    hema: NDArray[np.float32]
    cover: NDArray[np.float32]  # 1 where the nucleus hides the cytoplasm


def nucleus(
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


def mitosis(rng: np.random.Generator) -> _Stamp:
    """Draw a metaphase plate: a short dark ragged bar without membrane."""
    return nucleus(
        rng.uniform(8, 11),
        rng.uniform(2.6, 4.0),
        1.05,
        rng.uniform(0, np.pi),
        rng,
        irregular=0.22,
        vesicular=0.0,
    )


def put_stamp(
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


def add_disc(canvas: NDArray[np.float32], row: float, column: float, radius: float, density: float) -> None:
    reach = int(radius) + 2
    r0, c0 = max(int(row) - reach, 0), max(int(column) - reach, 0)
    r1, c1 = min(int(row) + reach + 1, canvas.shape[0]), min(int(column) + reach + 1, canvas.shape[1])
    y = np.arange(r0, r1, dtype=np.float32)[:, None] - row
    x = np.arange(c0, c1, dtype=np.float32)[None, :] - column
    distance = np.hypot(y, x)
    disc = density * (0.72 + 0.28 * np.clip(distance / radius, 0, 1)) * np.clip(radius - distance + 0.5, 0, 1)
    canvas[r0:r1, c0:c1] = np.maximum(canvas[r0:r1, c0:c1], disc)
