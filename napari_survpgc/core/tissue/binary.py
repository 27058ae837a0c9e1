"""Masks grown, shrunk and cleaned at a cost linear in their pixels, whatever the size of the structuring element.

Shifted ANDs and ORs of whole arrays: a line of n px takes log2(n) of them, where an erosion with a line takes n.
As in scipy.ndimage, what lies outside of the picture is empty, so that an erosion eats in from the border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Mask = NDArray[np.bool_]


def dilated(mask: Mask, iterations: int) -> Mask:
    """Return the mask grown by a diamond of this radius in px."""
    for _ in range(iterations):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def eroded(mask: Mask, iterations: int) -> Mask:
    """Return the mask shrunk by a diamond of this radius in px."""
    for _ in range(iterations):
        left = mask.copy()
        left[1:] &= mask[:-1]
        left[:-1] &= mask[1:]
        left[:, 1:] &= mask[:, :-1]
        left[:, :-1] &= mask[:, 1:]
        left[0] = left[-1] = False
        left[:, 0] = left[:, -1] = False
        mask = left
    return mask


def opened(mask: Mask, iterations: int) -> Mask:
    """Return the mask without what is thinner than a diamond of this radius."""
    return dilated(eroded(mask, iterations), iterations)


def closed(mask: Mask, iterations: int) -> Mask:
    """Return the mask with gaps narrower than a diamond of this radius filled."""
    pad = iterations + 1
    return eroded(dilated(np.pad(mask, pad), iterations), iterations)[pad:-pad, pad:-pad]


def opened_by_line(mask: Mask, length: int, axis: int) -> Mask:
    """Return the runs along an axis that are at least ``length`` px long."""
    if length > mask.shape[axis]:
        return np.zeros_like(mask)
    # Erosion and dilation by a line that begins at the pixel: what is left of the mask is shorter by its length.
    return _widened(_narrowed(mask, length, axis), length, axis)


def _narrowed(mask: Mask, length: int, axis: int) -> Mask:
    """Return where ``length`` px from here on are set; the picture is ``length - 1`` px shorter."""
    ahead, have = (slice(None),) * axis, 1
    while have < length:
        step = min(have, length - have)
        mask = mask[(*ahead, slice(None, -step))] & mask[(*ahead, slice(step, None))]
        have += step
    return mask


def _widened(mask: Mask, length: int, axis: int) -> Mask:
    """Return the mask with ``length`` px from each of its px on; the picture is ``length - 1`` px longer."""
    ahead, have = (slice(None),) * axis, 1
    while have < length:
        step = min(have, length - have)
        size = list(mask.shape)
        size[axis] += step
        grown = np.zeros(size, bool)
        grown[(*ahead, slice(None, -step))] = mask
        grown[(*ahead, slice(step, None))] |= mask
        mask, have = grown, have + step
    return mask


def opened_by_square(mask: Mask, side: int) -> Mask:
    """Return what squares of this side fit into."""
    if side > min(mask.shape):
        return np.zeros_like(mask)
    # Eroded along both axes first: opened by rows and then by columns it would not be the same.
    return _widened(_widened(_narrowed(_narrowed(mask, side, 0), side, 1), side, 0), side, 1)


def grown_square(mask: Mask, radius: int) -> Mask:
    """Return the mask grown by a square of this radius in px."""
    side = 2 * radius + 1
    height, width = mask.shape
    return _widened(_widened(mask, side, 0), side, 1)[radius : radius + height, radius : radius + width]


def without_small(mask: Mask, speck_px: float, hole_px: float) -> Mask:
    """Return the mask without pieces below ``speck_px`` and with holes below ``hole_px`` filled, both 4-connected.

    A notch at the border of the picture is glass, not a hole.
    """
    for value, limit in ((True, speck_px), (False, hole_px)):
        mask = mask ^ _small(mask if value else ~mask, limit, inner_only=not value)
    return mask


def _small(mask: Mask, limit: float, *, inner_only: bool) -> Mask:
    """Return the 4-connected pieces with fewer px than ``limit``; ``inner_only``: none that touches the border."""
    height, width = mask.shape
    # Pieces are joined from runs along the rows: far fewer than pixels. A column of glass keeps rows apart.
    flat = np.zeros((height, width + 1), np.int8)
    flat[:, :width] = mask
    change = np.diff(flat.ravel(), prepend=np.int8(0))
    start, stop = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    if len(start) == 0:
        return np.zeros_like(mask)
    row = start // (width + 1)
    # The runs of the row above that a run touches: those that end after its start and start before its end.
    above = width + 1
    first = np.searchsorted(stop, start - above, side="right")
    last = np.searchsorted(start, stop - above, side="left")
    count = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(start)), count)
    offset = np.arange(len(below)) - np.repeat(np.cumsum(count) - count, count)
    graph = sparse.coo_matrix(
        (np.ones(len(below), np.int8), (below, np.repeat(first, count) + offset)), shape=(len(start),) * 2
    )
    pieces, piece = sparse.csgraph.connected_components(graph, directed=False)
    small = np.bincount(piece, stop - start, pieces) < limit
    if inner_only:
        at_border = (row == 0) | (row == height - 1) | (start % above == 0) | (stop % above == width)
        small[piece[at_border]] = False
    chosen = small[piece]
    marks = np.zeros(height * above, np.int8)
    marks[start[chosen]] = 1
    marks[stop[chosen]] = -1
    np.cumsum(marks, out=marks)
    return marks.reshape(height, above)[:, :width].astype(bool)
