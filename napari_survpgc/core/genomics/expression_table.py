"""The text of an expression file and its columns."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from napari_survpgc.core.errors import ExpressionError

_MAX_BYTES = 3 << 30

CASE_COLUMNS = {"case_id", "case", "patient", "patient_id", "submitter_id"}
SAMPLE_COLUMNS = CASE_COLUMNS | {"sample", "sample_id", "barcode"}
GENE_COLUMNS = {
    "gene",
    "gene_id",
    "gene_name",
    "symbol",
    "hugo_symbol",
    "ensembl_id",
    "gene_symbol",
    "genes",
}
EXTRA_COLUMNS = {
    "entrez_gene_id",
    "gene_type",
    "description",
    "cytoband",
    "gene_name",
    "hugo_symbol",
    "gene_symbol",
}
BLANK = {"", "na", "nan", "n/a", "null", "none", "-"}
EXAMPLE = "Give two columns (gene, value) as CSV or TSV, or a matrix of genes and samples"


def read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ExpressionError(f"{path.name} is too large", "Give one sample, or fewer samples")
        raw = path.read_bytes()
    except OSError as error:
        raise ExpressionError(
            f"{path} cannot be read ({error.strerror})", "Check the name and the folder"
        ) from error
    if raw[:2] == b"\x1f\x8b":
        raw = _gunzip(path, raw)
    if raw[:2] == b"PK" or raw[:4] == b"\xd0\xcf\x11\xe0":
        raise ExpressionError(f"{path.name} is an Excel file", "Save it as CSV and give that file")
    if b"\0" in raw[:4096]:
        raise ExpressionError(f"{path.name} is not a text table", EXAMPLE)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExpressionError(f"{path.name} is not a text table (UTF-8)", "Save it as CSV UTF-8") from error
    # Comment lines come first (GDC: "# gene-model: ...").
    while text.startswith("#"):
        text = text.partition("\n")[2]
    if not text.strip():
        raise ExpressionError(f"{path.name} is empty", EXAMPLE)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _gunzip(path: Path, raw: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            data = stream.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ExpressionError(f"{path.name} is damaged or cut short", "Copy or download it again") from error
    if len(data) > _MAX_BYTES:
        raise ExpressionError(
            f"{path.name} unpacks to an impossible size", "Give one sample, or fewer samples"
        )
    return data


def read_header(path: Path, text: str) -> tuple[list[str], str, bool]:
    """Return the first row's cells, the delimiter, and whether that row is a header."""
    line = text[: 64 << 20].split("\n", 1)[0].rstrip("\r")
    delimiter = max("\t,;", key=line.count)
    if not line.count(delimiter):
        raise ExpressionError(f"{path.name} has one column", EXAMPLE)
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    while len(cells) > 2 and cells[-1] == "":
        cells.pop()
    try:
        float(cells[1])
        has_header = cells[0].lower() in GENE_COLUMNS | SAMPLE_COLUMNS
    except ValueError:
        has_header = cells[1].lower() not in BLANK or cells[0].lower() in GENE_COLUMNS | SAMPLE_COLUMNS
    repeated = sorted({c for c in cells if c and cells.count(c) > 1})
    if has_header and repeated:
        raise ExpressionError(
            f"{path.name} has the column {repeated[0]} twice (duplicate genes or samples)", "Keep one of them"
        )
    return cells, delimiter, has_header


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
    return frame.iloc[:, order].fillna("")
