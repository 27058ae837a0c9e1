"""Six clinical characteristics: validation in a clinician's words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.tables import is_missing, plain
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

from .fields import EDITIONS, FIELDS, field_of_column, value_of_column

VOCABULARY: dict[str, tuple[str, ...]] = {field.name: field.suggestions for field in FIELDS}
"""Suggestions by field for a form; subtype and race also take free text."""
_NOT_ASSESSED = ("x", "tx", "stage x", "stage unknown")  # of TNM, for what could not be assessed


def parse_record(values: Mapping[str, object]) -> ClinicalRecord:
    """Turn field -> value into a record; blank, "unknown", "Stage X" and the like become unknown.

    Raises
    ------
    ClinicalError : names every field that cannot be right, and every name that is no field; ``fields`` has the former.
    """
    parsed: dict[str, Any] = {}
    problems: list[str] = []
    wrong: list[str] = []
    given: set[str] = set()
    for key, raw in values.items():
        field = field_of_column(str(key))
        if field is None:
            close = difflib.get_close_matches(plain(str(key)), [plain(n) for n in CLINICAL_FIELDS], 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            problems.append(f"there is no clinical field '{str(key)[:40]}'{hint}")
            continue
        if field.name in given:
            problems.append(f"{field.name} is given twice")
            wrong.append(field.name)
            continue
        given.add(field.name)
        if is_missing(raw) or str(raw).strip().lower() in _NOT_ASSESSED:
            continue
        try:
            value = value_of_column(str(key), raw)
            if value is None:
                continue
            parsed[field.name] = field.parse(value)
        except ValueError as error:
            problems.append(f"{plain(field.name)} {error}")
            wrong.append(field.name)
    if problems:
        raise ClinicalError(
            f"The clinical record is not usable: {'; '.join(problems)}",
            f"Use the fields {', '.join(CLINICAL_FIELDS)}; leave a field empty if it is unknown",
            tuple(wrong),
        )
    return ClinicalRecord(**parsed)


def unknown_fields(record: ClinicalRecord) -> tuple[str, ...]:
    """Return the names of the fields that are unknown."""
    return tuple(name for name in CLINICAL_FIELDS if getattr(record, name) is None)


def field_warnings(record: ClinicalRecord) -> tuple[str, ...]:
    """Return sentences about fields that may stand for something else.

    The staging edition stands for calendar time: in TCGA-LIHC 23 of 25 patients staged by the 4th or 5th edition
    died, because they were followed longest.
    """
    if record.staging_edition in EDITIONS[:5]:
        return (
            f"The staging edition ({record.staging_edition}) mostly tells when the patient was diagnosed;"
            " a model may read it as long follow-up rather than as disease.",
        )
    return ()
