"""The six clinical fields in one table: names, labels, names in other tables, and how each value is read.

Values are read leniently in spelling and strictly in meaning: a range of stages is no stage.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_survpgc.core.tables import is_missing, plain

_MAX_TEXT = 120
_DAYS_A_YEAR = 365.25
_OLDEST = 120
_STAGES = tuple(
    f"{numeral}{letter}" for numeral in ("I", "II", "III", "IV") for letter in ("", "A", "B", "C")
)
_NUMERALS = {"1": "I", "2": "II", "3": "III", "4": "IV"}
EDITIONS = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th")
# Before the name of a column in tables of the GDC since 2024: diagnoses.ajcc_pathologic_stage.
_TABLES_OF_GDC = ("cases ", "demographic ", "diagnoses ", "diagnosis ")
# Xena writes them behind: age_at_index.demographic, and .xena_derived where it computed a column.
_TABLES_OF_XENA = (" xena derived", " demographic", " diagnoses")
_CODES_FOR_MISSING = frozenset(("-9", "-99", "-999", "-9999", "999", "9999"))  # of SPSS; no age, no name
_LOOKS_LIKE = frozenset(
    (
        "age", "sex", "gender", "female", "male", "stage", "staging", "edition", "subtype", "subtypes", "histology",
        "histologic", "histological", "pam50", "race",
    )
)  # fmt: skip


@dataclass(frozen=True)
class ClinicalField:
    """One clinical characteristic.

    Attributes
    ----------
    name : in records and files.   label, tip : for a form.
    parse : a value -> its canonical form; ValueError says what is wrong with it, to go after the name.
    aliases : other names of its column (as :func:`~napari_survpgc.core.tables.plain` writes them) -> what turns the
        value there into one of this field.
    suggestions : for a form.   free_text : other texts are taken too.
    later : aliases that are used only where no better column of the file has a value, the better ones first; those of
        one tuple are equally good.
    """

    name: str
    label: str
    tip: str
    parse: Callable[[object], Any]
    aliases: Mapping[str, Callable[[object], object]] = field(default_factory=dict)
    suggestions: tuple[str, ...] = ()
    free_text: bool = False
    later: tuple[str | tuple[str, ...], ...] = ()


def _as_it_is(value: object) -> object:
    return value


def _from_days(value: object) -> object:
    """Age in years of a number of days, also of days before the diagnosis (negative)."""
    return abs(_number(value, "days")) / _DAYS_A_YEAR


def _days_if_large(value: object) -> object:
    """The GDC gives age_at_diagnosis in days, others by the same name in years; nobody is 150 years old."""
    days = _number(value, "years")
    return days / _DAYS_A_YEAR if days > 150 else value


def _truth(yes: str, no: str) -> Callable[[object], object]:
    """Return what reads a column such as is_female."""

    def read(value: object) -> object:
        text = str(value).strip().lower()
        if text in ("1", "1.0", "true", "yes", "y"):
            return yes
        if text in ("0", "0.0", "false", "no", "n"):
            return no
        raise ValueError(f"is '{str(value)[:40]}', not 0 or 1")

    return read


def _number(value: object, unit: str) -> float:
    text = re.sub(r"\s*(years?|yrs?|y)(\s+old)?\.?$", "", str(value).strip(), flags=re.IGNORECASE)
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"is '{str(value)[:40]}', which is not a number of {unit}") from None


def _age(value: object) -> float:
    age = _number(value, "years")
    if not 0 <= age <= _OLDEST:
        days = (
            "; if these are days, name the column age_in_days" if 365 <= abs(age) <= 365.25 * _OLDEST else ""
        )
        raise ValueError(f"is {age:g}, outside 0 to {_OLDEST} years{days}")
    return age


def _sex(value: object) -> str:
    text = str(value).strip().lower()
    for sex in ("female", "male"):
        if text in (sex, sex[0]):
            return sex
    raise ValueError(f"is '{str(value)[:40]}', not female or male")


def _stage(value: object) -> str | None:
    """Read one stage group: a numeral, then a letter, with at most one sign between; a range has no one stage."""
    text = str(value).strip().upper()
    text = re.sub(
        r"^((AJCC|UICC|TNM|PATHOLOGIC(AL)?|TUMOU?R|P)[\s_.\-]*)*(STAGE)?([\s_]*GROUP)?[\s_.:\-]*", "", text
    )
    if text in ("X", "TX", "UNKNOWN") or is_missing(text):
        return None
    if match := re.fullmatch(r"(IV|III|II|I|[1-4])(?:[\s_.\-]?([ABC])\d?)?", text):
        return f"Stage {_NUMERALS.get(match[1], match[1])}{match[2] or ''}"
    several = len(re.findall(r"IV|I{1,3}|[1-4]", text)) > 1
    why = (
        ", which names more than one stage"
        if several
        else ", not one of Stage I to Stage IVC (TNM stage group)"
    )
    raise ValueError(f"is '{str(value)[:40]}'{why}")


def _edition(value: object) -> str:
    text = re.sub(r"(ajcc|uicc|tnm|edition|ed\.?)", "", str(value).lower()).strip()
    match = re.fullmatch(r"([1-9])(\.0|st|nd|rd|th)?", text)
    if not match:
        raise ValueError(f"is '{str(value)[:40]}', not an edition from 1st to 9th")
    return EDITIONS[int(match[1]) - 1]


def _text(value: object) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    if isinstance(value, (dict, list, bool)):
        raise ValueError("is not a text")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"is longer than {_MAX_TEXT} characters")
    return text


def _names(*names: str) -> dict[str, Callable[[object], object]]:
    return dict.fromkeys(names, _as_it_is)


FIELDS = (
    ClinicalField(
        "age",
        "Age",
        "Age at diagnosis in years, 0 to 120; leave empty if unknown",
        _age,
        {
            **_names(
                "age years", "age in years", "age at index", "age at initial pathologic diagnosis", "diagnosis age",
                "patient age", "age at earliest diagnosis in years", "age at dx", "age at diagnosis years", "age yrs",
                "age at diagnosis in years", "age at surgery", "age at initial diagnosis",
            ),
            **dict.fromkeys(("age at diagnosis", "age at earliest diagnosis"), _days_if_large),
            **dict.fromkeys(
                (
                    "age in days", "age days", "age at diagnosis days", "age at diagnosis in days", "days to birth",
                    "birth days to",
                ),
                _from_days,
            ),
        },
        later=(
            "age at initial pathologic diagnosis", "age at earliest diagnosis in years", "age at diagnosis",
            "age at diagnosis days", "age at earliest diagnosis", "days to birth", "birth days to",
        ),
    ),
    ClinicalField(
        "sex",
        "Sex",
        "As recorded",
        _sex,
        {
            **_names("gender", "sex at birth", "sex assigned at birth", "patient sex", "patient gender"),
            **dict.fromkeys(("is female", "female", "isfemale"), _truth("female", "male")),
            **dict.fromkeys(("is male", "male", "ismale"), _truth("male", "female")),
        },
        ("female", "male"),
        later=(("gender", "patient gender", "is female", "female", "isfemale", "is male", "male", "ismale"),),
    ),
    ClinicalField(
        "stage",
        "Tumor stage",
        "AJCC/UICC stage group, I to IVC",
        _stage,
        _names(
            "tumor stage", "tumour stage", "ajcc pathologic stage", "pathologic stage", "pathological stage", "stage group",
            "ajcc pathologic tumor stage", "neoplasm disease stage american joint committee on cancer code",
            "ajcc path stage", "ajcc stage", "path stage", "tumor stage 2009", "uicc pathologic stage", "uicc stage",
            "tnm stage", "overall stage", "stage at diagnosis", "pathologic tumor stage", "ajcc clinical stage",
            "clinical stage", "uicc clinical stage", "figo stage",
        ),
        tuple(f"Stage {stage}" for stage in _STAGES),
        later=(
            "uicc pathologic stage", "tumor stage", "tumor stage 2009", "ajcc clinical stage", "clinical stage",
            "uicc clinical stage", "figo stage",
        ),
    ),
    ClinicalField(
        "staging_edition",
        "Staging edition",
        "Edition of the AJCC/TNM manual that the stage was given by",
        _edition,
        _names(
            "edition", "ajcc staging edition", "ajcc staging system edition", "ajcc edition", "tnm edition",
            "staging system edition", "uicc staging system edition", "ajcc version",
            "american joint committee on cancer publication version type",
        ),
        EDITIONS,
        later=("uicc staging system edition",),
    ),
    ClinicalField(
        "subtype",
        "Subtype",
        "Histological subtype; choose one or type it",
        _text,
        _names(
            "histological subtype", "histologic subtype", "histological type", "histology", "histological diagnosis",
            "primary diagnosis", "histologic type", "histologic diagnosis", "cancer type detailed", "oncotree code",
            "tumor subtype", "tumor other histologic subtype",
        ),
        (
            "Infiltrating duct carcinoma",
            "Lobular carcinoma",
            "Ductal and Lobular Neoplasms",
            "Hepatocellular carcinoma",
            "Adenocarcinoma",
            "Mucinous adenocarcinoma",
            "Squamous cell carcinoma",
        ),
        free_text=True,
        later=(
            "tumor other histologic subtype", "histological type", "histologic type", "histology", "histological diagnosis",
            "histologic diagnosis", "primary diagnosis", "cancer type detailed", "oncotree code",
        ),
    ),
    ClinicalField(
        "race",
        "Race",
        "As recorded; choose one or type it",
        _text,
        _names("ethnicity or race", "race category"),
        (
            "white",
            "black or african american",
            "asian",
            "american indian or alaska native",
            "native hawaiian or other pacific islander",
        ),
        free_text=True,
    ),
)  # fmt: skip
"""In the order of the paper, which is that of the clinical tokens."""


def columns_of_fields(
    columns: Sequence[str], values: Callable[[str], Iterable[object]] | None = None
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Find the columns of a table that hold the fields; a field's own name goes before those of other tables.

    Parameters
    ----------
    values : column -> its cells: a column without any value leaves its place to the next.

    Returns
    -------
    column -> field, and of the fields that several columns hold equally well: field -> these columns.
    """
    chosen: dict[str, str] = {}
    doubtful: dict[str, tuple[str, ...]] = {}
    for one in FIELDS:
        found = tuple(column for column in columns if field_of_column(column) is one)
        if values is not None and len(found) > 1:
            found = tuple(c for c in found if not all(map(is_missing, values(c)))) or found[:1]
        if not found:
            continue
        best = min(_rank(one, column) for column in found)
        named = tuple(column for column in found if _rank(one, column) == best)
        if len(named) > 1:
            doubtful[one.name] = named
        else:
            chosen[named[0]] = one.name
    return chosen, doubtful


def _rank(one: ClinicalField, column: str) -> int:
    bare = _bare(column)
    if bare == plain(one.name):
        return -1
    for n, names in enumerate(one.later, 1):
        if bare == names or (isinstance(names, tuple) and bare in names):
            return n
    return 0


def notes_of_columns(columns: Sequence[str], chosen: Mapping[str, str]) -> list[str]:
    """Say which columns were read by another name, and which look like a field but are not used.

    Parameters
    ----------
    chosen : column -> field, of :func:`columns_of_fields`.
    """
    column_of = {name: column for column, name in chosen.items()}
    notes = [f"The column {column} was read as {name}." for column, name in chosen.items() if column != name]
    absent = [one.name for one in FIELDS if one.name not in column_of]
    unused = []
    for column in columns:
        if column in chosen:
            continue
        if other := field_of_column(column):
            there = column_of.get(other.name)
            notes.append(f"The column {column} was not used, since there is a column {there}.")
            continue
        near = difflib.get_close_matches(plain(column), [plain(name) for name in absent], 1, 0.75)
        if near:
            notes.append(
                f"The column {column} was not used; name it {near[0].replace(' ', '_')} if it is that."
            )
        elif _LOOKS_LIKE & set(_bare(column).split()):
            unused.append(column)
    if unused:
        shown = ", ".join(unused[:20]) + (f" and {len(unused) - 20} more" if len(unused) > 20 else "")
        notes.append(f"Not used, though similar to a clinical field by name: {shown}.")
    return notes


def key_of_column(column: str, values: Iterable[object]) -> str:
    """Return the name to read a column by: an age at diagnosis is in days for all, where one value is."""
    if _bare(column) in ("age at diagnosis", "age at earliest diagnosis"):
        for value in values:
            try:
                if float(str(value).replace(",", ".")) > 150:
                    return "age_at_diagnosis_days"
            except ValueError:
                continue
    return column


@functools.lru_cache(1 << 12)  # the same few columns for each of 20,000 patients
def field_of_column(column: str) -> ClinicalField | None:
    """Return the field that a column holds, by its own name or one of those that other tables give it."""
    bare = _bare(column)
    return next((f for f in FIELDS if bare == plain(f.name) or bare in f.aliases), None)


def value_of_column(column: str, value: object) -> object:
    """Return the value of a column in the field's own terms (years for days, female for is_female = 1).

    Raises
    ------
    ValueError : it cannot be turned into them; the text goes after the field's name.
    """
    found = field_of_column(column)
    if isinstance(value, str) and re.fullmatch(r"""\[\s*(['"]).*\1\s*\]""", value.strip(), re.DOTALL):
        value = _only_of_list(value)
    if found is None or is_missing(value):
        return None if is_missing(value) else value
    read = found.aliases.get(_bare(column), _as_it_is)
    if read is not _from_days and str(value).strip().removesuffix(".0") in _CODES_FOR_MISSING:
        return None
    return read(value)


def _only_of_list(text: str) -> str:
    """Return the one value of a list in text, as Xena writes what a patient has several of: "['Stage I', 'Stage I']"."""
    parts = {match[1] for match in re.finditer(r"""['"]([^'"]*)['"]""", text)}
    known = sorted(part for part in parts if not is_missing(part))
    if len(known) > 1:
        raise ValueError(f"has several values ({', '.join(known)[:80]})")
    return known[0] if known else ""


def _bare(column: str) -> str:
    bare = plain(column)
    for table in _TABLES_OF_GDC:
        bare = bare.removeprefix(table)
    for table in _TABLES_OF_XENA:
        bare = bare.removesuffix(table)
    return bare
