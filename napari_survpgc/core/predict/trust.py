"""What is measured of the maps of a prediction beside them, see :class:`~napari_survpgc.core.attention.trust.MapTrust`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.attention.scores import patch_scores, top_k
from napari_survpgc.core.attention.trust import MapTrust, agreement

from .left_out import FoldCase, Groups, risks_without

R = TypeVar("R")
_SHARE = 5  # a fifth is deleted: the top 20 %
_PARTITIONS = 4
"""Random divisions into fifths: 20 random deletions; a model that must be run again for each gets one division."""


def map_trust(
    cases: Sequence[FoldCase],
    attention: Mapping[str, NDArray[np.float32]],
    risk: float,
    each_fold: Callable[[Callable[[int], R]], list[R]],
) -> dict[str, dict[str, Any]]:
    """Return for each map what prediction.json says of how far it can be trusted.

    A deletion takes patches from the patient, so both paths lose them. It is measured on the mean risk of the fold
    models.

    Parameters
    ----------
    attention : the maps that are shown, over all patches of the patient.   each_fold : runs a function of each number.
    """
    found: dict[str, dict[str, Any]] = {}
    if not attention:
        return found
    n = next(iter(attention.values())).shape[1]
    deletions = _deletions(n, attention, _PARTITIONS if cases[0].by_structure else 1)
    count = len(deletions) - len(attention)

    def run(number: int) -> tuple[dict[str, NDArray[np.float64]], list[NDArray[np.float64]]]:
        case = cases[number]
        blocks = {name: case.fold.attention(name) for name in attention}
        maps = {name: patch_scores(b[0].float()) for name, b in blocks.items() if b is not None}
        return maps, risks_without(case, deletions)

    runs: list[Any] = each_fold(run)  # type: ignore[arg-type]
    moved = [np.abs(np.mean([risks[i] for _, risks in runs], axis=0) - risk) for i in range(len(deletions))]
    # A slide of fewer patches than groups has some that are empty, or whose deletion leaves nothing.
    drawn = np.concatenate([np.zeros(0), *moved[:count]])
    drawn = drawn[np.isfinite(drawn)]
    for place, name in enumerate(attention):
        top = float(moved[count + place][1])
        correlation, overlap = agreement([maps[name] for maps, _ in runs])
        trust = MapTrust(
            None if correlation is None else round(correlation, 4),
            None if overlap is None else round(overlap, 4),
            deletion=round(top, 6) if np.isfinite(top) else None,
            deletion_random=round(float(drawn.mean()), 6) if len(drawn) else None,
        )
        found[name] = trust.document()
    return found


def _deletions(n: int, attention: Mapping[str, NDArray[np.float32]], partitions: int) -> list[Groups]:
    """Return random divisions into fifths, then the top fifth of each map."""
    random = np.random.default_rng(0)
    divided = (
        [Groups(random.permutation(n) % _SHARE, _SHARE) for _ in range(partitions)] if n >= _SHARE else []
    )
    tops = []
    for matrix in attention.values():
        mask = np.zeros(n, bool)
        mask[top_k(patch_scores(matrix), max(1, round(n / _SHARE)))] = True
        tops.append(Groups.inside(mask))
    return [*divided, *tops]
