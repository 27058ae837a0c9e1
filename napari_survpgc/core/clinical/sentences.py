"""A record as six sentences, and their tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_survpgc.core.encoders.base import TextEncoder
from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.files import read_toml
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord, ClinicalTokens
from napari_survpgc.resources import resource_path


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
    document = read_toml(path, ClinicalError, "Correct the templates file (text in UTF-8)")
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
