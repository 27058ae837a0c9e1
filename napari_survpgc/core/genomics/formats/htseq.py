"""HTSeq-count: genes and counts without a header, and below them the reads that belong to no gene (__no_feature)."""

from __future__ import annotations

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.gene_names import is_counter
from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "HTSeq"


def recognises(sheet: Sheet) -> bool:
    # At the end of the file; HTSeq before 0.5.4 wrote no underscores.
    last = sheet.text[-2000:].split("\n")[1:] or [sheet.text]
    names = [line.split(sheet.delimiter, 1)[0].strip(' "') for line in last if line.strip()]
    counters = [name for name in names if is_counter(name)]
    star = sheet.cells[0].startswith("N_")
    said = len(counters) >= 3 or any(name.startswith("__") for name in counters)
    return said and not sheet.has_header and not star


def layout(sheet: Sheet) -> Layout:
    numbers = [
        column
        for column in range(1, len(sheet.cells))
        if all(sheet.number(cell) is not None for cell in sheet.first_cells(column)[:20])
    ]
    if len(numbers) != 1:
        raise ExpressionError(
            f"{sheet.name} has {len(numbers)} columns of counts and no header",
            "Put a first line above them that names the samples",
        )
    # --additional-attr gene_name puts the symbols between.
    symbols = 1 if numbers[0] > 1 else None
    return Layout(NAME, 0, by_unit={ExpressionUnit.COUNTS: numbers[0]}, symbols=symbols, merge=True)
