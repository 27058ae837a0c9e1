"""Which encoder made the features of a cohort."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_survpgc.core.bundle.config import UNKNOWN_ENCODER, EncoderSpec
from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.errors import CohortError, FeatureError, counted, too_many
from napari_survpgc.core.features.feature_file import FeatureSummary, summarize_features


def pathology_encoder(cohort: Cohort, cases: Sequence[str], said: str) -> EncoderSpec:
    """Look at every feature file before training starts: damage and mixed encoders are told all at once.

    Parameters
    ----------
    said : by the user, for files that do not say.
    """
    found: dict[tuple[str, int], FeatureSummary] = {}
    problems = []
    for case in cases:
        for path in cohort.features[case]:
            try:
                summary = summarize_features(path)
                summary.check_finished()
            except FeatureError as error:
                problems.append(f"patient {case}: {error.problem}")
            else:
                found.setdefault((summary.encoder or said or UNKNOWN_ENCODER, summary.width), summary)
    if len(found) > 1:
        listed = "; ".join(f"{s.path.name}: {name}, width {width}" for (name, width), s in found.items())
        problems.append(f"the features come from different encoders ({listed})")
    if problems:
        raise unusable_features(problems)
    (encoder, width), first = next(iter(found.items()))
    if said and encoder != said:
        raise CohortError(
            f"The features of {cohort.name} were made with {encoder}, not with {said} ({first.path.name})",
            "Leave image_encoder out, or make the features again",
        )
    known = np.isfinite(first.mpp)
    return EncoderSpec(encoder, width, 0, first.patch_px or None, float(first.mpp) if known else None)


def unusable_features(problems: Sequence[str]) -> CohortError:
    return CohortError(
        f"The features have {counted(problems)}: {too_many(problems)}",
        "Make those again with 'survpgc features', all with one encoder",
    )
