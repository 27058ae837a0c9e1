"""Plain tables: which column holds the genes, which are samples, or whether the samples stand in the rows."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Protocol, cast

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.tables import CASE_COLUMNS, is_missing, plain
from napari_survpgc.core.types import ExpressionUnit

from . import formats
from .annotations import GENE_COLUMNS, SAMPLE_COLUMNS, SYMBOL_COLUMNS, describes_genes, gene_of_column
from .expression_table import EXAMPLE
from .gene_names import is_counter, is_gene, is_transcript
from .sheet import Layout, Sheet
from .units import names_unit, unit_in

_LINEAR = (ExpressionUnit.TPM, ExpressionUnit.COUNTS, ExpressionUnit.FPKM)
_VALUE_WORDS = frozenset(
    ("value", "values", "expression", "expr", "count", "counts", "exp", "x", "v", "sample")
)


class Format(Protocol):
    """What a module of ``formats/`` offers; those without ``recognises`` act on the text, before it is cut."""

    NAME: str

    def recognises(self, sheet: Sheet) -> bool:
        """Return True for a file of this format, from the header and a few rows: every format is asked."""

    def layout(self, sheet: Sheet) -> Layout:
        """Say what the columns are; ExpressionError for a file that cannot be used."""


@cache
def expression_formats() -> dict[str, Format]:
    """Return the modules of ``formats/`` by name; a new file there is a new format."""
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    modules = {name: importlib.import_module(f"{formats.__name__}.{name}") for name in names}
    return {name: cast(Format, module) for name, module in modules.items() if hasattr(module, "recognises")}


def layout_of(sheet: Sheet) -> Layout | None:
    """Return what the columns of a sheet are; None for a table with a sample a row.

    Raises
    ------
    ExpressionError : a known file that cannot be used, or no column with values.
    """
    for form in expression_formats().values():
        if form.recognises(sheet):
            return form.layout(sheet)
    if len(sheet.cells) < 2:
        raise ExpressionError(f"{sheet.name} has one column", EXAMPLE)
    if not sheet.has_header:
        return _without_header(sheet)
    return None if genes_in_columns(sheet) else _columns_of_samples(sheet)


def is_value_name(name: str) -> bool:
    """Whether a column is named for what it holds, not for whose it is."""
    return not name or plain(name) in _VALUE_WORDS or names_unit(name) or name.replace(".", "").isdigit()


def genes_in_columns(sheet: Sheet) -> bool:
    """Whether the genes stand above the columns, and a sample in each row."""
    first, others = plain(sheet.cells[0]), sheet.cells[1:201]
    if first in CASE_COLUMNS:
        return True
    hits = sum(is_gene(gene_of_column(name)) for name in others)
    if first in SAMPLE_COLUMNS:
        return hits >= 0.3 * len(others)  # UCSC Xena heads its gene column "sample"
    if first in GENE_COLUMNS or len(sheet.cells) == 2:
        return False
    return hits >= 0.5 * len(others)


def _without_header(sheet: Sheet) -> Layout:
    """Two columns without names: genes and values, in either order."""
    if len(sheet.cells) != 2:
        raise ExpressionError(
            f"{sheet.name} has {len(sheet.cells)} columns of numbers and no header", EXAMPLE
        )
    last = sheet.number(sheet.cells[1]) is None and sheet.number(sheet.cells[0]) is not None
    return Layout("two columns", 1 if last else 0, samples={"": 0 if last else 1})


def _columns_of_samples(sheet: Sheet) -> Layout:
    columns = range(len(sheet.cells))
    text: set[int] = set()
    for column in columns:
        cells = [cell for cell in sheet.first_cells(column) if not is_missing(cell)]
        if cells:
            share = sum(sheet.number(cell) is not None for cell in cells) / len(cells)
            if share <= 0.5:
                text.add(column)
    genes = _gene_column(sheet, text)
    # A column of text is no sample, unless it is the only one: then the text is what is wrong.
    possible = [
        i
        for i in columns
        if i != genes and not describes_genes(sheet.cells[i]) and not is_row_number(sheet, i)
    ]
    samples = [i for i in possible if i not in text] or possible
    if not samples:
        raise ExpressionError(f"{sheet.name} has no column with values", EXAMPLE)
    names = [sheet.cells[i] for i in samples]
    named = len(samples) > 1 and all(names_unit(name) for name in names)
    units = {
        unit: i
        for name, i in zip(names, samples, strict=True)
        if named and (unit := unit_in(name)) in _LINEAR
    }
    if named and len(units) == len(samples):
        # One sample in several units: TPM first, which needs no conversion.
        by_unit = {unit: units[unit] for unit in _LINEAR if unit in units}
        return Layout("table", genes, by_unit=by_unit)
    return Layout("table", genes, samples=dict(zip(names, samples, strict=True)))


def is_row_number(sheet: Sheet, column: int) -> bool:
    """Whether a column without a name is an index of rows, as pandas writes it: 0, 1, 2 ..."""
    if sheet.cells[column] not in ("", "Unnamed: 0"):
        return False
    cells = sheet.first_cells(column)
    return bool(cells) and cells == [
        str(i) for i in range(int(cells[0] == "1"), len(cells) + int(cells[0] == "1"))
    ]


def _gene_column(sheet: Sheet, text: set[int]) -> int:
    """Return the column of the genes, by its content wherever it stands."""

    def share(column: int) -> float:
        cells = [cell for cell in sheet.first_cells(column) if cell and not is_counter(cell)]
        return sum(is_gene(cell) or is_transcript(cell) for cell in cells) / len(cells) if cells else 0.0

    names = [plain(cell) for cell in sheet.cells]
    found = [column for column in sorted(text | {0}) if share(column) >= 0.3]
    symbols = [column for column in found if names[column] in SYMBOL_COLUMNS]
    if symbols or found:
        return (symbols or found)[0]
    named = [column for column, name in enumerate(names) if name in SYMBOL_COLUMNS]
    named += [column for column, name in enumerate(names) if name in GENE_COLUMNS]
    other = [column for column in sorted(text) if not describes_genes(sheet.cells[column])]
    return (named or ([] if 0 in text else other) or [0])[0]
