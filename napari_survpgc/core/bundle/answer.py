"""The answer as a clinician asks for it: alive at 1, 3 and 5 years, how sure, among whom, and whether to answer at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_survpgc.core.outlook import HORIZONS, SurvivalAt
from napari_survpgc.core.types import ClinicalRecord, Prediction

from .bundle import Bundle
from .reference import ModelQuality, Place, place_of

OUTSIDE = "Outside what this model knows"


@dataclass(frozen=True)
class Answer:
    """What is said first of a prediction.

    Attributes
    ----------
    survival_at : at those of 12, 36 and 60 months where at least 10 reference patients were still followed; () for a
        model with too few reference patients.
    curve : the same from 0 to the last month with 10 reference patients at risk, for the figure.
    median_months : median survival; None where the curve does not reach it within the reliable follow-up.
    outlived_months : what 90 % of patients of this risk outlive.
    answered : False outside what the model knows; ``not_answered_because`` says why, in sentences.
    doubts : what lowers the trust in the answer without taking it back.
    """

    survival_at: tuple[SurvivalAt, ...]
    curve: tuple[SurvivalAt, ...]
    median_months: float | None
    outlived_months: float | None
    answered: bool
    not_answered_because: tuple[str, ...]
    doubts: tuple[str, ...]
    model: ModelQuality
    place: Place


def answer(
    bundle: Bundle, risk: float, record: ClinicalRecord, outside: Sequence[str], doubts: Sequence[str] = ()
) -> Answer:
    """Return the answer for a risk.

    Parameters
    ----------
    outside : why the case is outside what the model knows; () where it is not.
    doubts : of the slide and the expression; those of model and record are added (not that a model is a demonstration,
        which every result warns of).
    """
    found = list(doubts)
    if bundle.quality.protocol == "published":
        found.append(
            "The model was chosen on its test patients ('published' protocol): its C-index is optimistic."
        )
    if "clinic" in bundle.config.encoders and record.stage is None:
        found.append(
            "The stage is not known, which moves the risk of most cancers more than any other field."
        )
    outlook = bundle.outlook
    return Answer(
        survival_at=() if outlook is None else outlook.at(risk, HORIZONS),
        curve=() if outlook is None else outlook.at(risk, outlook.shown_months),
        median_months=None if outlook is None else outlook.median(risk),
        outlived_months=None if outlook is None else outlook.lower_bound(risk),
        answered=not outside,
        not_answered_because=tuple(outside),
        doubts=tuple(found),
        model=bundle.quality,
        place=place_of(bundle.reference, risk, record.stage),
    )


def answer_of(prediction: Prediction) -> Answer | None:
    """Return the answer of a prediction; None for one of an earlier version."""
    return prediction.answer if isinstance(prediction.answer, Answer) else None


def survival_sentence(found: Answer) -> str:
    """Return 'alive at 1 year 81 % (63 to 92), at 3 years ...'; why nothing is said where nothing can be."""
    if not found.survival_at:
        return "Survival at 1, 3 and 5 years is not given: too few reference patients were followed so long."
    parts = []
    for one in found.survival_at:
        years = one.months / 12
        when = f"{years:g} year{'s' if years != 1 else ''}"
        parts.append(f"at {when} {100 * one.survival:.0f} % ({100 * one.low:.0f} to {100 * one.high:.0f})")
    return "Alive " + ", ".join(parts)


def quality_sentence(found: ModelQuality, cohort: str) -> str:
    """Return how good the model is, and on whom."""
    if found.c_index is None:
        return f"How well the model ranks patients of {cohort} is not known."
    how = "" if found.protocol == "honest" else f" (protocol '{found.protocol}': optimistic)"
    return (
        f"In cross-validation on {found.n_reference} patients of {cohort} the model ranked pairs of patients rightly in"
        f" {100 * found.c_index:.0f} % (C-index {found.c_index:.2f}, {found.c_index_low:.2f} to {found.c_index_high:.2f}; 50 %"
        f" is chance){how}."
    )


def place_sentence(found: Place, cohort: str, n_reference: int) -> str:
    """Return the place among all reference patients and among those of the stage."""
    text = f"Risk higher than {found.all:.0f} % of all {n_reference} patients of {cohort}"
    if found.same_stage is None:
        return f"{text}. Place within the stage: {found.why_not[:1].lower() + found.why_not[1:]}"
    return f"{text}, and than {found.same_stage:.0f} % of the {found.n_same_stage} of the same stage."
