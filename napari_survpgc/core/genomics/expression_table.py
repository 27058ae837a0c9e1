"""The text of an expression file and its columns."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    read_whole_text,
    without_comments,
)

from .formats.gct import is_gct, table_of_gct
from .formats.soft import refuse_soft
from .genes import ensembl_id

_MAX_BYTES = 3 << 30
_LOOKED_AT = 50  # lines, which may have a thousand cells each

CASE_COLUMNS = {"case_id", "case", "patient", "patient_id", "submitter_id"}
SAMPLE_COLUMNS = CASE_COLUMNS | {"sample", "sample_id", "barcode"}
GENE_COLUMNS = {
    "gene", "gene_id", "gene_name", "symbol", "hugo_symbol", "ensembl_id", "gene_symbol", "genes", "geneid",
    "ensembl_gene_id", "external_gene_name", "hgnc_symbol", "gene_short_name", "target_id", "tracking_id",
}  # fmt: skip
EXAMPLE = "Give two columns (gene, value) as CSV or TSV, or a matrix of genes and samples"


@dataclass(frozen=True)
class ExpressionText:
    """The text of an expression file, and how it is cut into cells.

    Attributes
    ----------
    text : lines end in ``\\n``; the first is the header, when there is one.
    cells : of the first line; a corner that R leaves out is "".
    decimal : "," where numbers are written with a comma.   notes : what was found out to read it.
    annotations : places of columns that the format says are not samples.
    """

    text: str
    cells: tuple[str, ...]
    delimiter: str
    has_header: bool
    decimal: str
    notes: tuple[str, ...]
    annotations: frozenset[int] = frozenset()


def open_text(path: Path) -> ExpressionText:
    """Read the text of an expression file and find out how it is written.

    Raises
    ------
    ExpressionError : missing, damaged, no text, one column, a column twice, or a row longer or shorter than the rest.
    """
    text, notes = read_whole_text(path, ExpressionError, EXAMPLE, _MAX_BYTES)
    refuse_soft(path, text)
    annotations: frozenset[int] = frozenset()
    if is_gct(text):
        text, annotations, said = table_of_gct(path, text)
        notes += said
    text = without_comments(text)
    if not text.strip():
        raise ExpressionError(f"{path.name} is empty", EXAMPLE)
    delimiter = find_delimiter(text, _LOOKED_AT)
    first = text.split("\n", 1)[0]
    if delimiter not in first:
        raise ExpressionError(f"{path.name} has one column", EXAMPLE)
    cells = [restored(cell.strip()) for cell in next(csv.reader([first], delimiter=delimiter))]
    while len(cells) > 2 and cells[-1] == "":
        cells.pop()
    body = text[len(first) + 1 :]
    second = next((line for line in body.split("\n", 20) if line.strip()), "")
    width = len(next(csv.reader([second], delimiter=delimiter), []))
    ids = [line.split(delimiter, 1)[0].strip(' "') for line in body.split("\n", _LOOKED_AT) if line.strip()]
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
    sample = [
        cell.strip()
        for row in csv.reader(body.split("\n", _LOOKED_AT)[:_LOOKED_AT], delimiter=delimiter)
        for cell in row[1:]
    ]
    decimal = find_decimal(sample, delimiter)
    if decimal == ",":
        notes.append(f"The numbers of {path.name} were read with a comma as the decimal sign.")
    return ExpressionText(
        text, tuple(cells), delimiter, _has_header(path, cells), decimal, tuple(notes), annotations
    )


def _has_header(path: Path, cells: Sequence[str]) -> bool:
    if ensembl_id(cells[0]) is not None or cells[0] in ("N_unmapped", "__no_feature"):
        return False  # HTSeq and STAR write no header
    named = cells[0].lower() in GENE_COLUMNS | SAMPLE_COLUMNS
    try:
        float(cells[1].replace(",", "."))
        has_header = named
    except ValueError:
        has_header = named or not is_missing(cells[1])
    repeated = _repeated(cells)
    if has_header and repeated:
        raise ExpressionError(
            f"{path.name} has the column {repeated[0]} twice (duplicate genes or samples)", "Keep one of them"
        )
    return has_header


def _repeated(cells: Sequence[str]) -> list[str]:
    return sorted(name for name, times in Counter(cells).items() if name and times > 1)


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
