"""Six clinical characteristics: reading, validation in a clinician's words, and the sentences that encode them."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_survpgc.resources import resource_path

from .encoders.base import TextEncoder
from .errors import ClinicalError
from .types import CLINICAL_FIELDS, ClinicalRecord, ClinicalTokens

_MAX_BYTES = 64 << 20
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
    ClinicalError : names every field that cannot be right, and every name that is no field.
    """
    found: dict[str, object] = {}
    problems: list[str] = []
    for key, value in values.items():
        name = _field(str(key))
        if name is None:
            close = difflib.get_close_matches(
                _plain(str(key)), [n.replace("_", " ") for n in CLINICAL_FIELDS], 1
            )
            hint = f" (did you mean {close[0]}?)" if close else ""
            problems.append(f"there is no clinical field '{str(key)[:40]}'{hint}")
        elif name in found:
            problems.append(f"{name} is given twice")
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
    if problems:
        raise ClinicalError(
            f"The clinical record is not usable: {'; '.join(problems)}",
            f"Use the fields {', '.join(CLINICAL_FIELDS)}; leave a field empty if it is unknown",
        )
    return ClinicalRecord(**parsed)


def read_record(path: Path, case: str | None = None) -> ClinicalRecord:
    """Read a record from a JSON object, a one-row CSV, or a table with a ``case_id`` column and ``case``.

    Raises
    ------
    ClinicalError : missing or unreadable file, wrong columns, unknown or repeated case, unusable values.
    """
    text = _read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] == "{":
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ClinicalError(f"{path.name} is not valid JSON ({error})", _example()) from error
        if not isinstance(document, dict):
            raise ClinicalError(f"{path.name} does not hold one record", _example())
        if isinstance(document.get("clinical"), dict):
            document = document["clinical"]
        return _named(path, {k: v for k, v in document.items() if _plain(k) not in ("case id", "slide ids")})
    rows, columns = _read_rows(path, text)
    fields = {column: name for column in columns if (name := _field(column))}
    if not fields:
        raise ClinicalError(
            f"{path.name} has none of the columns {', '.join(CLINICAL_FIELDS)}", "Name the columns like that"
        )
    twice = sorted({n for n in fields.values() if list(fields.values()).count(n) > 1})
    if twice:
        raise ClinicalError(f"{path.name} has several columns for {twice[0]}", "Keep one of them")
    id_column = _id_column(columns)
    if case is not None and id_column is not None:
        chosen = [row for row in rows if (row[id_column] or "").strip() == case]
        if not chosen:
            known = [row[id_column] or "" for row in rows]
            near = difflib.get_close_matches(case, known, 3) or known[:3]
            raise ClinicalError(
                f"{path.name} has no case {case}", f"Choose one that it has, e.g. {', '.join(near)}"
            )
    else:
        chosen = rows
        if case is not None and len(rows) > 1:
            raise ClinicalError(f"{path.name} has no column case_id", "Add it, or give a file with one row")
    if len(chosen) > 1:
        if case is None:
            raise ClinicalError(f"{path.name} holds {len(rows)} patients", "Say which one with --case")
        distinct = {tuple(row[c] for c in fields) for row in chosen}
        if len(distinct) > 1:
            raise ClinicalError(
                f"{path.name} holds {len(chosen)} different rows for {case}", "Keep one of them"
            )
    return _named(path, {name: chosen[0][column] for column, name in fields.items()})


def list_cases(path: Path) -> tuple[str, ...]:
    """Return the ids of a table of patients; () for a file that holds one record.

    Raises
    ------
    ClinicalError : the file cannot be read.
    """
    text = _read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] == "{":
        return ()
    rows, columns = _read_rows(path, text)
    column = _id_column(columns)
    if column is None or len(rows) < 2:
        return ()
    return tuple(dict.fromkeys((row[column] or "").strip() for row in rows))


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


# --- sentences ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TemplateSet:
    """Wordings of the six sentences.

    Attributes
    ----------
    name : of the set.
    known : field -> wordings with the placeholder {value}.   unknown : field -> wording for an unknown value.
    source : the TOML file, copied into a bundle so that a model keeps the wording it was trained with.
    """

    name: str
    known: Mapping[str, tuple[str, ...]]
    unknown: Mapping[str, str]
    source: Path

    @property
    def n_variants(self) -> int:
        return min(len(wordings) for wordings in self.known.values())


def load_templates(name_or_path: str = "default") -> TemplateSet:
    """Load wordings that ship with the package ("default", "synonyms") or a TOML file of the user's.

    Raises
    ------
    ClinicalError : no such set; a field lacks wordings, a wording lacks {value} or has another placeholder.
    """
    path = resource_path("templates", f"{name_or_path}.toml")
    if not re.fullmatch(r"[a-z0-9_-]+", name_or_path) or not path.is_file():
        path = Path(name_or_path)
    try:
        document = tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ClinicalError(
            f"{path.name} is not valid TOML ({error})", "Correct the templates file"
        ) from error
    known: dict[str, tuple[str, ...]] = {}
    unknown: dict[str, str] = {}
    for field in CLINICAL_FIELDS:
        entry = document.get(field)
        wordings = entry.get("known") if isinstance(entry, dict) else None
        blank = entry.get("unknown") if isinstance(entry, dict) else None
        if not isinstance(wordings, list) or not wordings or not isinstance(blank, str):
            raise ClinicalError(
                f"{path.name} lacks wordings for {field}", "Give 'known' (a list) and 'unknown' (a sentence)"
            )
        for wording in (*wordings, blank):
            placeholders = re.findall(r"\{([^}]*)\}", str(wording))
            if placeholders != ([] if wording is blank else ["value"]):
                raise ClinicalError(
                    f"The wording '{str(wording)[:60]}' in {path.name} is not usable",
                    "Write {value} exactly once in a known wording, nowhere in the unknown one",
                )
        known[field], unknown[field] = tuple(str(w) for w in wordings), blank
    return TemplateSet(str(document.get("name", path.stem)), known, unknown, path)


def sentences(
    record: ClinicalRecord, templates: TemplateSet, variant: int | Sequence[int] = 0
) -> tuple[str, ...]:
    """Return six sentences in the order of CLINICAL_FIELDS.

    Parameters
    ----------
    variant : which wording of a set, for all fields or one a field (counted modulo the number there is).
    """
    variants = [variant] * len(CLINICAL_FIELDS) if isinstance(variant, int) else list(variant)
    result = []
    for field, number in zip(CLINICAL_FIELDS, variants, strict=True):
        value = getattr(record, field)
        if value is None:
            result.append(templates.unknown[field])
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            wordings = templates.known[field]
            result.append(wordings[number % len(wordings)].replace("{value}", text))
    return tuple(result)


def clinical_tokens(
    record: ClinicalRecord, encoder: TextEncoder, templates: TemplateSet, variant: int | Sequence[int] = 0
) -> ClinicalTokens:
    """Encode the six sentences of a record, (6, d_c)."""
    texts = sentences(record, templates, variant)
    return ClinicalTokens(np.asarray(encoder.encode(texts), np.float32), texts, encoder.id)


# --- values -------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[\s_.\-]+", " ", text).lower().split())


def _field(column: str) -> str | None:
    plain = _plain(column)
    for name in CLINICAL_FIELDS:
        if plain == name.replace("_", " ") or plain in {_plain(a) for a in _ALIASES[name]}:
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


# --- files --------------------------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ClinicalError(f"{path.name} is too large for clinical records", "Give a smaller file")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ClinicalError(
            f"{path} cannot be read ({error.strerror})", "Check the name and the folder"
        ) from error
    except UnicodeDecodeError as error:
        raise ClinicalError(
            f"{path.name} is not a text file (UTF-8)", "Save it as CSV UTF-8 or JSON"
        ) from error


def _id_column(columns: Sequence[str]) -> str | None:
    return next((c for c in columns if _plain(c) in ("case id", "case", "patient id", "patient")), None)


def _read_rows(path: Path, text: str) -> tuple[list[dict[str, str | None]], list[str]]:
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    try:
        rows = [row for row in reader if any(v for k, v in row.items() if k is not None)]
    except csv.Error as error:
        raise ClinicalError(f"{path.name} is not a CSV table ({error})", _example()) from error
    columns = list(reader.fieldnames or [])
    if not rows:
        raise ClinicalError(f"{path.name} holds no patient", _example())
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise ClinicalError(f"{path.name} has the column {twice[0]} twice", "Keep one of them")
    return rows, columns


def _named(path: Path, values: Mapping[str, object]) -> ClinicalRecord:
    try:
        return parse_record(values)
    except ClinicalError as error:
        raise ClinicalError(f"{path.name}: {error.problem}", error.next_step) from error


def _example() -> str:
    return 'Write e.g. {"age": 58, "sex": "female", "stage": "Stage II", "staging_edition": "7th", "subtype": "", "race": ""}'
