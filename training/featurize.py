"""Features of all slides of a cohort folder, ``slides/`` -> ``features/``; what is finished is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_survpgc.core.encoders.base import ImageEncoder
from napari_survpgc.core.errors import CohortError, OutputError, SurvPGCError
from napari_survpgc.core.featurize import slide_features
from napari_survpgc.core.types import ProgressCallback

_SUFFIXES = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".tif", ".tiff", ".dcm"}


def featurize_cohort(
    cohort: Path, encoder: ImageEncoder, *, progress: ProgressCallback | None = None
) -> Sequence[SurvPGCError]:
    """Compute ``features/<slide>.h5`` for every slide in ``slides/``.

    Returns
    -------
    The problems of slides that gave no features; one bad slide does not stop the others.

    Raises
    ------
    CohortError : there is no slide.   OutputError : the disk is full; the next slide would meet the same.
    """
    folder = cohort / "slides"
    slides = sorted(p for p in folder.glob("*") if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not slides:
        raise CohortError(f"There are no slides in {folder}", "Put the slides of the cohort there")
    problems: list[SurvPGCError] = []
    for number, slide in enumerate(slides):
        if progress:
            progress("slides", number, len(slides))
        try:
            slide_features(slide, encoder, cohort / "features" / f"{slide.stem}.h5")
        except OutputError:
            raise
        except SurvPGCError as error:
            problems.append(error)
    if progress:
        progress("slides", len(slides), len(slides))
    return problems
