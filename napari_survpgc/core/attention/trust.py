"""How far an attention map can be trusted: whether the fold models agree on it, and whether it says what moves the risk.

Attention is not explanation by itself: a map is measured here, not believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .scores import top_k

TOP = 50
"""Patches that the overlap compares: those of a gallery."""
MIN_AGREEMENT = 0.5
MIN_RATIO = 2.0


@dataclass(frozen=True)
class MapTrust:
    """What was measured of one map.

    Attributes
    ----------
    fold_agreement : mean over pairs of fold models of the Spearman rank correlation of their maps; None where it cannot
        be said: one fold model, one patch, or maps that are the same everywhere.
    top_overlap : mean over the same pairs of the share (0-1) of their top 50 patches (all, when there are fewer) that
        they have in common; None with one fold model.
    deletion : how far the risk moves, in either direction, when the top 20 % of the patches are taken out.
    deletion_random : the mean of that over random sets of as many patches (fixed seed).
    """

    fold_agreement: float | None
    top_overlap: float | None
    deletion: float | None
    deletion_random: float | None

    @property
    def agrees(self) -> bool:
        return self.fold_agreement is not None and self.fold_agreement >= MIN_AGREEMENT

    @property
    def faithful(self) -> bool:
        if self.deletion is None or self.deletion_random is None:
            return False
        return self.deletion > 0 and self.deletion >= MIN_RATIO * self.deletion_random

    @property
    def trusted(self) -> bool:
        """The rule: fold_agreement of 0.5 or more, and deletion at least twice deletion_random.

        A map of which one of the two could not be measured is not trusted.
        """
        return self.agrees and self.faithful

    def document(self) -> dict[str, float | bool | None]:
        """Return what prediction.json says."""
        return {
            "fold_agreement": self.fold_agreement,
            "top_overlap": self.top_overlap,
            "deletion": self.deletion,
            "deletion_random": self.deletion_random,
            "trusted": self.trusted,
        }


def agreement(maps: Sequence[NDArray[np.float64]]) -> tuple[float | None, float | None]:
    """Return fold_agreement and top_overlap of the (n_p,) maps of the fold models, see :class:`MapTrust`."""
    pairs = list(combinations(range(len(maps)), 2))
    if not pairs:
        return None, None
    k = min(TOP, len(maps[0]))
    tops = [set(top_k(values, k).tolist()) for values in maps]
    overlap = float(np.mean([len(tops[i] & tops[j]) / k for i, j in pairs]))
    ranks = np.stack([stats.rankdata(values) for values in maps])
    if len(maps[0]) < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return None, overlap
    correlation = np.corrcoef(ranks)
    return float(np.mean([correlation[i, j] for i, j in pairs])), overlap


def measured_trust(provenance: Mapping[str, Any]) -> dict[str, MapTrust]:
    """Return what a prediction says of its maps, by name; none of results of earlier versions, or that make no sense."""
    said = provenance.get("map_trust")
    found = {}
    for name in ("clinic", "genomic"):
        one = said.get(name) if isinstance(said, Mapping) else None
        if not isinstance(one, Mapping):
            continue
        values = [one.get(key) for key in ("fold_agreement", "top_overlap", "deletion", "deletion_random")]
        if all(v is None or (isinstance(v, (int, float)) and np.isfinite(v)) for v in values):
            found[name] = MapTrust(*values)
    return found


def trust_sentence(found: MapTrust) -> str:
    """Return one sentence on a map for its reader."""
    if found.trusted:
        return (
            f"The fold models agree on this map ({found.fold_agreement:.2f}), and the patches it marks move the risk"
            f" {_times(found)}."
        )
    if found.fold_agreement is None:
        return "Whether the fold models agree on this map cannot be said: read it with care."
    if not found.agrees:
        also = "" if found.faithful else f"; the patches it marks move the risk {_times(found)}"
        how = "little" if found.fold_agreement > 0 else "not at all"
        return (
            f"The fold models agree {how} on this map ({found.fold_agreement:.2f}){also}: read it with care."
        )
    return (
        f"The fold models agree on this map ({found.fold_agreement:.2f}), but the patches it marks move the risk"
        f" {_times(found)}: read it with care."
    )


def _times(found: MapTrust) -> str:
    if found.deletion is None or found.deletion_random is None:
        return "by an amount that could not be measured"
    if found.deletion_random <= 0:
        return "and random ones do not" if found.deletion > 0 else "no more than random ones"
    return f"{found.deletion / found.deletion_random:.1f} times as much as random ones"
