"""Small pictures of patients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.errors import SurvPGCError
from napari_survpgc.core.output.case_file import find_case_slide, load_case
from napari_survpgc.core.output.heatmap import heatmap_image
from napari_survpgc.core.slide.slide import Slide, open_slide
from napari_survpgc.core.types import (
    Prediction,
)

from .results_folder import CaseResult

PredictCase = Callable[[CaseResult, Slide], Prediction]
"""Makes the prediction of a patient who has features but no results."""


def thumbnail_of(
    case: CaseResult, max_px: int, predict: PredictCase | None = None
) -> NDArray[np.uint8] | None:
    """Return a small picture of a patient, the clinic map (or the only one) over the slide.

    Returns
    -------
    (h, w, 3), the longer side at most ``max_px``. Without the slide it is the written heatmap with its margins, without
    a prediction the bare slide; None when there is nothing to see.
    """
    try:
        if case.case_file is not None:
            saved = load_case(case.case_file, features=False)
            with open_slide(find_case_slide(saved, case.case_file), mpp=saved.mpp) as slide:
                return _with_map(slide, saved.prediction, max_px)
        if case.slide is not None:
            with open_slide(case.slide) as slide:
                return (
                    slide.thumbnail(max_px)
                    if predict is None
                    else _with_map(slide, predict(case, slide), max_px)
                )
    except SurvPGCError:
        pass  # the slide has moved: what was written is still there
    if case.heatmap is not None:
        try:
            with Image.open(case.heatmap) as file:
                image = file.convert("RGB")
            image.thumbnail((max_px, max_px))
            return np.asarray(image)
        except (OSError, ValueError):
            return None
    return None


def _with_map(slide: Slide, prediction: Prediction, max_px: int) -> NDArray[np.uint8]:
    thumbnail = slide.thumbnail(max_px)
    maps = AttentionMaps(prediction)
    if not maps.names:
        return thumbnail
    percentiles = maps.map(maps.names[0]).percentiles
    return heatmap_image(
        thumbnail, slide.info.size, prediction.coords, percentiles, prediction.patch_px_level0
    )
