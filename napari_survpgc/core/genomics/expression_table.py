"""Opens the text of an expression file: how it is cut into cells, whether it has a header; and parses its columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from napari_survpgc.core.cells import restored, restored_frame
from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.tables import (
    find_decimal,
    find_delimiter,
    first_irregular_line,
    is_missing,
    lacks_corner,
    plain,
    read_whole_text,
    without_comments,
)

from .annotations import GENE_COLUMNS, SAMPLE_COLUMNS
from .formats import gct, geo
from .gene_names import is_counter, is_gene
from .sheet import Sheet

_MAX_BYTES = 3 << 30
_LOOKED_AT = 50  # lines, which may have a thousand cells each
_FEW = 20  # of ten thousand cells
EXAMPLE = "Give two columns (gene, value) as CSV or TSV, or a matrix of genes and samples"


def open_text(path: Path) -> Sheet:
    """Read the text of an expression file and find out how it is written.

    Raises
    ------
    ExpressionError : missing, damaged, no text, one column, or a row longer or shorter than the rest; a file
        of GEO.
    """
    text, notes = read_whole_text(path, ExpressionError, EXAMPLE, _MAX_BYTES)
    geo.refuse(path.name, text)
    framed = gct.table_of(path.name, text)
    annotations: int | None = None
    if framed is None:
        text = without_comments(text)
    else:
        text, annotations, odd = framed
        notes += odd
    if not text.strip():
        raise ExpressionError(f"{path.name} is empty", EXAMPLE)
    text = text.lstrip("\n")
    first = text.split("\n", 1)[0]
    looked_at = _LOOKED_AT if len(first) < 100_000 else _FEW
    delimiter = find_delimiter(text, looked_at) if framed is None else "\t"
    if delimiter not in first and _is_spaced(text):
        # R's write.table puts spaces between the cells unless it is told otherwise.
        text = re.sub(r"[ ]{2,}", " ", re.sub(r"(?m)^ +| +$", "", text))
        first, delimiter = text.split("\n", 1)[0], " "
    if delimiter not in first:
        raise ExpressionError(f"{path.name} has one column", EXAMPLE)
    cells = [restored(cell.strip()) for cell in next(csv.reader([first], delimiter=delimiter))]
    while len(cells) > 2 and cells[-1] == "":
        cells.pop()
    body = text[len(first) + 1 :]
    second = next((line for line in body.split("\n", 20) if line.strip()), "")
    width = len(next(csv.reader([second], delimiter=delimiter), []))
    ids = [line.split(delimiter, 1)[0].strip(' "') for line in body.split("\n", looked_at) if line.strip()]
    longer = width == len(cells) + 1 and second[-1:] != delimiter
    if longer and lacks_corner(cells[0], ids, text, delimiter):
        # R's write.table writes no name above the row names.
        cells.insert(0, "")
        text = f"{delimiter}{first}\n{body}"
        notes.append(
            f"The first column of {path.name} has no name, as R writes it; it was read as the genes or samples."
        )
    if wrong := first_irregular_line(text, delimiter, len(cells)):
        raise ExpressionError(
            f"Line {wrong[0]} of {path.name} has {wrong[1]} cells where the first has {len(cells)}",
            "Correct this line: a number with a comma in it needs quotes or semicolons between the cells",
        )
    rows = list(csv.reader(body.split("\n", looked_at)[:looked_at], delimiter=delimiter))
    sample = [cell.strip() for row in rows for cell in row[1:]]
    if not any(_is_value(cell) for cell in sample):  # the genes may stand last
        sample = [row[0].strip() for row in rows if row]
    decimal = find_decimal(sample, delimiter)
    if decimal == ",":
        notes.append(f"The numbers of {path.name} were read with a comma as the decimal sign.")
    has_header = _has_header(cells)
    return Sheet(path, text, tuple(cells), delimiter, has_header, decimal, tuple(notes), annotations)


def _is_spaced(text: str) -> bool:
    """Whether spaces cut every row into as many cells, or one more than the header."""
    rows = [len(line.split()) for line in text.split("\n", _LOOKED_AT)[:_LOOKED_AT] if line.strip()]
    return (len(rows) > 1 and rows[0] > 1) or (
        len(rows) > 1 and rows[1] > 1 and set(rows[1:]) <= {rows[0], rows[0] + 1}
    )


def _has_header(cells: Sequence[str]) -> bool:
    named = cells[0] == "" or plain(cells[0]) in GENE_COLUMNS | SAMPLE_COLUMNS
    has_header = named or not (_is_value(cells[1]) or is_missing(cells[1]))
    if not named and _is_value(cells[0]) and (is_gene(cells[1]) or is_counter(cells[1])):
        has_header = False  # values first, genes last
    elif not named and is_gene(cells[0]) and _is_value(cells[-1]):
        has_header = False  # HTSeq with the symbols between
    return has_header


def _is_value(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def parse_columns(
    path: Path, text: str, delimiter: str, columns: Sequence[int], *, header: bool
) -> pd.DataFrame:
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=0 if header else None,
            usecols=sorted(set(columns)),
            dtype=str,
            keep_default_na=False,
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise ExpressionError(f"{path.name} is not a regular table", EXAMPLE) from error
    # usecols keeps the file's order.
    order = [sorted(set(columns)).index(c) for c in columns]
    frame = frame.iloc[:, order].fillna("")
    return restored_frame(frame) if "'" in text else frame
