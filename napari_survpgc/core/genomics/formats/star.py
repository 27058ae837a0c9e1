"""STAR: ReadsPerGene.out.tab: genes, reads of both strands, of the first, of the second; no header."""

from __future__ import annotations

from napari_survpgc.core.genomics.gene_names import is_counter
from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "STAR"


def recognises(sheet: Sheet) -> bool:
    rows = sheet.first_rows[:4]
    return not sheet.has_header and len(sheet.cells) == 4 and all(is_counter(row[0]) for row in rows if row)


def layout(sheet: Sheet) -> Layout:
    first, second = 0.0, 0.0
    for line in sheet.text.split("\n"):
        cells = line.split(sheet.delimiter)
        if len(cells) == 4 and not is_counter(cells[0]):
            first += sheet.number(cells[2]) or 0.0
            second += sheet.number(cells[3]) or 0.0
    share = max(first, second) / max(1.0, first + second)
    kind = "stranded" if share > 0.8 else "unstranded"
    return Layout(
        NAME,
        0,
        by_unit={ExpressionUnit.COUNTS: 1},
        merge=True,
        notes=(
            f"The counts of both strands were taken from {sheet.name}, as the GDC does; the library looks {kind}"
            f" ({100 * share:.0f} % of the reads of genes on one strand).",
        ),
    )
