"""Read the expression of one sample from what people have: two columns, a matrix, counts and abundances of programs.

Plain, gzipped or zipped; comma, tab or semicolon; genes as symbols or Ensembl ids, in rows or columns. Only the columns
that are needed are parsed, so that a matrix of a whole cohort opens in seconds.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit

from .expression_table import CASE_COLUMNS, EXAMPLE, GENE_COLUMNS, SAMPLE_COLUMNS, open_text, parse_columns
from .formats.columns import gene_and_samples
from .formats.quantifiers import (
    Quantifier,
    find_quantifier,
    genes_of_transcripts,
    is_feature_counts,
    sample_of_alignment,
)
from .genes import current_symbol, ensembl_id, gene_table
from .profile import make_profile
from .samples import SampleNeededError, choose_sample, dashed, is_barcode, is_normal, matching_samples
from .units import unit_in

__all__ = ["ExpressionFile", "SampleNeededError", "read_expression"]

_AHEAD = 64  # columns of a matrix at a time: 80 MB of 20,000 genes
_LOOKED_AT = 200  # rows, to tell genes and samples from other columns


def read_expression(
    path: Path, *, sample: str | None = None, unit: ExpressionUnit | None = None
) -> ExpressionProfile:
    """Read one sample.

    Parameters
    ----------
    sample : column (or row) of a table; a unique beginning will do (a case id finds its only sample). Not needed
        for a file of one sample.
    unit : of the values; read from the header or inferred from the values when it is not given.

    Raises
    ------
    ExpressionError : missing or damaged file, wrong columns, unknown sample, values that are no numbers, a gene
        twice with different values.
    """
    return ExpressionFile(path).read(sample, unit)


class ExpressionFile:
    """The samples of a file, which is read once for all of them.

    Parameters
    ----------
    wanted : samples that will be read, in this order: of a matrix, columns are then parsed many at a time.

    Raises
    ------
    ExpressionError : missing or damaged file, a column twice.
    """

    def __init__(self, path: Path, wanted: Sequence[str] = ()) -> None:
        self.path, self._wanted = path, wanted
        self._read = read = open_text(path)
        self._text, self._header, self._delimiter = read.text, list(read.cells), read.delimiter
        self._parsed = pd.DataFrame()  # columns of a matrix by their number

    def read(self, sample: str | None = None, unit: ExpressionUnit | None = None) -> ExpressionProfile:
        """Read one sample, see :func:`read_expression`."""
        profile = self._profile(sample, unit)
        asked = sample is not None and dashed(sample).startswith(dashed(profile.sample))
        if is_normal(profile.sample) and not asked:
            raise ExpressionError(
                f"{self.path.name} holds {profile.sample}, which is normal tissue, not the tumor",
                f"Give the expression of the tumor, or ask for it by its whole name (--case {profile.sample})",
            )
        chosen, last = [], []
        if sample is not None and profile.sample != sample and sample != self.path.name:
            chosen.append(f"{sample} was read from the sample {profile.sample} of {self.path.name}.")
        else:
            last.append(f"The sample {profile.sample} of {self.path.name} was read.")
        if is_normal(profile.sample):
            chosen.append(f"{profile.sample} of {self.path.name} is normal tissue, as asked for.")
        return replace(profile, notes=(*self._read.notes, *chosen, *profile.notes, *last))

    def _profile(self, sample: str | None, unit: ExpressionUnit | None) -> ExpressionProfile:
        path, header = self.path, self._header
        lower = [h.strip().lower() for h in header]
        if {"gene_id", "gene_name"} <= set(lower) and any(h.endswith("unstranded") for h in lower):
            return _gdc(path, self._text, header, self._delimiter, unit)
        if quantifier := find_quantifier(lower):
            return self._quantified(quantifier, lower, unit)
        if len(header) < 2:
            raise ExpressionError(f"{path.name} has one column", EXAMPLE)
        if not self._read.has_header:
            return self._without_header(unit)
        if _genes_in_columns(lower, header):
            return self._row_of_table(sample, unit)
        return self._column_of_matrix(lower, sample, unit)

    def _quantified(
        self, program: Quantifier, lower: Sequence[str], unit: ExpressionUnit | None
    ) -> ExpressionProfile:
        """Read one sample as a program wrote it: TPM, or FPKM where it gives no TPM, unless another unit is asked for."""
        path = self.path
        found = unit or next(iter(program.values))
        if found not in program.values or program.values[found] not in lower:
            raise ExpressionError(
                f"{path.name} is {program.name} and holds no {found}", "Leave the unit out, or choose another"
            )
        places = [lower.index(program.gene), lower.index(program.values[found])]
        frame = parse_columns(path, self._text, self._delimiter, places, header=True)
        frame.columns = pd.Index(["gene", "value"])
        note = f"{path.name} was read as {program.name}: {found}."
        genes = genes_of_transcripts(frame["gene"])
        if not genes.equals(frame["gene"]) or program.name.startswith("RSEM's isoforms"):
            note += " The values of the transcripts of a gene were added up."
        values = self._in_points(frame["value"])
        return make_profile(
            path.name,
            genes,
            values,
            _sample_of_file(path),
            stated=found,
            named=None,
            merge=program.several,
            notes=(note,),
        )

    def _without_header(self, unit: ExpressionUnit | None) -> ExpressionProfile:
        """Read genes and values as HTSeq and STAR (ReadsPerGene.out.tab) write them, or two columns."""
        path, width = self.path, len(self._header)
        named, notes, column = unit_in(path.name.lower()), [], 1
        if self._header[0] == "N_unmapped" and width == 4:
            named = ExpressionUnit.COUNTS
            notes.append(
                f"{path.name} was read as STAR's ReadsPerGene: counts of the second column (unstranded)."
            )
        elif width == 3 and ensembl_id(self._header[0]) is not None:
            column = 2  # HTSeq with an attribute of the genes
        elif width != 2:
            raise ExpressionError(f"{path.name} has {width} columns of numbers and no header", EXAMPLE)
        frame = parse_columns(path, self._text, self._delimiter, [0, column], header=False)
        frame.columns = pd.Index(["gene", "value"])
        if frame["gene"].isin(("__no_feature", "__ambiguous")).any():
            named = ExpressionUnit.COUNTS
            notes.append(f"{path.name} was read as HTSeq's counts.")
        return make_profile(
            path.name,
            frame["gene"],
            self._in_points(frame["value"]),
            path.stem,
            stated=unit,
            named=named,
            notes=notes,
        )

    def _in_points(self, values: pd.Series) -> pd.Series:
        """Return cells with a decimal point where the file writes a comma."""
        return values.str.replace(",", ".", regex=False) if self._read.decimal == "," else values

    @cached_property
    def _rows(self) -> tuple[list[str], list[str]]:
        """The rows of a table with one sample a row, as text, and their names."""
        lines = [line for line in self._text.splitlines()[1:] if line.strip()]
        return lines, [line.split(self._delimiter, 1)[0].strip().strip('"') for line in lines]

    def _row_of_table(self, sample: str | None, unit: ExpressionUnit | None) -> ExpressionProfile:
        """Parse one row only."""
        path, header = self.path, self._header
        lines, names = self._rows
        name = choose_sample(path.name, names, sample)
        if names.count(name) > 1:
            raise ExpressionError(f"{path.name} has the sample {name} twice", "Keep one of them")
        values = next(csv.reader([lines[names.index(name)]], delimiter=self._delimiter))
        while len(values) > len(header) and not values[-1].strip():
            values.pop()  # a delimiter at the end of each line
        if len(values) != len(header):
            raise ExpressionError(
                f"The row {name} of {path.name} has {len(values)} of {len(header)} values", EXAMPLE
            )
        numbers = self._in_points(pd.Series(values[1:]))
        named = unit_in(path.name.lower())
        return make_profile(path.name, pd.Series(header[1:]), numbers, name, stated=unit, named=named)

    def _column_of_matrix(
        self, lower: Sequence[str], sample: str | None, unit: ExpressionUnit | None
    ) -> ExpressionProfile:
        path, header = self.path, self._header
        gene_column, places = self._columns
        counted = is_feature_counts(lower)
        by_name = {sample_of_alignment(header[i]) if counted else header[i]: i for i in places}
        samples = list(by_name)
        if len(samples) < len(places):
            by_name = {header[i]: i for i in places}
            samples = list(by_name)
        if not samples:
            raise ExpressionError(f"{path.name} has no column with values", EXAMPLE)
        # A single column may be named for its unit; named for a patient, it must be the one who was asked for.
        alone = len(samples) == 1 and (sample is None or not is_barcode(samples[0]))
        name = samples[0] if alone else choose_sample(path.name, samples, sample)
        column = by_name[name]
        if column not in self._parsed:
            self._parse(gene_column, column, by_name)
        hint = name if len(samples) == 1 else ""
        unnamed = alone and not is_barcode(name) and not is_normal(name) and not counted
        shown = path.name.split(".")[0] if unnamed else name
        named = ExpressionUnit.COUNTS if counted else unit_in(f"{hint} {path.name}".lower())
        return make_profile(
            path.name,
            self._parsed[gene_column],
            self._in_points(self._parsed[column]),
            shown,
            stated=unit,
            named=named,
            merge="entrez_gene_id" in lower or gene_column in self._read.annotations,
        )

    @cached_property
    def _columns(self) -> tuple[int, list[int]]:
        """The place of the genes and those of the samples."""
        lines = self._text.split("\n", _LOOKED_AT + 1)[1 : _LOOKED_AT + 1]
        read = csv.reader([line for line in lines if line.strip()], delimiter=self._delimiter)
        width = len(self._header)
        rows = [[cell.strip() for cell in cells[:width]] for cells in read if len(cells) >= width]
        return gene_and_samples(self._header, rows, self._read.annotations)

    def _parse(self, gene_column: int, column: int, by_name: Mapping[str, int]) -> None:
        """Parse a column, and those that are wanted after it: each time the whole text must be gone through."""
        found = (matching_samples(list(by_name), wanted) for wanted in self._wanted)
        order = [by_name[names[0]] for names in found if len(names) == 1]
        ahead = order[order.index(column) :][:_AHEAD] if column in order else []
        columns = list(dict.fromkeys((gene_column, column, *ahead)))
        self._parsed = parse_columns(self.path, self._text, self._delimiter, columns, header=True)
        self._parsed.columns = pd.Index(columns)


# --- layouts ------------------------------------------------------------------------------------------------


def _gdc(
    path: Path, text: str, header: Sequence[str], delimiter: str, unit: ExpressionUnit | None
) -> ExpressionProfile:
    """GDC STAR-counts: TPM unless another unit was asked for; the N_unmapped rows are no genes."""
    column, found = "tpm_unstranded", ExpressionUnit.TPM
    if unit in (ExpressionUnit.COUNTS, ExpressionUnit.FPKM):
        column, found = ("unstranded" if unit is ExpressionUnit.COUNTS else "fpkm_unstranded"), unit
    elif column not in header:
        column, found = "unstranded", ExpressionUnit.COUNTS
    elif unit not in (None, ExpressionUnit.TPM):
        raise ExpressionError(
            f"{path.name} is a GDC file and holds no {unit}", "Leave the unit out: TPM is read"
        )
    if column not in header:
        raise ExpressionError(f"{path.name} lacks the column {column}", "Download it again from the GDC")
    names = ["gene_id", "gene_name", column]
    frame = parse_columns(path, text, delimiter, [header.index(n) for n in names], header=True)
    frame.columns = names
    frame = frame[frame["gene_id"].str.startswith("ENSG") & ~frame["gene_id"].str.endswith("_PAR_Y")]
    # The file's own symbols are older than ours; ids decide, symbols fill in.
    table = gene_table().symbol_of
    ids = frame["gene_id"].str.slice(0, 15)
    genes = ids.map(table).fillna(frame["gene_name"])
    sample = path.name.split(".")[0]
    return make_profile(path.name, genes, frame[column], sample, stated=found, named=None, merge=True)


def _genes_in_columns(lower: Sequence[str], header: Sequence[str]) -> bool:
    if lower[0] in CASE_COLUMNS:
        return True
    if lower[0] in SAMPLE_COLUMNS:
        known = gene_table().length_of
        # UCSC Xena heads its gene column "sample".
        hits = sum(h in known or ensembl_id(h) is not None or current_symbol(h) != h for h in header[1:201])
        return hits >= 0.3 * len(header[1:201])
    if lower[0] in GENE_COLUMNS or len(header) == 2:
        return False
    known = gene_table().length_of
    hits = sum(h in known or ensembl_id(h) is not None for h in header[1:201])
    return hits >= 0.5 * len(header[1:201])


def _sample_of_file(path: Path) -> str:
    """Return the sample of a program's file; salmon, kallisto and StringTie name the folder for it."""
    stem = path.name.split(".")[0]
    return path.resolve().parent.name if stem in ("quant", "abundance", "gene_abund") else stem
