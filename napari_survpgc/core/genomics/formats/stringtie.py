"""StringTie: the table of genes (-A gene_abund.tab) with FPKM and TPM."""

from __future__ import annotations

from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "StringTie"


def recognises(sheet: Sheet) -> bool:
    return {"gene id", "gene name", "coverage", "fpkm", "tpm"} <= set(sheet.lower)


def layout(sheet: Sheet) -> Layout:
    lower = sheet.lower
    found = {ExpressionUnit.TPM: lower.index("tpm"), ExpressionUnit.FPKM: lower.index("fpkm")}
    return Layout(NAME, lower.index("gene id"), by_unit=found, symbols=lower.index("gene name"), merge=True)
