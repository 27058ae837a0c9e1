"""Folds of a cohort: made at random, by deaths or by site, and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_survpgc.core.errors import (
    CohortError,
)
from napari_survpgc.core.files import write_table

from .cohort import SPLITS, Cohort, Fold

FOLD_KINDS = ("patient", "event", "site", "leave-site-out")


_SITE_DEATHS = 2


def make_folds(
    cohort: Cohort, n_folds: int = 5, *, seed: int = 0, by: str = "event", val_share: float = 0.0
) -> tuple[Fold, ...]:
    """Make folds; every patient is tested once.

    Parameters
    ----------
    by : "patient" (at random), "event" (as many deaths in each fold as can be), "site" (all patients of a tissue
        source site in one fold, since the site alone predicts survival), "leave-site-out" (one fold a site; sites
        with fewer than 2 deaths, which cannot be scored alone, are tested together in a last fold).
    n_folds : not used by "leave-site-out".
    val_share : part of each training fold that is set aside as val, by site where the folds are by site.

    Raises
    ------
    CohortError : no column site, or more folds than there are patients or sites.
    """
    rng = np.random.default_rng(seed)
    cases = np.array(cohort.patients.index)
    event = cohort.patients["event"].to_numpy(int)
    units = cases if by in ("patient", "event") else _sites(cohort)
    if by == "leave-site-out":
        names, where = np.unique(units, return_inverse=True)
        large = np.bincount(where, event, len(names)) >= _SITE_DEATHS
        number = np.where(large, np.cumsum(large) - 1, large.sum())
        part = number[where]
        n_folds = len(np.unique(part))
    elif by in ("patient", "event", "site"):
        part = _balanced(units, event if by != "patient" else np.zeros_like(event), n_folds, rng)
    else:
        raise CohortError(f"Folds cannot be made by {by}", f"Choose from {', '.join(FOLD_KINDS)}")
    if n_folds < 2 or len(np.unique(part)) < n_folds:
        raise CohortError(
            f"The {len(np.unique(units))} {'patients' if units is cases else 'sites'} are too few for {n_folds} folds",
            "Make fewer folds, or choose another kind",
        )
    folds = []
    for fold in range(n_folds):
        training = part != fold
        val = np.zeros(len(cases), bool)
        if val_share > 0:
            share = _balanced(units[training], event[training], max(2, round(1 / val_share)), rng)
            val[training] = share == 0
        folds.append(
            Fold(
                fold,
                tuple(cases[training & ~val].tolist()),
                tuple(cases[val].tolist()),
                tuple(cases[~training].tolist()),
            )
        )
    return tuple(folds)


def write_folds(folds: Sequence[Fold], folder: Path) -> None:
    """Write fold_<i>.csv files as a cohort folder has them."""
    for fold in folds:
        rows = [(case, split) for split in SPLITS for case in getattr(fold, split)]
        write_table(folder / f"fold_{fold.number}.csv", pd.DataFrame(rows, columns=["case_id", "split"]))


def _sites(cohort: Cohort) -> NDArray[np.str_]:
    if "site" not in cohort.patients.columns or (cohort.patients["site"] == "").any():
        raise CohortError(
            "patients.csv has no column site, or it is empty for some patients",
            "Fill it in, or make folds by event",
        )
    return cohort.patients["site"].to_numpy(str)


def _balanced(
    units: NDArray[np.str_], event: NDArray[np.int64], n_parts: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the part of each patient: whole units, the largest first, each into the part with the least.

    Parts fill up by deaths, then by patients; units of one patient thus go round by death and by chance.
    """
    names, where = np.unique(units, return_inverse=True)
    sizes = np.bincount(where)
    deaths = np.bincount(where, event, len(names))
    order = np.lexsort((rng.permutation(len(names)), -sizes, -deaths))
    part_of = np.zeros(len(names), np.int64)
    load, died = np.zeros(n_parts), np.zeros(n_parts)
    for unit in order:
        chosen = int(np.lexsort((load, died))[0]) if deaths[unit] else int(np.argmin(load))
        part_of[unit] = chosen
        load[chosen] += sizes[unit]
        died[chosen] += deaths[unit]
    return part_of[where]
