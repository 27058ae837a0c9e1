"""Reads a cohort from whichever source knows its place, and reports everything that is wrong with it at once."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from . import sources
from .cohort import Cohort
from .sources import folder


class Source(Protocol):
    """What a module of ``sources/`` offers."""

    def recognises(self, place: Path) -> bool:
        """Return True for a place of this source, from names alone: every source is asked."""

    def read(
        self,
        place: Path,
        *,
        endpoint: str = "survival",
        open_features: bool = False,
        long_follow_up: bool = False,
    ) -> Cohort:
        """Read and check it, see :func:`read_cohort`."""


# What no source recognises is told to be no cohort folder.
_LAST: Source = folder


def cohort_sources() -> dict[str, Source]:
    """Return the modules of ``sources/`` by name; a new file there is a new source."""
    names = sorted(module.name for module in pkgutil.iter_modules(sources.__path__))
    return {name: cast(Source, importlib.import_module(f"{sources.__name__}.{name}")) for name in names}


def read_cohort(
    place: Path, *, endpoint: str = "survival", open_features: bool = False, long_follow_up: bool = False
) -> Cohort:
    """Read and check a cohort, by the source that recognises it.

    Parameters
    ----------
    place : a cohort folder, or what another source reads.
    endpoint : "survival" (survival_months, event) or the name of a further one (<name>_months, <name>_event).
    open_features : look into every feature file too, so that damage is listed with the other problems.

    long_follow_up : a person has confirmed that a follow-up of more than 400 "months" is in months.

    Raises
    ------
    LongFollowUpError : the longest follow-up exceeds 400 months, and nobody has confirmed it.
    CohortError : lists all problems, not only the first.
    """
    found = (source for source in cohort_sources().values() if source.recognises(place))
    return next(found, _LAST).read(
        place, endpoint=endpoint, open_features=open_features, long_follow_up=long_follow_up
    )
