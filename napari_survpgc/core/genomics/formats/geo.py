"""GEO: SOFT files and series matrices are named; they hold an array's probes, or for sequencing no values at all."""

from __future__ import annotations

import re

from napari_survpgc.core.errors import ExpressionError


def refuse(source: str, text: str) -> None:
    """Refuse a SOFT file or a series matrix of GEO.

    Raises
    ------
    ExpressionError : it is one.
    """
    start = text[: 1 << 16].lstrip()
    soft = re.match(r"\^(DATABASE|PLATFORM|SAMPLE|SERIES|DATASET)\s*=", start, re.IGNORECASE)
    if not soft and not re.match(r'"?!(Series|Sample|Platform|Database|dataset)_', start, re.IGNORECASE):
        return
    kind = "a SOFT file" if soft else "a series matrix"
    platform = re.search(r"!(?:Sample|Series)_platform_id\W+(GPL\d+)", text[: 1 << 20])
    where = f", platform {platform[1]}" if platform else ""
    raise ExpressionError(
        f"{source} is {kind} of GEO{where}: its values are those of an array's probes, or none",
        "Give RNA sequencing: the counts, TPM or FPKM among the supplementary files of the series, as a table of genes and"
        " samples",
    )
