"""Cufflinks and Cuffdiff: genes.fpkm_tracking, and isoforms.fpkm_tracking, whose transcripts are added up to genes."""

from __future__ import annotations

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.gene_names import is_transcript
from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "Cufflinks"


def recognises(sheet: Sheet) -> bool:
    lower = sheet.lower
    return "tracking_id" in lower and any(name == "fpkm" or name.endswith("_fpkm") for name in lower)


def layout(sheet: Sheet) -> Layout:
    lower = sheet.lower
    ids = lower.index("tracking_id")
    genes = lower.index("gene_short_name") if "gene_short_name" in lower else None
    columns = {
        sheet.cells[i][: -len("_FPKM")]: i
        for i, name in enumerate(lower)
        if name.endswith("_fpkm") and len(name) > 5
    }
    by_unit = {ExpressionUnit.FPKM: lower.index("fpkm")} if "fpkm" in lower else {}
    transcripts = any(is_transcript(cell) for cell in sheet.first_cells(ids)) or "isoforms" in sheet.name
    if genes is None and transcripts:
        raise ExpressionError(
            f"{sheet.name} holds transcripts without the names of their genes", "Give genes.fpkm_tracking"
        )
    return Layout(
        NAME,
        ids if transcripts or genes is None else genes,
        samples={} if by_unit else columns,
        by_unit=by_unit,
        genes_of=genes if transcripts else None,
        unit=ExpressionUnit.FPKM,
        merge=True,
    )
