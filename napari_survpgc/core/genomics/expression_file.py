"""Read the expression of one sample from what people have: what programs of quantification write, matrices, two columns.

Plain, gzipped or zipped; comma, tab, semicolon or space; genes as symbols or Ensembl ids, in rows or columns. Only the
columns that are needed are parsed, so that a matrix of a whole cohort opens in seconds.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.tables import case_column, is_missing
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit

from .annotations import GeneColumns, columns_of_genes, left_out
from .expression_table import EXAMPLE, open_text, parse_columns
from .gene_names import is_gene
from .matrix import is_value_name, layout_of
from .profile import genes_of_transcripts, profile_of_cells
from .samples import SampleNeededError, choose_sample, is_barcode, is_normal, matching_samples, refuse_normal
from .sheet import Layout, Sheet
from .unit_of_values import sum_tells_unit, why_no_zscore_table
from .units import unit_in

__all__ = ["ExpressionFile", "SampleNeededError", "read_expression"]

_AHEAD = 64  # columns of a matrix at a time: 80 MB of 20,000 genes
_NAMED_ALIKE = frozenset(
    ("quant", "abundance", "readspergene", "gene_abund", "gene_abundances", "genes", "isoforms")
)
_COMPARED = 64  # samples, and genes, by which a table of z-scores is told
_COMPARED_GENES = 500


def read_expression(
    path: Path, *, sample: str | None = None, unit: ExpressionUnit | None = None
) -> ExpressionProfile:
    """Read one sample.

    Parameters
    ----------
    sample : column (or row) of a table; the parts of a barcode will do (a case id finds its tumor). Not needed for a file
        of one sample.
    unit : of the values; read from the header or inferred from the values when it is not given.

    Raises
    ------
    ExpressionError : missing or damaged file, wrong columns, unknown sample, normal tissue that was not asked for, values
        that are no numbers or not of the unit, a gene twice with different values.
    """
    return ExpressionFile(path).read(sample, unit)


class ExpressionFile:
    """The samples of a file, which is read once for all of them.

    Parameters
    ----------
    wanted : samples that will be read, in this order: of a matrix, columns are then parsed many at a time.

    Raises
    ------
    ExpressionError : missing or damaged file, a column twice, a file without samples.
    """

    def __init__(self, path: Path, wanted: Sequence[str] = ()) -> None:
        self.path, self._wanted = path, wanted
        self._sheet: Sheet = open_text(path)
        if self._sheet.repeated:
            raise ExpressionError(
                f"{path.name} has the column {self._sheet.repeated[0]} twice (duplicate genes or samples)",
                "Keep one of them",
            )
        self._layout: Layout | None = layout_of(self._sheet)
        self._parsed = pd.DataFrame()  # columns of a matrix by their number
        self._compared: dict[str, str | None] = {}

    def read(self, sample: str | None = None, unit: ExpressionUnit | None = None) -> ExpressionProfile:
        """Read one sample, see :func:`read_expression`."""
        layout = self._layout
        profile = self._row(sample, unit) if layout is None else self._column(layout, sample, unit)
        chosen: tuple[str, ...] = ()
        if sample is not None and is_normal(profile.sample):
            chosen = (f"{profile.sample} of {self.path.name} is normal tissue, not the tumor.",)
        if sample is not None and profile.sample != sample:
            chosen = (
                f"{sample} was read from the sample {profile.sample} of {self.path.name}.",
                *chosen,
            )
        if profile.unit is ExpressionUnit.ZSCORE:
            self._check_zscores()
        return replace(profile, notes=(*self._sheet.notes, *chosen, *profile.notes))

    @property
    def samples(self) -> tuple[str, ...]:
        """Names of the samples; () for a file of one that has none."""
        if self._layout is None:
            return tuple(self._rows[1])
        return tuple(name for name in self._layout.samples if not is_value_name(name))

    # --- a sample a column -------------------------------------------------------------------------------------

    def _column(self, layout: Layout, sample: str | None, unit: ExpressionUnit | None) -> ExpressionProfile:
        column, name, stated, hint = self._chosen(layout, sample, unit)
        wanted = [i for i in (layout.ids, layout.symbols, layout.genes_of, column) if i is not None]
        if not set(wanted) <= set(self._parsed.columns):
            self._parse(wanted, column, layout)
        ids = self._text_of(layout.ids)
        genes_of = None if layout.genes_of is None else self._text_of(layout.genes_of)
        notes = list(layout.notes)
        if layout.by_unit and layout.format == "table":
            notes.append(f"The column {self._sheet.cells[column]} of {self.path.name} was taken.")
        genes, by_transcript = genes_of_transcripts(self.path.name, ids, genes_of, notes)
        by_file = unit is None
        if unit is None:
            unit = stated or unit_in(f"{hint} {self.path.name}")
        cells = self._in_points(self._parsed[column])
        if unit is None and layout.asks_unit and not _say_unit(cells):
            raise ExpressionError(
                f"{self.path.name} does not say the unit of its values; {layout.asks_unit}",
                "State it (--expression-unit), e.g. counts for RSEM, or give the table under its own name beside its meta file",
            )
        return profile_of_cells(
            self.path.name,
            genes,
            cells,
            name,
            unit,
            symbols=None if layout.symbols is None else self._text_of(layout.symbols),
            merge=layout.merge or by_transcript,
            add_up=by_transcript,
            by_user=not by_file,
            notes=notes,
        )

    def _chosen(
        self, layout: Layout, sample: str | None, unit: ExpressionUnit | None
    ) -> tuple[int, str, ExpressionUnit | None, str]:
        """Return the column, the sample's name, the unit that the format states, and words that may say it."""
        source = self.path.name
        of_file = _sample_of_file(self.path)
        if layout.by_unit:
            stated = next(iter(layout.by_unit)) if unit is None else unit
            if stated not in layout.by_unit:
                raise ExpressionError(
                    f"{source} is a file of {layout.format} and holds no {unit}",
                    f"Leave the unit out: {next(iter(layout.by_unit))} is read",
                )
            _check_name(source, of_file, sample)
            return layout.by_unit[stated], of_file, stated, ""
        names = list(layout.samples)
        if len(names) == 1 and (is_value_name(names[0]) or not _names_someone(names[0], sample)):
            # A single column may be named for its unit; named for a patient, it must be the one who was asked for.
            shown = of_file if is_value_name(names[0]) else names[0]
            _check_name(source, shown, sample)
            return layout.samples[names[0]], shown, layout.unit, names[0]
        name = choose_sample(source, names, sample)
        return layout.samples[name], name, layout.unit, name if len(names) == 1 else ""

    def _text_of(self, column: int) -> list[str]:
        return [str(cell).strip() for cell in self._parsed[column]]

    def _in_points(self, values: pd.Series) -> pd.Series:
        """Return cells with a decimal point where the file writes a comma."""
        return values.str.replace(",", ".", regex=False) if self._sheet.decimal == "," else values

    def _parse(self, needed: Sequence[int], column: int, layout: Layout) -> None:
        """Parse a column, and those that are wanted after it: each time the whole text must be gone through."""
        sheet = self._sheet
        found = (matching_samples(list(layout.samples), wanted) for wanted in self._wanted)
        order = [layout.samples[names[0]] for names in found if len(names) == 1]
        ahead = order[order.index(column) :][:_AHEAD] if column in order else []
        columns = list(dict.fromkeys((*needed, *ahead)))
        self._parsed = parse_columns(self.path, sheet.text, sheet.delimiter, columns, header=sheet.has_header)
        self._parsed.columns = pd.Index(columns)

    # --- a sample a row ----------------------------------------------------------------------------------------

    @cached_property
    def _rows(self) -> tuple[list[str], list[str]]:
        """The rows of a table with one sample a row, as text, and their names."""
        sheet = self._sheet
        column = self._id_column
        lines = [line for line in sheet.text.split("\n")[1:] if line.strip()]
        first = (line.split(sheet.delimiter, column + 1) for line in lines)
        return lines, [cells[column].strip().strip('"') for cells in first]

    @cached_property
    def _id_column(self) -> int:
        named = case_column(self._sheet.cells)
        return 0 if named is None else self._sheet.cells.index(named)

    @cached_property
    def _gene_columns(self) -> GeneColumns:
        return columns_of_genes(self._sheet.cells, self._id_column)

    def _row(self, sample: str | None, unit: ExpressionUnit | None) -> ExpressionProfile:
        """Parse one row only."""
        path, sheet = self.path, self._sheet
        lines, names = self._rows
        name = choose_sample(path.name, names, sample)
        if names.count(name) > 1:
            raise ExpressionError(f"{path.name} has the sample {name} twice", "Keep one of them")
        values = next(csv.reader([lines[names.index(name)]], delimiter=sheet.delimiter))
        while len(values) > len(sheet.cells) and not values[-1].strip():
            values.pop()
        if len(values) != len(sheet.cells):
            raise ExpressionError(
                f"The row {name} of {path.name} has {len(values)} of {len(sheet.cells)} values", EXAMPLE
            )
        columns, genes = list(self._gene_columns.columns), list(self._gene_columns.genes)
        text = [
            i
            for i, gene in zip(columns, genes, strict=True)
            if self._is_text(values[i]) and not is_gene(gene)
        ]
        notes = [note] if (note := self._gene_columns.note(path.name)) else []
        if text and len(text) < len(columns):
            left = set(text)
            notes += filter(
                None, [left_out(path.name, [sheet.cells[i] for i in text], "holds", "hold", "no numbers")]
            )
            genes = [gene for i, gene in zip(columns, genes, strict=True) if i not in left]
            columns = [i for i in columns if i not in left]
        by_user = unit is not None
        return profile_of_cells(
            path.name,
            genes,
            self._in_points(pd.Series([values[i] for i in columns], dtype=str)),
            name,
            unit if by_user else unit_in(path.name),
            by_user=by_user,
            notes=notes,
        )

    def _is_text(self, cell: str) -> bool:
        return not is_missing(cell) and self._sheet.number(cell.strip()) is None

    # --- z-scores ----------------------------------------------------------------------------------------------

    def _check_zscores(self) -> None:
        """Refuse a table of many samples whose genes do not vary around 0 with a standard deviation of 1."""
        if "z" not in self._compared:
            self._compared["z"] = why_no_zscore_table(self._some_values())
        if reason := self._compared["z"]:
            raise ExpressionError(
                f"{self.path.name} is taken for z-scores, but over its samples {reason}",
                "Give TPM, FPKM or counts, their log2(x+1), or z-scores",
            )

    def _some_values(self) -> np.ndarray:
        """Return (n_samples, n_genes) numbers of some samples and genes, NaN for what is no number."""
        sheet = self._sheet
        if self._layout is None:
            columns = self._gene_columns.columns[:_COMPARED_GENES]
            rows = [
                line.split(sheet.delimiter, columns[-1] + 1) if columns else []
                for line in self._rows[0][:_COMPARED]
            ]
            cells = [[row[i] if i < len(row) else "" for i in columns] for row in rows]
        else:
            chosen = list(self._layout.samples.values())[:_COMPARED]
            lines = sheet.text.split("\n", _COMPARED_GENES + 1)[int(sheet.has_header) : _COMPARED_GENES + 1]
            read = csv.reader([line for line in lines if line.strip()], delimiter=sheet.delimiter)
            by_gene = [[row[i] if i < len(row) else "" for i in chosen] for row in read]
            cells = [list(one) for one in zip(*by_gene, strict=True)]
        numbers = [[sheet.number(cell.strip()) for cell in row] for row in cells]
        return np.array(numbers, float) if numbers else np.zeros((0, 0))


def _sample_of_file(path: Path) -> str:
    """Return the sample that a file is named for; programs that name all files alike put each into a folder of its own."""
    name = path.name.split(".")[0]
    if name.lower() in _NAMED_ALIKE:
        return path.absolute().parent.name or name
    return name.removesuffix("ReadsPerGene") or name


def _say_unit(cells: pd.Series) -> bool:
    """Whether values say their unit for certain: by their sum, or being negative (what they are not is told later)."""
    numbers = pd.to_numeric(cells, errors="coerce").dropna().to_numpy(float)
    return bool((numbers < 0).any()) or sum_tells_unit(numbers)


def _names_someone(column: str, sample: str | None) -> bool:
    """Whether a single column is named for a patient, as the one who was asked for is."""
    if sample is None or is_barcode(column) or matching_samples([column], sample):
        return True
    scheme = [re.sub(r"\d+", "0", name) for name in (column, sample)]
    return scheme[0] == scheme[1] and "0" in scheme[0]


def _check_name(source: str, name: str, sample: str | None) -> None:
    """Refuse a file that is named for another patient, and normal tissue that was not asked for."""
    if is_barcode(name) and sample is not None:
        choose_sample(source, [name], sample)
    elif sample is None:
        refuse_normal(source, name)
