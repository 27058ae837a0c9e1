"""Clinical records as numbers, for the systems that do not read sentences: one-hot levels, scaled age, ordinal stage.

Levels and scales come from the training patients only. A level that none of them had is all zeros: nothing is known
about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core import documents
from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

OTHER = "other levels"
_STAGE_GROUPS = ("I", "II", "III", "IV")


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a number among the training patients."""

    mean: float
    sd: float


@documents.leaves_out("pooled")
@dataclass(frozen=True)
class ClinicalEncoding:
    """Which column stands for what.

    Attributes
    ----------
    scales : field -> scale, for age and an ordinal stage: one column (z-score, 0 if unknown).
    levels : field -> values, for the others: one column a value (0 or 1).
    unknown : fields with one more column, 1 where the value is unknown: those unknown in some training patient.
    pooled : field -> rare values that share one column; a value of "" says that even together they are too rare for one.
        None where levels are not pooled.

    Raises
    ------
    ValueError : a field that is not one of the six, or a scale that cannot be divided by.
    """

    scales: Mapping[str, Scale]
    levels: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    pooled: Mapping[str, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        if not {*self.scales, *self.levels, *self.unknown, *(self.pooled or ())} <= set(CLINICAL_FIELDS):
            raise ValueError("a clinical encoding names an unknown field")
        if not all(np.isfinite(s.mean) and np.isfinite(s.sd) and s.sd > 0 for s in self.scales.values()):
            raise ValueError("a scale of the clinical encoding is unusable")
        if not set(self.scales) <= {"age", "stage"}:
            raise ValueError("only age and stage are numbers")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the fields."""
        names: list[str] = []
        for field in CLINICAL_FIELDS:
            names += [field] if field in self.scales else []
            names += [f"{field}={level}" for level in self.levels.get(field, ())]
            names += [f"{field}={OTHER}"] if self._shared(field) else []
            names += [f"{field} unknown"] if field in self.unknown else []
        return tuple(names)

    def _shared(self, field: str) -> tuple[str, ...]:
        """Return the rare values of a field that share a column; () where they have none."""
        rare = (self.pooled or {}).get(field, ())
        return () if "" in rare else rare

    @property
    def fields_of_columns(self) -> tuple[str, ...]:
        """The field that each column belongs to."""
        return tuple(name.split("=")[0].removesuffix(" unknown") for name in self.columns)

    def encode(self, record: ClinicalRecord) -> NDArray[np.float32]:
        """Return one row, (n_columns,)."""
        row: list[float] = []
        for field in CLINICAL_FIELDS:
            value = getattr(record, field)
            if field in self.scales:
                scale = self.scales[field]
                row.append(0.0 if value is None else (_number(field, value) - scale.mean) / scale.sd)
            row += [float(value == level) for level in self.levels.get(field, ())]
            row += [float(value in rare)] if (rare := self._shared(field)) else []
            if field in self.unknown:
                row.append(float(value is None))
        return np.array(row, np.float32)

    def unseen(self, record: ClinicalRecord) -> tuple[str, ...]:
        """Return the fields whose value no training patient had."""
        return tuple(
            field
            for field, levels in self.levels.items()
            if (value := getattr(record, field)) is not None
            and value not in levels
            and value not in (self.pooled or {}).get(field, ())
        )


def fit_encoding(
    records: Sequence[ClinicalRecord],
    fields: Sequence[str] = CLINICAL_FIELDS,
    *,
    ordinal_stage: bool = False,
    rarest: int = 0,
) -> ClinicalEncoding:
    """Learn levels and scales from the training patients.

    Parameters
    ----------
    ordinal_stage : one number, I = 1 to IV = 4 without the letter, instead of a column a stage.
    rarest : levels of fewer training patients share a column, or have none where they are fewer even together; so has
        "unknown". For models that standardize columns: 4 melanomas among 280 patients would weigh as much as their stage.

    Raises
    ------
    ClinicalError : a field that is not one of the six, or nothing is known in any of them.
    """
    strange = sorted(set(fields) - set(CLINICAL_FIELDS))
    if strange:
        raise ClinicalError(
            f"There is no clinical field '{strange[0]}'", f"Choose from {', '.join(CLINICAL_FIELDS)}"
        )
    scales: dict[str, Scale] = {}
    levels: dict[str, tuple[str, ...]] = {}
    pooled: dict[str, tuple[str, ...]] = {}
    unknown = []
    for field in CLINICAL_FIELDS:
        if field not in fields:
            continue
        known = [value for r in records if (value := getattr(r, field)) is not None]
        if not known:
            continue
        if len(records) - len(known) >= max(1, rarest):
            unknown.append(field)
        if field == "age" or (field == "stage" and ordinal_stage):
            numbers = np.array([_number(field, value) for value in known])
            scales[field] = Scale(float(numbers.mean()), float(numbers.std()) or 1.0)
        else:
            counts = Counter(known)
            levels[field] = tuple(sorted(v for v, n in counts.items() if n >= rarest))
            rare = tuple(sorted(v for v, n in counts.items() if n < rarest))
            if rare:
                pooled[field] = rare if sum(counts[v] for v in rare) >= rarest else (*rare, "")
    if not scales and not levels:
        raise ClinicalError("No training patient has a known clinical field", "Fill in patients.csv")
    return ClinicalEncoding(scales, levels, tuple(unknown), pooled if rarest else None)


def stage_group(stage: str) -> int:
    """Return 1 to 4 for "Stage I" to "Stage IVC"; the alphabet would not sort them."""
    return _STAGE_GROUPS.index(stage.removeprefix("Stage ").rstrip("ABC")) + 1


def _number(field: str, value: Any) -> float:
    return float(stage_group(value) if field == "stage" else value)
