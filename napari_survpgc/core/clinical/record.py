"""Six clinical characteristics: reading, validation in a clinician's words, and the sentences that encode them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

_MAX_TEXT = 120
_UNKNOWN = {
    "", "nan", "na", "n/a", "none", "null", "unknown", "not reported", "not available", "[not available]", "missing",
    "[not evaluated]", "[unknown]", "unspecified", "stage x", "stage unknown", "x", "tx", "--", "-", "?", "[discrepancy]",
}  # fmt: skip
_STAGES = (
    "I",
    "IA",
    "IB",
    "IC",
    "II",
    "IIA",
    "IIB",
    "IIC",
    "III",
    "IIIA",
    "IIIB",
    "IIIC",
    "IV",
    "IVA",
    "IVB",
    "IVC",
)
_EDITIONS = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th")
_ALIASES = {
    "age": ("age at diagnosis", "age_years", "age at index"),
    "sex": ("gender",),
    "stage": ("tumor stage", "tumour stage", "ajcc pathologic stage", "pathologic stage"),
    "staging_edition": ("edition", "ajcc staging edition", "ajcc edition", "tnm edition"),
    "subtype": ("histological subtype", "histological type", "histology"),
    "race": ("ethnicity or race",),
}

VOCABULARY: dict[str, tuple[str, ...]] = {
    "age": (),
    "sex": ("female", "male"),
    "stage": tuple(f"Stage {stage}" for stage in _STAGES),
    "staging_edition": _EDITIONS,
    "subtype": (
        "Infiltrating duct carcinoma",
        "Lobular carcinoma",
        "Ductal and Lobular Neoplasms",
        "Hepatocellular carcinoma",
        "Adenocarcinoma",
        "Mucinous adenocarcinoma",
        "Squamous cell carcinoma",
    ),
    "race": (
        "white",
        "black or african american",
        "asian",
        "american indian or alaska native",
        "native hawaiian or other pacific islander",
    ),
}
"""Suggestions by field for a form; subtype and race also take free text."""


def parse_record(values: Mapping[str, object]) -> ClinicalRecord:
    """Turn field -> value into a record; blank, "unknown", "Stage X" and the like become unknown.

    Raises
    ------
    ClinicalError : names every field that cannot be right (``fields``), and every name that is no field.
    """
    found: dict[str, object] = {}
    problems: list[str] = []
    wrong: list[str] = []
    for key, value in values.items():
        name = field_of_column(str(key))
        if name is None:
            close = difflib.get_close_matches(
                plain(str(key)), [n.replace("_", " ") for n in CLINICAL_FIELDS], 1
            )
            hint = f" (did you mean {close[0]}?)" if close else ""
            problems.append(f"there is no clinical field '{str(key)[:40]}'{hint}")
        elif name in found:
            problems.append(f"{name} is given twice")
            wrong.append(name)
        else:
            found[name] = value
    parsers = {
        "age": _age,
        "sex": _sex,
        "stage": _stage,
        "staging_edition": _edition,
        "subtype": _text,
        "race": _text,
    }
    parsed: dict[str, Any] = {}
    for name, parser in parsers.items():
        raw = found.get(name)
        if raw is None or _is_unknown(raw):
            continue
        try:
            parsed[name] = parser(raw)
        except ValueError as error:
            problems.append(f"{name.replace('_', ' ')} {error}")
            wrong.append(name)
    if problems:
        raise ClinicalError(
            f"The clinical record is not usable: {'; '.join(problems)}",
            f"Use the fields {', '.join(CLINICAL_FIELDS)}; leave a field empty if it is unknown",
            dict.fromkeys(wrong),
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
    if record.staging_edition in _EDITIONS[:5]:
        return (
            f"The staging edition ({record.staging_edition}) mostly tells when the patient was diagnosed;"
            " a model may read it as long follow-up rather than as disease.",
        )
    return ()


# --- values -------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    return " ".join(re.sub(r"[\s_.\-]+", " ", text).lower().split())


def field_of_column(column: str) -> str | None:
    bare = plain(column)
    for name in CLINICAL_FIELDS:
        if bare == name.replace("_", " ") or bare in {plain(a) for a in _ALIASES[name]}:
            return name
    return None


def _is_unknown(value: object) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return True
    return isinstance(value, str) and value.strip().lower() in _UNKNOWN


def _age(value: object) -> float:
    text = re.sub(r"\s*(years?|yrs?|y)(\s+old)?\.?$", "", str(value).strip(), flags=re.IGNORECASE)
    try:
        if isinstance(value, bool):
            raise ValueError
        age = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"is '{str(value)[:40]}', which is not a number of years") from None
    if not 0 <= age <= 120:
        raise ValueError(f"is {text}, outside 0 to 120 years")
    return age


def _sex(value: object) -> str:
    text = str(value).strip().lower()
    for sex in VOCABULARY["sex"]:
        if text in (sex, sex[0]):
            return sex
    raise ValueError(f"is '{str(value)[:40]}', not female or male")


def _stage(value: object) -> str:
    text = re.sub(r"[\s_.\-]", "", str(value).upper())
    text = re.sub(r"^(AJCC|PATHOLOGIC|P)?STAGE", "", text)
    match = re.fullmatch(r"(IV|III|II|I|[1-4])([ABC]?)[0-9]?", text)
    if match:
        roman = {"1": "I", "2": "II", "3": "III", "4": "IV"}.get(match[1], match[1])
        stage = roman + match[2]
        if stage in _STAGES:
            return f"Stage {stage}"
    raise ValueError(f"is '{str(value)[:40]}', not one of Stage I to Stage IVC (TNM stage group)")


def _edition(value: object) -> str:
    text = re.sub(r"(ajcc|uicc|tnm|edition|ed\.?)", "", str(value).lower()).strip()
    match = re.fullmatch(r"([1-9])(\.0|st|nd|rd|th)?", text)
    if not match:
        raise ValueError(f"is '{str(value)[:40]}', not an edition from 1st to 9th")
    return _EDITIONS[int(match[1]) - 1]


def _text(value: object) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    if isinstance(value, (dict, list, bool)):
        raise ValueError("is not a text")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"is longer than {_MAX_TEXT} characters")
    return text
