"""Attention matrix -> one score a patch -> percentiles, best patches, grid image.

As published: z-score each row of the pre-softmax cross block over the patches, average the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def _array(values: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)


def patch_scores(matrix: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    """Return (n_p,) scores of a (rows, n_p) pre-softmax attention matrix: mean over rows of the row-wise z-score.

    A row that is the same everywhere (or a single patch) says nothing and counts as zero.
    """
    return row_scores(matrix).mean(0)


def row_scores(matrix: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    """Return (rows, n_p): each row minus its mean, over its standard deviation (ddof 0)."""
    rows = _array(matrix)
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"an attention matrix has rows and patches, not shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("the attention matrix holds values that are not numbers")
    centered = rows - rows.mean(1, keepdims=True)
    deviation = centered.std(1, keepdims=True)
    # Rounding leaves a tiny deviation in a constant row; do not blow it up.
    flat = deviation <= 1e-12 * np.abs(rows).max(1, keepdims=True)
    return np.where(flat, 0.0, centered / np.where(flat, 1.0, deviation))


def percentiles(scores: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    """Return 100 * average rank / n: in (0, 100], ties share their mean rank."""
    values = _array(scores)
    if np.isnan(values).any():
        raise ValueError("scores hold values that are not numbers")
    return 100.0 * stats.rankdata(values) / len(values)


def top_k(scores: ArrayLike | torch.Tensor, k: int) -> NDArray[np.int64]:
    """Return the indices of the k largest scores (all, when there are fewer), largest first, ties by index."""
    values = _array(scores)
    if np.isnan(values).any():
        raise ValueError("scores hold values that are not numbers")
    k = min(max(0, k), len(values))
    if k == 0:
        return np.zeros(0, np.int64)
    # Sort only what can be among them: whoever reaches the k-th largest, ties included.
    smallest = np.partition(values, len(values) - k)[len(values) - k]
    reaching = np.flatnonzero(values >= smallest)
    return reaching[np.argsort(-values[reaching], kind="stable")][:k]


def rank_of(scores: ArrayLike | torch.Tensor, index: int) -> int:
    """Return the place of a patch in the order of :func:`top_k`: 1 for the largest score, ties by index."""
    values = _array(scores)
    return int((values > values[index]).sum() + (values[:index] == values[index]).sum()) + 1


def bottom_k(scores: ArrayLike | torch.Tensor, k: int) -> NDArray[np.int64]:
    """Return the indices of the k smallest scores, smallest first, ties by index."""
    return top_k(-_array(scores), k)


def random_k(n: int, k: int, seed: int = 0) -> NDArray[np.int64]:
    """Return k of n indices at random, the same ones every time: what to compare the best patches with."""
    return np.random.default_rng(seed).permutation(n)[: max(0, k)]


@dataclass(frozen=True)
class ScoreGrid:
    """Scores as an image of one cell a patch.

    Attributes
    ----------
    values : (rows, columns) float32, NaN where there is no patch.
    origin : (x, y) of the top-left corner of cell (0, 0), level-0 px.
    cell : side of a cell in level-0 px, exact.
    """

    values: NDArray[np.float32]
    origin: tuple[float, float]
    cell: float


def score_grid(coords: ArrayLike, values: ArrayLike, patch_px_level0: float) -> ScoreGrid:
    """Place (n_p,) values at their patches; patches that fall into one cell (overlapping ones) are averaged."""
    points, numbers = np.asarray(coords, np.float64), np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(numbers) or len(points) == 0:
        raise ValueError(f"{points.shape} coordinates and {numbers.shape} values do not belong together")
    if not patch_px_level0 > 0:
        raise ValueError("the side of a patch must be known")
    origin = points.min(0)
    cell = np.rint((points - origin) / patch_px_level0).astype(np.int64)
    shape = (int(cell[:, 1].max()) + 1, int(cell[:, 0].max()) + 1)
    flat = cell[:, 1] * shape[1] + cell[:, 0]
    total = np.bincount(flat, numbers, minlength=shape[0] * shape[1])
    count = np.bincount(flat, minlength=shape[0] * shape[1])
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return ScoreGrid(
        mean.reshape(shape).astype(np.float32), (float(origin[0]), float(origin[1])), patch_px_level0
    )
