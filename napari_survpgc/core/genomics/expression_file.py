"""Read the expression of one sample from what people have: two columns, a matrix, GDC STAR counts, UCSC Xena.

Plain or gzipped; comma, tab or semicolon; genes as symbols or Ensembl ids, in rows or columns. Only the columns that
are needed are parsed, so that a matrix of a whole cohort opens in seconds.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.tables import is_missing
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit

from .expression_table import (
    CASE_COLUMNS,
    EXAMPLE,
    EXTRA_COLUMNS,
    GENE_COLUMNS,
    SAMPLE_COLUMNS,
    open_text,
    parse_columns,
)
from .genes import current_symbol, ensembl_id, gene_table, is_spreadsheet_date
from .units import if_logarithmic, infer_unit, unit_in

_AHEAD = 64  # columns of a matrix at a time: 80 MB of 20,000 genes


class SampleNeededError(ExpressionError):
    """A matrix of many samples was given without saying which; ``samples`` names them."""

    def __init__(self, source: str, samples: tuple[str, ...]) -> None:
        super().__init__(
            f"{source} holds {len(samples)} samples",
            f"Say which one with --case, e.g. {', '.join(samples[:3])}",
        )
        self.samples = samples


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
        chosen: tuple[str, ...] = ()
        if sample is None and _is_normal(profile.sample):
            chosen = (f"{profile.sample} of {self.path.name} is normal tissue, not the tumor.",)
        if sample is not None and profile.sample != sample and sample != self.path.name:
            chosen = (f"{sample} was read from the sample {profile.sample} of {self.path.name}.",)
        return replace(profile, notes=(*self._read.notes, *chosen, *profile.notes))

    def _profile(self, sample: str | None, unit: ExpressionUnit | None) -> ExpressionProfile:
        path, header = self.path, self._header
        lower = [h.strip().lower() for h in header]
        if {"gene_id", "gene_name"} <= set(lower) and any(h.endswith("unstranded") for h in lower):
            return _gdc(path, self._text, header, self._delimiter, unit)
        if len(header) < 2:
            raise ExpressionError(f"{path.name} has one column", EXAMPLE)
        if not self._read.has_header:
            if len(header) != 2:
                raise ExpressionError(
                    f"{path.name} has {len(header)} columns of numbers and no header", EXAMPLE
                )
            frame = parse_columns(path, self._text, self._delimiter, [0, 1], header=False)
            return _mapped(path, frame[0], self._in_points(frame[1]), path.stem, unit, "")
        if _genes_in_columns(lower, header):
            return self._row_of_table(sample, unit)
        return self._column_of_matrix(lower, sample, unit)

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
        name = _choose(path, names, sample)
        if names.count(name) > 1:
            raise ExpressionError(f"{path.name} has the sample {name} twice", "Keep one of them")
        values = next(csv.reader([lines[names.index(name)]], delimiter=self._delimiter))
        if len(values) != len(header):
            raise ExpressionError(
                f"The row {name} of {path.name} has {len(values)} of {len(header)} values", EXAMPLE
            )
        numbers = self._in_points(pd.Series(values[1:]))
        return _mapped(path, pd.Series(header[1:]), numbers, name, unit, "")

    def _column_of_matrix(
        self, lower: Sequence[str], sample: str | None, unit: ExpressionUnit | None
    ) -> ExpressionProfile:
        path, header = self.path, self._header
        gene_column = next(
            (i for i, h in enumerate(lower) if h in ("hugo_symbol", "gene_symbol", "symbol")), 0
        )
        samples = [
            h for i, h in enumerate(header) if i != gene_column and i != 0 and lower[i] not in EXTRA_COLUMNS
        ]
        if gene_column != 0 and lower[0] not in GENE_COLUMNS | EXTRA_COLUMNS:
            samples.insert(0, header[0])
        if not samples:
            raise ExpressionError(f"{path.name} has no column with values", EXAMPLE)
        # A single column may be named for its unit; named for a patient, it must be the one who was asked for.
        alone = len(samples) == 1 and (sample is None or not _is_barcode(samples[0]))
        name = samples[0] if alone else _choose(path, samples, sample)
        column = list(header).index(name)
        if column not in self._parsed:
            self._parse(gene_column, column, samples)
        hint = name if len(samples) == 1 else ""
        shown = path.name.split(".")[0] if alone and not _is_barcode(name) else name
        genes, values = self._parsed[gene_column], self._parsed[column]
        return _mapped(
            path, genes, self._in_points(values), shown, unit, hint, merge="entrez_gene_id" in lower
        )

    def _parse(self, gene_column: int, column: int, samples: Sequence[str]) -> None:
        """Parse a column, and those that are wanted after it: each time the whole text must be gone through."""
        found = (_matching(samples, wanted) for wanted in self._wanted)
        order = [self._header.index(names[0]) for names in found if len(names) == 1]
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
    return _finish(path, genes, frame[column], path.name.split(".")[0], found, True, [], merge=True)


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


def _choose(path: Path, names: Sequence[str], sample: str | None) -> str:
    if sample is None:
        if len(names) == 1:
            return names[0]
        raise SampleNeededError(path.name, tuple(names))
    found = _matching(names, sample)
    if len(found) == 1:
        if found[0] != sample and _is_normal(found[0]):
            raise ExpressionError(
                f"{path.name} has only the normal tissue {found[0]} of {sample}",
                f"Give the expression of the tumor, or ask for {found[0]} by its whole name",
            )
        return found[0]
    if len(found) > 1:
        raise ExpressionError(
            f"{path.name} has {len(found)} samples of {sample}",
            f"Say which one: {', '.join(found[:4])}",
        )
    near = difflib.get_close_matches(sample, names, 3) or list(names[:3])
    raise ExpressionError(
        f"{path.name} has no sample {sample}", f"Choose one that it has, e.g. {', '.join(near)}"
    )


def _matching(names: Sequence[str], sample: str) -> list[str]:
    """Return the samples of a patient: the one of that name, else those whose barcode begins with it, tumor first.

    A beginning counts up to a sign between the parts of a barcode (TCGA-AB-1234 of TCGA-AB-1234-01A, not P1 of P10);
    R turns the dashes into dots.
    """
    if sample in names:
        return [sample]
    wanted = _dashed(sample)
    found = sorted({n for n in names if (d := _dashed(n)) == wanted or d.startswith(f"{wanted}-")})
    return [name for name in found if not _is_normal(name)] or found


def _dashed(name: str) -> str:
    return re.sub(r"[._]", "-", name)


def _is_barcode(name: str) -> bool:
    """Whether a name is that of a patient or sample of TCGA."""
    return re.match(r"TCGA-\w\w-\w{4}", _dashed(name)) is not None


def _is_normal(name: str) -> bool:
    """Whether a TCGA barcode is that of normal tissue: sample types 10 to 19."""
    return re.match(r"TCGA-\w\w-\w{4}-1\d", _dashed(name)) is not None


# --- values -------------------------------------------------------------------------------------------------


def _mapped(
    path: Path,
    genes: pd.Series,
    values: pd.Series,
    sample: str,
    unit: ExpressionUnit | None,
    hint: str,
    merge: bool = False,
) -> ExpressionProfile:
    """Map ids to symbols, find the unit, then finish."""
    notes: list[str] = []
    # Firehose writes TP53|7157, and ?|100130426 for what has no symbol.
    names = genes.astype(str).str.strip().str.replace(r"\|\d+$", "", regex=True).replace("?", "")
    named = names.ne("") & names.str.lower().ne("nan")
    names, values = names[named], values[named]
    ids = names.map(ensembl_id)
    if ids.notna().mean() > 0.5:
        par = names.str.endswith("_PAR_Y")
        names, values, ids = names[~par], values[~par], ids[~par]
        symbols = ids.map(gene_table().symbol_of)
        lost = int(symbols.isna().sum())
        notes.append(
            f"{len(names) - lost} Ensembl ids were read as symbols; {lost} others are not protein-coding."
        )
        names, values, merge = symbols.dropna(), values[symbols.notna()], True
    dates = names.map(is_spreadsheet_date)
    if dates.any():
        notes.append(
            f"{int(dates.sum())} gene names were turned into dates by a spreadsheet (such as {names[dates].iloc[0]})"
            " and were left out."
        )
        names, values = names[~dates], values[~dates]
    if unit is None:
        unit = unit_in(f"{hint} {path.name}".lower())
        declared = unit is not None
        unit = if_logarithmic(unit, values, notes)
    else:
        declared = True
    return _finish(path, names, values, sample, unit, declared, notes, merge)


def _finish(
    path: Path,
    names: pd.Series,
    values: pd.Series,
    sample: str,
    unit: ExpressionUnit | None,
    declared: bool,
    notes: list[str],
    merge: bool,
) -> ExpressionProfile:
    texts = values.astype(str).str.strip()
    blank = texts.map(is_missing)
    if blank.any():
        notes.append(f"{int(blank.sum())} genes have no value and count as missing.")
        names, texts = names[~blank], texts[~blank]
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(numbers)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ExpressionError(
            f"{path.name} has {int(bad.sum())} values that are not numbers, the first is"
            f" '{texts.iloc[first][:30]}' for gene {names.iloc[first][:30]}",
            "Correct them, or leave them empty",
        )
    if len(numbers) == 0:
        raise ExpressionError(f"{path.name} holds no gene with a value", EXAMPLE)
    if unit is None:
        unit = infer_unit(numbers)
    if unit is not ExpressionUnit.ZSCORE and (numbers < 0).any():
        raise ExpressionError(
            f"{path.name} has negative values, which cannot be {unit}", "State the unit, e.g. z-score"
        )
    present = set(names)
    symbols = [s if (s := current_symbol(n)) == n or s not in present else n for n in names]
    merged = _merge(path, symbols, numbers, unit, merge, notes)
    return ExpressionProfile(merged, unit, declared, sample, path.name, tuple(notes))


def _merge(
    path: Path,
    symbols: Sequence[str],
    numbers: np.ndarray,
    unit: ExpressionUnit,
    merge: bool,
    notes: list[str],
) -> Mapping[str, float]:
    result: dict[str, list[float]] = {}
    for symbol, number in zip(symbols, numbers.tolist(), strict=True):
        result.setdefault(symbol, []).append(number)
    repeated = [s for s, v in result.items() if len(v) > 1]
    differing = [s for s in repeated if len(set(result[s])) > 1]
    if differing and not merge:
        raise ExpressionError(
            f"{path.name} has {len(differing)} duplicate genes with different values, e.g. {', '.join(differing[:3])}",
            "Keep one value a gene",
        )
    if differing:
        linear = unit in (ExpressionUnit.COUNTS, ExpressionUnit.TPM, ExpressionUnit.FPKM)
        how = "added up" if linear else "averaged"
        notes.append(f"{len(differing)} symbols belong to several ids; their values were {how}.")
        total = np.sum if linear else np.mean
        return {s: float(total(v)) if len(set(v)) > 1 else v[0] for s, v in result.items()}
    return {s: v[0] for s, v in result.items()}
