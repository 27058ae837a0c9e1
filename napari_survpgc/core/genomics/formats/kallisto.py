"""kallisto: abundance.tsv, where its transcripts name their genes (GENCODE) or are genes."""

from __future__ import annotations

from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "kallisto"


def recognises(sheet: Sheet) -> bool:
    return {"target_id", "eff_length", "est_counts", "tpm"} <= set(sheet.lower)


def layout(sheet: Sheet) -> Layout:
    lower = sheet.lower
    found = {ExpressionUnit.TPM: lower.index("tpm"), ExpressionUnit.COUNTS: lower.index("est_counts")}
    return Layout(NAME, lower.index("target_id"), by_unit=found, merge=True)
