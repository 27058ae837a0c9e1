"""Read the expression of one sample from what people have: two columns, a matrix, GDC STAR counts, UCSC Xena.

Plain or gzipped; comma, tab or semicolon; genes as symbols or Ensembl ids, in rows or columns. Only the columns that
are needed are parsed, so that a matrix of a whole cohort opens in seconds.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import ExpressionError
from .genes import current_symbol, ensembl_id, gene_table, is_spreadsheet_date
from .types import ExpressionProfile, ExpressionUnit

_MAX_BYTES = 3 << 30
_CASE_COLUMNS = {"case_id", "case", "patient", "patient_id", "submitter_id"}
_SAMPLE_COLUMNS = _CASE_COLUMNS | {"sample", "sample_id", "barcode"}
_GENE_COLUMNS = {
    "gene",
    "gene_id",
    "gene_name",
    "symbol",
    "hugo_symbol",
    "ensembl_id",
    "gene_symbol",
    "genes",
}
_EXTRA_COLUMNS = {
    "entrez_gene_id",
    "gene_type",
    "description",
    "cytoband",
    "gene_name",
    "hugo_symbol",
    "gene_symbol",
}
_BLANK = {"", "na", "nan", "n/a", "null", "none", "-"}
_EXAMPLE = "Give two columns (gene, value) as CSV or TSV, or a matrix of genes and samples"
_UNITS = {
    "counts": ExpressionUnit.COUNTS,
    "count": ExpressionUnit.COUNTS,
    "rawcounts": ExpressionUnit.COUNTS,
    "tpm": ExpressionUnit.TPM,
    "fpkm": ExpressionUnit.FPKM,
    "rpkm": ExpressionUnit.FPKM,
    "log2(tpm+1)": ExpressionUnit.LOG2_TPM,
    "log2tpm": ExpressionUnit.LOG2_TPM,
    "log2(fpkm+1)": ExpressionUnit.LOG2_FPKM,
    "log2fpkm": ExpressionUnit.LOG2_FPKM,
    "log2(counts+1)": ExpressionUnit.LOG2_COUNTS,
    "log2(count+1)": ExpressionUnit.LOG2_COUNTS,
    "log2counts": ExpressionUnit.LOG2_COUNTS,
    "z-score": ExpressionUnit.ZSCORE,
    "zscore": ExpressionUnit.ZSCORE,
    "z": ExpressionUnit.ZSCORE,
}


class SampleNeededError(ExpressionError):
    """A matrix of many samples was given without saying which; ``samples`` names them."""

    def __init__(self, source: str, samples: tuple[str, ...]) -> None:
        super().__init__(
            f"{source} holds {len(samples)} samples",
            f"Say which one with --case, e.g. {', '.join(samples[:3])}",
        )
        self.samples = samples


def parse_unit(text: str) -> ExpressionUnit:
    """Return the unit named by a person, e.g. "TPM", "log2(tpm+1)", "z-score"."""
    unit = _UNITS.get(re.sub(r"[\s_]", "", text.lower()))
    if unit is None:
        raise ExpressionError(
            f"'{text}' is no unit of expression",
            f"Choose one of: {', '.join(str(u) for u in ExpressionUnit)}",
        )
    return unit


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
    text = _text(path)
    header, delimiter, has_header = _header(path, text)
    lower = [h.strip().lower() for h in header]
    if {"gene_id", "gene_name"} <= set(lower) and any(h.endswith("unstranded") for h in lower):
        return _gdc(path, text, header, delimiter, unit)
    if len(header) < 2:
        raise ExpressionError(f"{path.name} has one column", _EXAMPLE)
    if not has_header:
        if len(header) != 2:
            raise ExpressionError(f"{path.name} has {len(header)} columns of numbers and no header", _EXAMPLE)
        frame = _parse(path, text, delimiter, [0, 1], header=False)
        return _profile(path, frame[0], frame[1], path.stem, unit, "")
    if _genes_in_columns(lower, header):
        return _row_of_table(path, text, header, delimiter, sample, unit)
    return _column_of_matrix(path, text, header, delimiter, sample, unit)


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
    frame = _parse(path, text, delimiter, [header.index(n) for n in names], header=True)
    frame.columns = names
    frame = frame[frame["gene_id"].str.startswith("ENSG") & ~frame["gene_id"].str.endswith("_PAR_Y")]
    # The file's own symbols are older than ours; ids decide, symbols fill in.
    table = gene_table().symbol_of
    ids = frame["gene_id"].str.slice(0, 15)
    genes = ids.map(table).fillna(frame["gene_name"])
    return _finish(path, genes, frame[column], path.name.split(".")[0], found, True, [], merge=True)


def _row_of_table(
    path: Path,
    text: str,
    header: Sequence[str],
    delimiter: str,
    sample: str | None,
    unit: ExpressionUnit | None,
) -> ExpressionProfile:
    """A table with one sample a row: find the row as text, then parse that row only."""
    lines = [line for line in text.splitlines()[1:] if line.strip()]
    names = [line.split(delimiter, 1)[0].strip().strip('"') for line in lines]
    name = _choose(path, names, sample)
    if names.count(name) > 1:
        raise ExpressionError(f"{path.name} has the sample {name} twice", "Keep one of them")
    values = next(csv.reader([lines[names.index(name)]], delimiter=delimiter))
    if len(values) != len(header):
        raise ExpressionError(
            f"The row {name} of {path.name} has {len(values)} of {len(header)} values", _EXAMPLE
        )
    return _profile(path, pd.Series(header[1:]), pd.Series(values[1:]), name, unit, "")


def _column_of_matrix(
    path: Path,
    text: str,
    header: Sequence[str],
    delimiter: str,
    sample: str | None,
    unit: ExpressionUnit | None,
) -> ExpressionProfile:
    lower = [h.strip().lower() for h in header]
    gene_column = next((i for i, h in enumerate(lower) if h in ("hugo_symbol", "gene_symbol", "symbol")), 0)
    samples = [
        h for i, h in enumerate(header) if i != gene_column and i != 0 and lower[i] not in _EXTRA_COLUMNS
    ]
    if gene_column != 0 and lower[0] not in _GENE_COLUMNS | _EXTRA_COLUMNS:
        samples.insert(0, header[0])
    if not samples:
        raise ExpressionError(f"{path.name} has no column with values", _EXAMPLE)
    name = samples[0] if len(samples) == 1 else _choose(path, samples, sample)
    frame = _parse(path, text, delimiter, [gene_column, list(header).index(name)], header=True)
    frame.columns = ["gene", "value"]
    hint = name if len(samples) == 1 else ""
    shown = path.name.split(".")[0] if len(samples) == 1 else name
    return _profile(path, frame["gene"], frame["value"], shown, unit, hint, merge="entrez_gene_id" in lower)


def _genes_in_columns(lower: Sequence[str], header: Sequence[str]) -> bool:
    if lower[0] in _CASE_COLUMNS:
        return True
    if lower[0] in _SAMPLE_COLUMNS:
        known = gene_table().length_of
        # UCSC Xena heads its gene column "sample".
        hits = sum(h in known or ensembl_id(h) is not None or current_symbol(h) != h for h in header[1:201])
        return hits >= 0.3 * len(header[1:201])
    if lower[0] in _GENE_COLUMNS or len(header) == 2:
        return False
    known = gene_table().length_of
    hits = sum(h in known or ensembl_id(h) is not None for h in header[1:201])
    return hits >= 0.5 * len(header[1:201])


def _choose(path: Path, names: Sequence[str], sample: str | None) -> str:
    if sample is None:
        if len(names) == 1:
            return names[0]
        raise SampleNeededError(path.name, tuple(names))
    if sample in names:
        return sample
    beginning = sorted({n for n in names if n.startswith(sample)})
    if len(beginning) == 1:
        return beginning[0]
    if len(beginning) > 1:
        raise ExpressionError(
            f"{path.name} has {len(beginning)} samples of {sample}",
            f"Say which one: {', '.join(beginning[:4])}",
        )
    near = difflib.get_close_matches(sample, names, 3) or list(names[:3])
    raise ExpressionError(
        f"{path.name} has no sample {sample}", f"Choose one that it has, e.g. {', '.join(near)}"
    )


# --- values -------------------------------------------------------------------------------------------------


def _profile(
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
        unit = _unit_in(f"{hint} {path.name}".lower())
        declared = unit is not None
        unit = _if_logarithmic(unit, values, notes)
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
    blank = texts.str.lower().isin(_BLANK)
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
        raise ExpressionError(f"{path.name} holds no gene with a value", _EXAMPLE)
    if unit is None:
        unit = _infer_unit(numbers)
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


def _unit_in(words: str) -> ExpressionUnit | None:
    """Return the unit that a column or file name states."""
    log = "log2" in words or "log_2" in words
    if re.search(r"z[-_ ]?scores?", words):
        return ExpressionUnit.ZSCORE
    if re.search(r"(^|[^a-z])tpm", words):
        return ExpressionUnit.LOG2_TPM if log else ExpressionUnit.TPM
    if re.search(r"(^|[^a-z])[fr]pkm", words):
        return ExpressionUnit.LOG2_FPKM if log else ExpressionUnit.FPKM
    if re.search(r"(^|[^a-z])(htseq_)?counts?([^a-z]|$)", words):
        return ExpressionUnit.LOG2_COUNTS if log else ExpressionUnit.COUNTS
    return None


def _if_logarithmic(
    unit: ExpressionUnit | None, values: pd.Series, notes: list[str]
) -> ExpressionUnit | None:
    """Many public matrices are named for the linear unit but hold log2(x + 1); no transcriptome tops out at 30."""
    linear = {
        ExpressionUnit.TPM: ExpressionUnit.LOG2_TPM,
        ExpressionUnit.FPKM: ExpressionUnit.LOG2_FPKM,
        ExpressionUnit.COUNTS: ExpressionUnit.LOG2_COUNTS,
    }
    if unit in linear and len(values) >= 1000 and pd.to_numeric(values, errors="coerce").max() <= 30:
        notes.append(f"The file speaks of {unit}, but its largest value is below 30: read as {linear[unit]}.")
        return linear[unit]
    return unit


def _infer_unit(numbers: np.ndarray) -> ExpressionUnit:
    """Infer the unit from the values; the profile says that it was inferred."""
    if (numbers < 0).any():
        return ExpressionUnit.ZSCORE
    highest = numbers.max()
    if (numbers == np.rint(numbers)).all() and highest > 30:
        return ExpressionUnit.COUNTS
    if highest <= 30:
        return ExpressionUnit.LOG2_TPM
    if len(numbers) >= 5000 and abs(numbers.sum() / 1e6 - 1) > 0.1:
        return ExpressionUnit.FPKM
    return ExpressionUnit.TPM


# --- bytes --------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
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
        raise ExpressionError(f"{path.name} is not a text table", _EXAMPLE)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExpressionError(f"{path.name} is not a text table (UTF-8)", "Save it as CSV UTF-8") from error
    # Comment lines come first (GDC: "# gene-model: ...").
    while text.startswith("#"):
        text = text.partition("\n")[2]
    if not text.strip():
        raise ExpressionError(f"{path.name} is empty", _EXAMPLE)
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


def _header(path: Path, text: str) -> tuple[list[str], str, bool]:
    """Return the first row's cells, the delimiter, and whether that row is a header."""
    line = text[: 64 << 20].split("\n", 1)[0].rstrip("\r")
    delimiter = max("\t,;", key=line.count)
    if not line.count(delimiter):
        raise ExpressionError(f"{path.name} has one column", _EXAMPLE)
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    while len(cells) > 2 and cells[-1] == "":
        cells.pop()
    try:
        float(cells[1])
        has_header = cells[0].lower() in _GENE_COLUMNS | _SAMPLE_COLUMNS
    except ValueError:
        has_header = cells[1].lower() not in _BLANK or cells[0].lower() in _GENE_COLUMNS | _SAMPLE_COLUMNS
    repeated = sorted({c for c in cells if c and cells.count(c) > 1})
    if has_header and repeated:
        raise ExpressionError(
            f"{path.name} has the column {repeated[0]} twice (duplicate genes or samples)", "Keep one of them"
        )
    return cells, delimiter, has_header


def _parse(path: Path, text: str, delimiter: str, columns: Sequence[int], *, header: bool) -> pd.DataFrame:
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
        raise ExpressionError(f"{path.name} is not a regular table", _EXAMPLE) from error
    # usecols keeps the file's order.
    order = [sorted(set(columns)).index(c) for c in columns]
    return frame.iloc[:, order].fillna("")
