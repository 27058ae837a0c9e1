"""What stands for a patient, a slide or a free text in a copy of results that may be given away."""

from __future__ import annotations

import functools
import math
import random
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from napari_survpgc.core.cells import csv_text
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.names import file_name
from napari_survpgc.core.slide.formats import without_suffix
from napari_survpgc.core.types import CLINICAL_FIELDS
from napari_survpgc.resources import resource_path

OLDEST = 89
"""Older patients are "90": there are so few that the age names them (45 CFR 164.514)."""
LEFT_OUT = "A note was left out, since it may name a patient, a file or a day"

_SURELY = 6
_SHORTEST = 4  # characters; what is shorter stands in every file by chance
# What a text may name beside the ids that we know: paths, files, days, long numbers, barcodes, addresses.
_NAMES_SOMETHING = re.compile(
    r"[\\/@]|\w\.(svs|ndpi|mrxs|scn|tiff?|bif|czi|dcm|h5|csv|tsv|txt|json|gz|xlsx?|pt|geojson)\b"
    r"|\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{5,}|\b[A-Z]+[-_]?\d[\w-]*\d\w*\b|'[^']+'|\"[^\"]+\"",
    re.IGNORECASE,
)
_PROGRAM = re.compile(r"log2\(\w+\+[\d.]+\)|\bscFoundation\b|\b\d+(\.\d+)?x\b|\b[EIV]+\b", re.IGNORECASE)


_WORDS = "results result patient patients slide slides case cases one two demo out output test folder copy features expression"


@dataclass
class Pseudonyms:
    """Names of patients and slides, numbered in an order that says nothing; the same id has the same name all through.

    Attributes
    ----------
    known : every text that names someone, for :func:`found_in`.
    """

    known: set[str] = field(default_factory=set)
    _patients: dict[str, str] = field(default_factory=dict)
    _slides: dict[str, str] = field(default_factory=dict)
    _ids: dict[str, str] = field(default_factory=dict)

    def note_patients(self, ids: Iterable[str]) -> None:
        """Give each a name. All that are known at once, so that the numbers do not tell their order."""
        self._note(self._patients, "patient", {_key(each): each for each in ids if each})

    def note_slides(self, ids: Iterable[str]) -> None:
        self._note(self._slides, "slide", {_key(_slide_key(each)): _slide_key(each) for each in ids if each})
        self.known.update(each for each in ids if each)

    def _note(self, names: dict[str, str], kind: str, ids: Mapping[str, str]) -> None:
        new = sorted(set(ids) - set(names))
        random.Random(secrets.randbits(128)).shuffle(new)
        for key in new:
            names[key] = f"{kind}-{len(names) + 1:04d}"
            self.known.update((key, ids[key]))
            self._ids[key] = ids[key]

    def patient(self, identifier: str) -> str:
        self.note_patients([identifier])
        return self._patients[_key(identifier)]

    def slide(self, identifier: str) -> str:
        self.note_slides([identifier])
        return self._slides[_key(_slide_key(identifier))]

    def is_slide(self, identifier: str) -> bool:
        return _key(_slide_key(identifier)) in self._slides

    def note(self, *texts: object) -> None:
        """Remember what else must not be in the copy: samples, files, fingerprints."""
        self.known.update(str(text) for text in texts if isinstance(text, str) and text)

    def table(self) -> str:
        """Return who is who, as CSV."""
        rows = [("patient", self._ids[k], name) for k, name in self._patients.items()]
        rows += [("slide", self._ids[k], name) for k, name in self._slides.items()]
        return csv_text(("kind", "id", "name"), sorted(rows))

    def without(self, text: object) -> str:
        """Return a text of the program or the model without the ids that we know."""
        said, whole = str(text), str(text).lower()
        for name in sorted((n for n in self._naming() if n.lower() in whole), key=len, reverse=True):
            if len(name) >= _SHORTEST or not name.isdigit():
                said = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "(name)", said, flags=re.IGNORECASE)
        return said

    def text(self, text: object) -> str:
        """Return a free text without the ids that we know; :data:`LEFT_OUT` where it may name something else."""
        said = self.without(text)
        return LEFT_OUT if _NAMES_SOMETHING.search(_PROGRAM.sub("", said.replace("(name)", ""))) else said

    def value(self, text: object) -> str | None:
        """Return a short value of a field, e.g. a stage; None where it may name something."""
        said = self.text(text)
        return None if said == LEFT_OUT or "(name)" in said or len(said) > 80 else said

    def search(self) -> Search:
        """Return what finds the ids of the originals in the files of a copy."""
        return Search(self._naming())

    def _naming(self) -> list[str]:
        """What names someone; an everyday word of our own pages (a folder called results) stands in every copy."""
        ours = _our_words()
        return [name for name in self.known if name.strip() and name.strip().lower() not in ours]


class Search:
    """Finds any of many names in files, in time that hardly depends on how many they are."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_start: dict[int, list[bytes]] = {}
        for name in names:
            raw = name.lower().encode("utf-8", "surrogatepass")
            if len(raw) >= _SHORTEST:
                self._by_start.setdefault(int.from_bytes(raw[:4], "little"), []).append(raw)
        self._starts = np.array(sorted(self._by_start), np.uint32)

    def finds(self, content: bytes, *, text: bool) -> bool:
        """Whether a name stands in a file; in files that hold any bytes those of 6 letters and more."""
        lower = content.lower()
        if len(lower) < 4 or not len(self._starts):
            return False
        four = np.ndarray((len(lower) - 3,), "<u4", lower, strides=(1,))
        for place in np.flatnonzero(np.isin(four, self._starts)).tolist():
            for raw in self._by_start[int.from_bytes(lower[place : place + 4], "little")]:
                end = place + len(raw)
                if (text or len(raw) >= _SURELY) and lower[place:end] == raw:
                    around = lower[max(0, place - 1) : place] + lower[end : end + 1]
                    # Part of a longer word or number: by chance, but for long ones.
                    if len(raw) >= 2 * _SURELY or not any(chr(sign).isalnum() for sign in around):
                        return True
        return False


def _key(identifier: str) -> str:
    return file_name(identifier.strip())


def _slide_key(identifier: str) -> str:
    return without_suffix(PurePath(identifier.strip()).name)


@functools.cache
def _our_words() -> frozenset[str]:
    """Words of our own pages and tables."""
    folder = resource_path("report")
    text = " ".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.j2")))
    return frozenset(re.findall(r"[a-z_]+", text.lower())) | frozenset(_WORDS.split())


def age(value: object) -> float | int | None:
    """Return an age that does not name anyone."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value if value <= OLDEST else OLDEST + 1


def field_value(name: str, value: object, names: Pseudonyms) -> str | None:
    """Return the value of a clinical field; None where it may name something, or is none of that field."""
    try:
        parse_record({name: value})
    except ClinicalError:
        return None
    return names.value(value)


def clinical(record: Mapping[str, Any] | None, names: Pseudonyms) -> dict[str, Any] | None:
    """Return the six fields."""
    if record is None:
        return None
    found: dict[str, Any] = {
        key: None if record.get(key) is None else field_value(key, record[key], names)
        for key in CLINICAL_FIELDS
    }
    return found | {"age": age(record.get("age"))}
