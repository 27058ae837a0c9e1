"""GDC: STAR counts with TPM and FPKM beside them (augmented_star_gene_counts.tsv); TPM unless another unit is asked for."""

from __future__ import annotations

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "GDC"
_COLUMNS = {
    ExpressionUnit.TPM: "tpm_unstranded",
    ExpressionUnit.COUNTS: "unstranded",
    ExpressionUnit.FPKM: "fpkm_unstranded",
}


def recognises(sheet: Sheet) -> bool:
    return {"gene_id", "gene_name"} <= set(sheet.lower) and any(
        name.endswith("unstranded") for name in sheet.lower
    )


def layout(sheet: Sheet) -> Layout:
    lower = sheet.lower
    found = {unit: lower.index(name) for unit, name in _COLUMNS.items() if name in lower}
    if not found:
        raise ExpressionError(f"{sheet.name} lacks the column unstranded", "Download it again from the GDC")
    # The file's own symbols are older than ours; ids decide, symbols fill in.
    return Layout(NAME, lower.index("gene_id"), by_unit=found, symbols=lower.index("gene_name"), merge=True)
