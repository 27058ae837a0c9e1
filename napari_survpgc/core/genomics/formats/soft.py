"""SOFT and series matrix files of GEO: named, since their values belong to probes or stand elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

from napari_survpgc.core.errors import ExpressionError


def refuse_soft(path: Path, text: str) -> None:
    """Refuse a SOFT file with what to do instead; other texts pass.

    Raises
    ------
    ExpressionError : SOFT (family, sample, platform) or series matrix.
    """
    begins = text[:4096].lstrip('\n "')
    if not re.match(r"\^(SAMPLE|SERIES|PLATFORM|DATABASE|DATASET)\b|!(Sample|Series|Platform)_", begins):
        return
    series = "series matrix" if begins.startswith("!Series_") else "SOFT"
    number = re.search(r"\bG(?:SE|SM|DS|PL)\d+", begins)
    of = f" ({number[0]})" if number else ""
    raise ExpressionError(
        f"{path.name} is a {series} file of GEO{of}: its values belong to probes of an array, or are not in it",
        "Give the table of genes among the supplementary files of the series, or map the probes to gene symbols and save"
        " genes and values as CSV",
    )
