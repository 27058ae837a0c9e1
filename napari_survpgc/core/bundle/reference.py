"""The reference patients of a bundle: held-out risk, follow-up and the six fields, without identifiers.

A patient of the training cohort is found again by a salted hash of the id, so that a later prediction of the same patient is
not taken for a new one. The hash hides an id from a reader, not from somebody who already has a list of candidates.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_survpgc.core.groups import risk_percentile
from napari_survpgc.core.metrics import c_index
from napari_survpgc.core.types import CLINICAL_FIELDS

REFERENCE_FILE = "reference.csv"
PATIENT = "patient"
"""Column of the hashed ids."""
MIN_OF_A_STAGE = 10
_AGE_STEP = 5
_RESAMPLES = 100
_STAGE = re.compile(r"stage\s+(0|IV|I{1,3})", re.IGNORECASE)


@dataclass(frozen=True)
class ModelQuality:
    """How well a model ranks patients whom it has not seen.

    Attributes
    ----------
    protocol : "honest", or "published": the epoch was chosen on the test patients, so that the C-index is optimistic.
    c_index : mean over the folds of the cross-validation, of their test patients; None where none can be compared.
    c_index_low, c_index_high : 95 % interval by resampling the test patients within their folds.
    """

    protocol: str
    c_index: float | None
    c_index_low: float | None
    c_index_high: float | None
    n_reference: int


@dataclass(frozen=True)
class Place:
    """Share (0-100) of the reference patients with a smaller risk: of all, and of those of the same stage.

    Attributes
    ----------
    same_stage : None where it cannot be said; ``why_not`` then says why.   n_same_stage : how many those are.
    """

    all: float
    same_stage: float | None
    n_same_stage: int = 0
    why_not: str = ""


def main_stage(stage: object) -> str | None:
    """Return "I", "II", "III", "IV" or "0" of a stage such as "Stage IIA"; None for none."""
    found = _STAGE.match(stage) if isinstance(stage, str) else None
    return found[1].upper() if found else None


def hashed(case_id: str, salt: str) -> str:
    """Return 16 hexadecimal digits for an id; case and the dots that R puts for dashes make no difference."""
    name = case_id.strip().upper().replace(".", "-")
    return hashlib.sha256(f"{salt}:{name}".encode()).hexdigest()[:16]


def with_fields(
    predictions: pd.DataFrame, fields: Mapping[str, Mapping[str, object]], salt: str
) -> pd.DataFrame:
    """Return held-out predictions (case_id, fold, risk, survival_months, event) with hashed ids and the six fields.

    Parameters
    ----------
    fields : case_id -> field -> value; a patient who is not there has none.   An age is rounded to five years.
    """
    table = predictions.copy()
    cases = [str(case) for case in table["case_id"]]
    table[PATIENT] = [hashed(case, salt) for case in cases]
    if fields:
        for name in CLINICAL_FIELDS:
            table[name] = pd.Series([fields.get(case, {}).get(name) for case in cases], table.index, object)
        age = pd.to_numeric(table["age"])
        table["age"] = (age / _AGE_STEP).round() * _AGE_STEP
    return table


def kept_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that a bundle keeps: no identifier is among them."""
    known = ("fold", "risk", "survival_months", "event", PATIENT, *CLINICAL_FIELDS)
    return [column for column in known if column in table.columns]


def place_of(reference: pd.DataFrame, risk: float, stage: str | None) -> Place:
    """Return where a risk stands among the reference patients and among those of its stage (I, II, III, IV)."""
    risks = reference["risk"].to_numpy(float)
    everyone = risk_percentile(risk, risks)
    if "stage" not in reference.columns:
        return Place(
            everyone, None, why_not="This model was bundled before stages were kept: bundle it again."
        )
    wanted = main_stage(stage)
    if wanted is None:
        return Place(everyone, None, why_not="The stage is not known.")
    same = np.array([main_stage(value) == wanted for value in reference["stage"]], bool)
    if same.sum() < MIN_OF_A_STAGE:
        return Place(
            everyone, None, int(same.sum()), f"Only {same.sum()} reference patients have stage {wanted}."
        )
    return Place(everyone, risk_percentile(risk, risks[same]), int(same.sum()))


def quality_of(reference: pd.DataFrame, protocol: str, seed: int = 0) -> ModelQuality:
    """Return the C-index of the held-out risks with its interval."""
    parts = [part for _, part in reference.groupby("fold")] if "fold" in reference.columns else [reference]
    columns = [
        tuple(part[name].to_numpy(float) for name in ("survival_months", "event", "risk")) for part in parts
    ]
    value = _mean(columns)
    if value is None:
        return ModelQuality(protocol, None, None, None, len(reference))
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in range(_RESAMPLES):
        drawn = []
        for part in columns:
            index = rng.integers(0, len(part[0]), len(part[0]))
            drawn.append(tuple(column[index] for column in part))
        resampled.append(_mean(drawn))
    low, high = np.quantile([v for v in resampled if v is not None], [0.025, 0.975])
    return ModelQuality(protocol, value, float(low), float(high), len(reference))


def _mean(parts: Sequence[tuple[NDArray[np.float64], ...]]) -> float | None:
    values = np.array([c_index(*part) for part in parts])
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
