"""Patches that could not be read: how many a file may lack and still count as finished."""

from __future__ import annotations

from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.types import PatchFeatures

FAILED = "failed_patches"
"""Attribute: how many patches could not be read; files of version 0.1.0 lack it."""
MAX_FAILED = 0.02
"""Share of patches that may fail before a file does not count as finished."""
_FINISH = (
    "Copy the slide again and run 'survpgc features' once more, which tries these patches again, or leave the damaged part"
    " out of the outlines (--tissue)"
)


def check_finished(features: PatchFeatures, name: str) -> None:
    """Raise FeatureError for features that lack more than MAX_FAILED of the patches; files that do not say may."""
    check_share(int(features.attributes.get(FAILED, 0)), len(features.grid), name)


def check_share(failed: int, patches: int, name: str) -> None:
    """Raise FeatureError where ``failed`` patches are missing beside ``patches`` others."""
    if failed > MAX_FAILED * (failed + patches):
        raise FeatureError(
            f"The features of {name} are not finished: {failed} of {failed + patches} patches could not be read"
            f" (at most {100 * MAX_FAILED:g} % may be missing)",
            _FINISH,
        )
