"""GCT of the Broad Institute (GTEx, RNA-SeQC, GenePattern), 1.2 and 1.3: a size, names of genes, what describes them, samples."""

from __future__ import annotations

import re

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.annotations import GENE_COLUMNS, describes_genes
from napari_survpgc.core.genomics.sheet import Layout, Sheet

NAME = "GCT"
_AGAIN = "Copy or download it again"


def table_of(source: str, text: str) -> tuple[str, int, list[str]] | None:
    """Return the table in a GCT file, how many columns describe the genes, and what is odd; None for another file.

    Raises
    ------
    ExpressionError : another version, or another number of columns than the file states.
    """
    match = re.match(r"\s*#1\.(\d)\s*\n([^\n]*)\n", text)
    if match is None:
        return None
    if match[1] not in "23":
        raise ExpressionError(f"{source} is GCT version 1.{match[1]}", "Save it as version 1.2 or 1.3")
    try:
        sizes = [int(cell) for cell in match[2].split()]
    except ValueError:
        sizes = []
    if len(sizes) != (2 if match[1] == "2" else 4):
        raise ExpressionError(f"The second line of {source} does not state the size of the table", _AGAIN)
    header, _, body = text[match.end() :].partition("\n")
    described, about_samples = (1, 0) if match[1] == "2" else (sizes[2], sizes[3])
    cells = len(header.rstrip("\t").split("\t"))
    # GTEx's files of one tissue have a column id before Name and Description.
    more = cells - 1 - described - sizes[1]
    if match[1] == "2" and more == 1 and header.lower().startswith("id\t"):
        described, more = 2, 0
    if more:
        raise ExpressionError(
            f"{source} states {sizes[1]} samples, but holds {max(0, cells - 1 - described)}", _AGAIN
        )
    for _ in range(about_samples):
        body = body.partition("\n")[2]
    body = body.rstrip()
    rows = body.count("\n") + 1 if body else 0
    notes = []
    if rows != sizes[0]:
        notes.append(f"{source} states {sizes[0]} genes and holds {rows}: a part of a table, or cut short.")
    return f"{header}\n{body}", described, notes


def recognises(sheet: Sheet) -> bool:
    return sheet.annotations is not None


def layout(sheet: Sheet) -> Layout:
    assert sheet.annotations is not None
    first = 1 + sheet.annotations
    lower = sheet.lower
    ids = 1 if lower[0] == "id" and lower[1:2] == ("name",) else 0
    symbols = next(
        (
            i
            for i in range(first)
            if i != ids and lower[i] in ("description", "pr_gene_symbol", "gene_symbol", "symbol")
        ),
        next((i for i in range(first) if i != ids and lower[i].replace("_", " ") in GENE_COLUMNS), None),
    )
    samples = {
        sheet.cells[i]: i for i in range(first, len(sheet.cells)) if not describes_genes(sheet.cells[i])
    }
    if not samples:
        raise ExpressionError(f"{sheet.name} has no column of a sample", _AGAIN)
    return Layout(NAME, ids, samples=samples, symbols=symbols, merge=True)
