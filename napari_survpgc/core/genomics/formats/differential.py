"""DESeq2, edgeR, limma, Cuffdiff: a comparison of groups, which holds no sample."""

from __future__ import annotations

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.annotations import is_comparison
from napari_survpgc.core.genomics.sheet import Layout, Sheet

NAME = "comparison"


def recognises(sheet: Sheet) -> bool:
    return sheet.has_header and is_comparison(list(sheet.cells))


def layout(sheet: Sheet) -> Layout:
    raise ExpressionError(
        f"{sheet.name} compares groups of samples (fold changes and p-values) and holds the expression of none",
        "Give the counts or TPM that the comparison was made from",
    )
