"""All maps of one prediction: two matrices, their rows, their difference, in three scales. Rows are scored once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.types import AttentionMap, Prediction

from .scores import percentiles, row_scores

DIFFERENCE = "difference"


class MapScale(StrEnum):
    """How scores are shown."""

    PERCENTILE = "percentile"  # rank among the patches of the slide
    ZSCORE = "z-score"  # standard deviations from the slide's mean
    RAW = "raw"  # pre-softmax attention, mean over the rows


@dataclass(frozen=True)
class MapValues:
    """One number a patch, ready to be painted.

    Attributes
    ----------
    values : (n_p,) float32.   low, high : limits of the scale (symmetric about 0 for a difference).
    """

    values: NDArray[np.float32]
    low: float
    high: float


class AttentionMaps:
    """Maps of a prediction, by name ("clinic", "genomic", "difference") and row (None: the mean of all rows).

    Parameters
    ----------
    like : maps of an earlier answer; those of a matrix that has not changed since are taken from there.
    """

    def __init__(self, prediction: Prediction, like: AttentionMaps | None = None) -> None:
        self._prediction = prediction
        self._rows: dict[str, NDArray[np.float64]] = {}
        self._maps: dict[tuple[str, int | None], AttentionMap] = {}
        self._cells: PatchCells | None = None
        if like is not None:
            self._take_over(like)

    def _take_over(self, like: AttentionMaps) -> None:
        before, now = like._prediction, self._prediction
        same = {name for name in self.names if before.attention.get(name) is now.attention[name]}
        # Copies: the other thread may be adding to them.
        self._rows = {name: rows for name, rows in like._rows.copy().items() if name in same}
        self._maps = {key: found for key, found in like._maps.copy().items() if key[0] in same}
        if before.coords is now.coords and before.patch_px_level0 == now.patch_px_level0:
            self._cells = like._cells

    @property
    def names(self) -> tuple[str, ...]:
        """The matrices that there are; a modality that the patient lacks is absent."""
        return tuple(name for name in ("clinic", "genomic") if name in self._prediction.attention)

    def map(self, name: str, row: int | None = None) -> AttentionMap:
        """Return scores and percentiles of a matrix or of one of its rows."""
        key = (name, row)
        if key not in self._maps:
            if name not in self._rows:
                self._rows[name] = row_scores(self._prediction.attention[name])
            rows = self._rows[name]
            scores = rows.mean(0) if row is None else rows[row]
            title = name if row is None else f"{name}:{self._prediction.token_names[name][row]}"
            self._maps[key] = AttentionMap(
                title, scores.astype(np.float32), percentiles(scores).astype(np.float32)
            )
        return self._maps[key]

    def values(self, name: str, row: int | None = None, scale: MapScale = MapScale.PERCENTILE) -> MapValues:
        """Return what to paint; the difference is clinic minus genomic, of means."""
        if name == DIFFERENCE:
            one = self.values("clinic", None, scale if scale is not MapScale.RAW else MapScale.ZSCORE).values
            other = self.values(
                "genomic", None, scale if scale is not MapScale.RAW else MapScale.ZSCORE
            ).values
            difference = one - other
            limit = 100.0 if scale is MapScale.PERCENTILE else float(np.abs(difference).max()) or 1.0
            return MapValues(difference, -limit, limit)
        found = self.map(name, row)
        if scale is MapScale.PERCENTILE:
            return MapValues(found.percentiles, 0.0, 100.0)
        if scale is MapScale.ZSCORE:
            values = found.scores
        else:
            matrix = self._prediction.attention[name]
            values = (matrix.mean(0) if row is None else matrix[row]).astype(np.float32)
        low, high = float(values.min()), float(values.max())
        return MapValues(values, low, high if high > low else low + 1.0)

    def ranked(self) -> AttentionMaps:
        """Rank the patches of every matrix now, on the thread that has the time; returns itself."""
        for name in self.names:
            self.map(name)
        _ = self.cells
        return self

    @property
    def cells(self) -> PatchCells:
        """Where each patch lies in the grid image."""
        if self._cells is None:
            self._cells = PatchCells(self._prediction.coords, self._prediction.patch_px_level0)
        return self._cells


class PatchCells:
    """The patches as cells of an image: values in, image out, and the patch under a point.

    Attributes
    ----------
    shape : (rows, columns).   origin : (x, y) level-0 px of the corner of cell (0, 0).   side : level-0 px.
    """

    def __init__(self, coords: NDArray[np.int32], side: float) -> None:
        points = np.asarray(coords, np.float64)
        self.side = float(side)
        self.origin = (float(points[:, 0].min()), float(points[:, 1].min()))
        cell = np.rint((points - points.min(0)) / side).astype(np.int64)
        self.columns, self.rows = cell[:, 0], cell[:, 1]
        self.shape = (int(self.rows.max()) + 1, int(self.columns.max()) + 1)
        self._index = np.full(self.shape, -1, np.int64)
        self._index[self.rows, self.columns] = np.arange(len(points))

    def image(self, values: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        """Return (rows, columns) float32 with ``outside`` where there is no patch.

        Of patches that share a cell (overlapping ones from foreign files) the later one is shown.
        """
        image = np.full(self.shape, outside, np.float32)
        image[self.rows, self.columns] = values
        return image

    def at(self, x: float, y: float) -> int | None:
        """Return the patch at a point in level-0 px, or None."""
        column = int(np.floor((x - self.origin[0]) / self.side))
        row = int(np.floor((y - self.origin[1]) / self.side))
        if not (0 <= row < self.shape[0] and 0 <= column < self.shape[1]):
            return None
        index = int(self._index[row, column])
        return index if index >= 0 else None

    def neighbors(self, patch: int) -> tuple[int, ...]:
        """Return the up to eight patches around one."""
        row, column = int(self.rows[patch]), int(self.columns[patch])
        found = []
        for r in range(max(0, row - 1), min(self.shape[0], row + 2)):
            for c in range(max(0, column - 1), min(self.shape[1], column + 2)):
                index = int(self._index[r, c])
                if index >= 0 and index != patch:
                    found.append(index)
        return tuple(found)
