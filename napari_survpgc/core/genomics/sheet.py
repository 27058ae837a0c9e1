"""An expression file as a sheet: its text, how it is cut into cells, and the meaning of its columns."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from napari_survpgc.core.types import ExpressionUnit

LOOKED_AT = 200
"""Rows that are read to tell what a column is."""
_CELLS = 200_000


@dataclass(frozen=True)
class Sheet:
    """The text of an expression file, and how it is cut into cells.

    Attributes
    ----------
    text : lines end in ``\\n``; the first is the header, when there is one.
    cells : of the first line; a corner that R leaves out is "".
    decimal : "," where numbers are written with a comma.   notes : what was found out to read it.
    annotations : how many columns after the first say something of the genes, where the format states it (GCT).
    """

    path: Path
    text: str
    cells: tuple[str, ...]
    delimiter: str
    has_header: bool
    decimal: str
    notes: tuple[str, ...]
    annotations: int | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def lower(self) -> tuple[str, ...]:
        return tuple(cell.lower() for cell in self.cells)

    @property
    def repeated(self) -> tuple[str, ...]:
        """Names that stand above several columns."""
        times = Counter(self.cells) if self.has_header else {}
        return tuple(sorted(name for name, found in times.items() if name and found > 1))

    @cached_property
    def first_rows(self) -> tuple[tuple[str, ...], ...]:
        """The first rows below the header, stripped."""
        # Of 20,000 columns fewer: 200 rows of them take a second.
        looked_at = min(LOOKED_AT, max(20, _CELLS // len(self.cells)))
        lines = self.text.split("\n", looked_at + 1)[int(self.has_header) : looked_at + 1]
        read = csv.reader([line for line in lines if line.strip()], delimiter=self.delimiter)
        return tuple(tuple(cell.strip() for cell in row) for row in read)

    def first_cells(self, column: int) -> list[str]:
        """Return the first cells of a column."""
        return [row[column] for row in self.first_rows if column < len(row)]

    def number(self, cell: str) -> float | None:
        """Return a cell as a number, None for anything else."""
        try:
            return float(cell.replace(",", ".") if self.decimal == "," else cell)
        except ValueError:
            return None


@dataclass(frozen=True)
class Layout:
    """What the columns of a sheet are, by number.

    Attributes
    ----------
    ids : of the genes (or transcripts).   symbols : the file's own symbols, for ids that our table does not know.
    genes_of : genes of the transcripts in ``ids``, whose values are then added up.
    samples : name -> column.
    by_unit : instead, for a file of one sample with a column a unit, the usual one first.
    unit : of the values, where the format states it.   asks_unit : the format never says it in the table itself.
    merge : a gene may stand in several rows, whose values are put together.
    """

    format: str
    ids: int
    samples: Mapping[str, int] = field(default_factory=dict)
    by_unit: Mapping[ExpressionUnit, int] = field(default_factory=dict)
    symbols: int | None = None
    genes_of: int | None = None
    unit: ExpressionUnit | None = None
    asks_unit: str = ""
    merge: bool = False
    notes: tuple[str, ...] = ()
