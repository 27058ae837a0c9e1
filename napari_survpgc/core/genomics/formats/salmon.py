"""salmon: quant.genes.sf, and quant.sf where its transcripts name their genes (GENCODE) or are genes."""

from __future__ import annotations

from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "salmon"


def recognises(sheet: Sheet) -> bool:
    return {"name", "length", "effectivelength", "tpm", "numreads"} <= set(sheet.lower)


def layout(sheet: Sheet) -> Layout:
    lower = sheet.lower
    found = {ExpressionUnit.TPM: lower.index("tpm"), ExpressionUnit.COUNTS: lower.index("numreads")}
    return Layout(NAME, lower.index("name"), by_unit=found, merge=True)
