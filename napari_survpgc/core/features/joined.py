"""The slides of one patient as one bag, as the trainer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.types import PatchFeatures, SlidePart


def join_slides(bags: Sequence[PatchFeatures], names: Sequence[str]) -> PatchFeatures:
    """Return the patches of all slides of a patient, in the order of the slides; ``parts`` tells them apart.

    Parameters
    ----------
    names : of the slides, one a bag.

    Raises
    ------
    FeatureError : they were made with different encoders.
    """
    first = bags[0]
    for name, bag in zip(names, bags, strict=True):
        if bag.features.shape[1] != first.features.shape[1] or bag.encoder != first.encoder:
            raise FeatureError(
                f"The features of {name} and {names[0]} were made with different encoders",
                "Make both with one encoder",
            )
    if len(bags) == 1:
        return first
    return replace(
        first,
        features=np.concatenate([bag.features for bag in bags]),
        grid=replace(first.grid, coords=np.concatenate([bag.grid.coords for bag in bags]), slide_size=None),
        failed_coords=np.concatenate([bag.failed_coords for bag in bags]),
        slide_fingerprint=None,
        parts=tuple(
            SlidePart(name, bag.grid, bag.slide_fingerprint) for name, bag in zip(names, bags, strict=True)
        ),
    )


def rows_of(parts: Sequence[SlidePart], number: int) -> slice:
    """Return the rows of one slide among those of all."""
    start = sum(len(part.grid) for part in parts[:number])
    return slice(start, start + len(parts[number].grid))
