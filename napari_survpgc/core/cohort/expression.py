"""The expression table of a cohort folder: rows to patients, columns to genes, the unit."""

from __future__ import annotations

import csv
import gzip
import itertools
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import several
from napari_survpgc.core.genomics.gene_names import read_gene_names
from napari_survpgc.core.genomics.samples import is_normal, matching_samples
from napari_survpgc.core.genomics.units import log_offset, why_no_z_score_table
from napari_survpgc.core.tables import find_decimal, find_delimiter

_LOOKED_AT = 20  # lines, which may have 20,000 cells each


def find_expression(
    folder: Path, cases: set[str], problems: list[str], notes: list[str]
) -> pd.DataFrame | None:
    """Read the expression table of a cohort, a row a patient; what is wrong and what was done go into the lists."""
    path = next((folder / n for n in ("expression.csv.gz", "expression.csv") if (folder / n).is_file()), None)
    if path is None:
        return None
    try:
        packed = _compression(path)
        first = _first_lines(path, packed)
        delimiter = find_delimiter(first, _LOOKED_AT)
        header, *rows = [cells for cells in csv.reader(first.splitlines(), delimiter=delimiter) if any(cells)]
        while header and not header[-1].strip():
            header.pop()
        longer = [len(cells) for cells in rows if any(cell.strip() for cell in cells[len(header) :])]
        if longer or len(header) < 2:
            problems.append(
                f"{path.name} has rows of {longer[0]} cells where the header has {len(header)}"
                if longer
                else f"{path.name} has one column"
            )
            return None
        twice = _repeated(header[1:])
        # A converter keeps ids as text; with dtype= pandas makes a Series of every column, a second for 20,000.
        frame = pd.read_csv(
            path,
            sep=delimiter,
            decimal=find_decimal((cell for cells in rows for cell in cells[1:]), delimiter),
            index_col=0,
            converters={0: str},
            low_memory=False,
            compression="gzip" if packed else None,
        ).iloc[:, : len(header) - 1]
    except (OSError, ValueError, EOFError, csv.Error, zlib.error) as error:
        problems.append(f"{path.name} is damaged or not a table ({' '.join(str(error).split())[:80]})")
        return None
    frame.index = frame.index.astype(str).str.strip()
    frame = _by_patient(frame, cases, path.name, problems, notes)
    # pandas renames the second column of one name, and a gene twice in a model would be one too many.
    problems += several(
        f"{path.name} has the gene {{}} twice",
        f"{path.name} has the genes {{}} twice",
        twice,
    )
    again = set(frame.index[frame.index.duplicated()])
    problems += several(f"{path.name} lists {{}} twice", f"{path.name} lists {{}} twice", again)
    # By the types of the columns: taking 20,000 columns out of the table one by one takes a second.
    kinds = zip(frame.columns, frame.dtypes, strict=True)
    text = [str(c) for c, kind in kinds if not pd.api.types.is_numeric_dtype(kind)]
    if text:
        cells = frame[text[0]]
        place = pd.to_numeric(cells, errors="coerce").isna() & cells.notna()
        example = (
            f"{str(cells[place].iloc[0])[:20]!r} of {cells.index[place][0]}" if place.any() else "no number"
        )
        problems.append(
            f"{path.name} has values that are not numbers in {len(text)} gene{'s' if len(text) > 1 else ''},"
            f" e.g. {text[0]}: {example}"
        )
        return None
    infinite = np.isinf(frame.to_numpy(float))
    if infinite.any():
        problems.append(f"{path.name} has infinite values, e.g. in gene {frame.columns[infinite.any(0)][0]}")
    absent = frame.isna().to_numpy() & np.isin(frame.index, list(cases))[:, None]
    if absent.any():
        row, column = np.argwhere(absent)[0]
        problems.append(
            f"{path.name} lacks {int(absent.sum())} value{'s' if absent.sum() > 1 else ''}, e.g. of gene"
            f" {frame.columns[column]} in patient {frame.index[row]} (fill them in, or leave out the gene or the patient)"
        )
    if cases and not cases & set(frame.index):
        turned = len(cases & {str(c) for c in frame.columns}) or sum(
            bool(matching_samples([str(c) for c in frame.columns], case)) for case in sorted(cases)[:20]
        )
        problems.append(
            f"{path.name} holds none of the patients"
            + (" in its rows, but in its columns: exchange rows and columns" if turned else "")
        )
    if problems:
        return frame
    return _in_our_units(_with_symbols(frame, path.name, notes), path.name, problems, notes)


def _compression(path: Path) -> bool:
    """Whether a file is gzipped, by its content."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _first_lines(path: Path, packed: bool) -> str:
    """Return the first lines of a table, as they stand there; pandas needs a second for a header of 20,000 cells."""
    opener = gzip.open if packed else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
        return "".join(itertools.islice(lines, _LOOKED_AT))


def _repeated(names: Sequence[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}


def _by_patient(
    frame: pd.DataFrame, cases: set[str], name: str, problems: list[str], notes: list[str]
) -> pd.DataFrame:
    """Name rows of samples (TCGA-AB-1234-01A) by their patients, as prediction finds them; tumor before normal."""
    rows = list(frame.index)
    strange = [row for row in rows if row not in cases]
    if not strange or cases <= set(rows):
        return frame
    patient_of: dict[str, str] = {}
    for case in sorted(cases - set(rows)):
        found = matching_samples(strange, case)
        tumor = [row for row in found if not is_normal(row)]
        if len(tumor) > 1:
            problems.append(f"{name} has {len(tumor)} samples of {case} ({', '.join(tumor[:3])}); keep one")
        elif tumor:
            patient_of[tumor[0]] = case
        elif found:
            notes.append(f"{name} has only normal tissue of {case} ({found[0]}), which was not taken.")
    if patient_of:
        row, case = next(iter(patient_of.items()))
        notes.append(
            f"{len(patient_of)} patients were read from rows of {name} named by their samples, e.g. {case} from {row}."
        )
    return frame.rename(index=patient_of)


def _with_symbols(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Bring the columns to symbols by the rules of a patient's file; columns that are symbols stay as they are."""
    columns = pd.Series([str(column) for column in frame.columns])
    genes = read_gene_names(columns)
    if not genes.notes and len(genes.symbols) == len(columns) and not genes.merge:
        return frame
    notes += [f"{name}: {note}" for note in genes.notes]
    frame = frame.iloc[:, list(genes.symbols.index)]
    frame.columns = pd.Index(genes.symbols.tolist())
    if not frame.columns.duplicated().any():
        return frame
    values = frame.to_numpy(float)
    logs = np.nanmin(values) < 0 or np.nanmax(values) <= 40
    groups = frame.T.groupby(level=0, sort=False)
    notes.append(
        f"{name}: several ids of one symbol were {'averaged' if logs else 'added up'}, as in prediction."
    )
    return (groups.mean() if logs else groups.sum()).T


def _in_our_units(frame: pd.DataFrame, name: str, problems: list[str], notes: list[str]) -> pd.DataFrame:
    """Turn log2(x + 0.001) into log2(x + 1); other negative values must be z-scores."""
    values = frame.to_numpy(float)
    if values.size == 0 or not np.nanmin(values) < 0:
        return frame
    offset = log_offset(values.ravel())
    if offset is not None:
        notes.append(
            f"{name} holds log2(x+{offset:g}), known by its lowest value of {np.log2(offset):.3f}; read as log2(x+1)."
        )
        turned = np.log2(np.maximum(np.exp2(values) - offset, 0) + 1)
        return pd.DataFrame(turned, frame.index, frame.columns)
    if reason := why_no_z_score_table(values):
        problems.append(
            f"{name} has negative values, but holds no z-scores of these patients: {reason} (give log2(TPM+1), TPM or"
            " z-scores against this cohort)"
        )
    return frame
