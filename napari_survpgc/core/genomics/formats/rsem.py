"""RSEM: genes.results, and isoforms.results, whose transcripts are added up to genes."""

from __future__ import annotations

from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "RSEM"
_COLUMNS = {
    ExpressionUnit.TPM: "tpm",
    ExpressionUnit.COUNTS: "expected_count",
    ExpressionUnit.FPKM: "fpkm",
}


def recognises(sheet: Sheet) -> bool:
    return {"gene_id", "effective_length", "expected_count", "tpm"} <= set(sheet.lower)


def layout(sheet: Sheet) -> Layout:
    lower = sheet.lower
    found = {unit: lower.index(name) for unit, name in _COLUMNS.items() if name in lower}
    genes = lower.index("gene_id")
    if "transcript_id" in lower:
        return Layout(NAME, lower.index("transcript_id"), by_unit=found, genes_of=genes)
    return Layout(NAME, genes, by_unit=found, merge=True)
