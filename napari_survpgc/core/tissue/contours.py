"""The contours of a mask, traced for all its pieces at once.

The work grows with the pixels and with the length of the contours, not with the number of pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse


@dataclass(frozen=True)
class Contour:
    """The outline of one 4-connected piece and its holes; rings (k, 2) of xy in px, not closed; pixel i covers [i, i + 1).

    Corners lie in the middle of the edges of pixels, so that pieces that touch at a corner stay apart.
    """

    outer: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...]


def contours(mask: NDArray[np.bool_]) -> list[Contour]:
    """Trace a mask (h, w); pieces come in the order of their first pixel, row by row."""
    pixel, direction = _edges(mask)
    if len(pixel) == 0:
        return []
    order, bounds = _rings(pixel, direction, mask.shape[1] + 2)
    pixel, direction = pixel[order], direction[order]
    row, column = np.divmod(pixel, mask.shape[1] + 2)
    # The middle of the top, right, bottom or left edge of the pixel; its row and column count a border of one px.
    x = column - 0.5 + np.array([0.0, 0.5, 0.0, -0.5])[direction]
    y = row - 0.5 + np.array([-0.5, 0.0, 0.5, 0.0])[direction]
    points = np.stack([x, y], 1)
    labels, count = ndimage.label(mask)
    starts = bounds[:-1]
    owner = labels[row[starts] - 1, column[starts] - 1]
    # Around a piece the walk turns clockwise (y points down), around a hole the other way.
    following = np.arange(len(points)) + 1
    following[bounds[1:] - 1] = starts
    twice = x * y[following] - x[following] * y
    outer = np.add.reduceat(twice, starts) > 0
    rings: list[list[NDArray[np.float64]]] = [[] for _ in range(count + 1)]
    for number in np.argsort(~outer, kind="stable"):
        rings[owner[number]].append(points[bounds[number] : bounds[number + 1]])
    return [Contour(found[0], tuple(found[1:])) for found in rings[1:]]


def _edges(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return pixel (row * (w + 2) + column, with a border of one px) and direction of the edges of a mask."""
    framed = np.pad(mask, 1)
    width = framed.shape[1]
    inner = framed[1:-1, 1:-1]
    around = (framed[:-2, 1:-1], framed[1:-1, 2:], framed[2:, 1:-1], framed[1:-1, :-2])
    found = []
    for direction, neighbor in enumerate(around):
        flat = np.flatnonzero(inner & ~neighbor)
        row, column = np.divmod(flat, mask.shape[1])
        found.append(((row + 1) * width + column + 1, np.full(len(flat), direction, np.int8)))
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _rings(
    pixel: NDArray[np.int64], direction: NDArray[np.int8], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the edges in the order of a walk along them, ring by ring, and where each ring begins (and the end)."""
    # Each edge by the corner that it starts from and its direction.
    corner_offset = np.array([0, 1, width + 1, width])  # the corners of a pixel, clockwise from its top left
    key = (pixel + corner_offset[direction]) * 4 + direction
    by_key = np.argsort(key)
    keys = key[by_key]
    end = pixel + corner_offset[(direction + 1) % 4]
    following = np.full(len(key), -1)
    for turn in (
        3,
        0,
        1,
    ):  # the last that fits: right, which stays at the same pixel where two touch at a corner
        wanted = end * 4 + (direction + turn) % 4
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[place] == wanted
        following[hit] = by_key[place[hit]]
    number = np.arange(len(key))
    graph = sparse.coo_matrix((np.ones(len(key), np.int8), (number, following)), shape=(len(key),) * 2)
    count, ring = sparse.csgraph.connected_components(graph, directed=False)
    first = np.full(count, len(key))
    np.minimum.at(first, ring, number)
    # How far it is to the end of the ring, its first edge: each round doubles how far an edge looks.
    jump = following.copy()
    is_last = following == first[ring]
    jump[is_last] = number[is_last]
    distance = (~is_last).astype(np.int64)
    while True:
        step = distance[jump]
        if not step.any():
            break
        distance += step
        jump = jump[jump]
    order = np.lexsort((-distance, ring))
    bounds = np.concatenate([[0], np.cumsum(np.bincount(ring, minlength=count))])
    return order, bounds
