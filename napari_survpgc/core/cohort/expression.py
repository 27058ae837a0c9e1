"""The expression table of a cohort folder, read as a patient's file is: a row a patient, a column a gene."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_survpgc.core.cells import restored
from napari_survpgc.core.errors import ExpressionError, several
from napari_survpgc.core.genomics.annotations import columns_of_genes, left_out
from napari_survpgc.core.genomics.expression_table import open_text
from napari_survpgc.core.genomics.gene_names import is_gene, read_gene_names
from napari_survpgc.core.genomics.matrix import layout_of
from napari_survpgc.core.genomics.samples import is_normal, samples_of
from napari_survpgc.core.genomics.sheet import LOOKED_AT, Layout, Sheet
from napari_survpgc.core.genomics.unit_of_values import has_log_floor, shifted_log, table_unit
from napari_survpgc.core.tables import MISSING_WORDS, case_column

_LOG_LIMIT = 40.0  # larger values are no logarithms
_COMPARED = 8  # patients, from whom a column that equals one of patients.csv is no chance


def find_expression(
    folder: Path, case: pd.Series, patients: pd.DataFrame, problems: list[str], notes: list[str]
) -> pd.DataFrame | None:
    """Read the expression table of a cohort.

    Parameters
    ----------
    case : ids.   patients : the table of patients, as text, row for row; none of its columns is a gene.
    problems, notes : what is wrong, and what was done, goes into these.

    Returns
    -------
    Values by id and gene symbol, in the units of :func:`table_unit`; None without a table, or for one that cannot be read.
    """
    path = next((folder / n for n in ("expression.csv.gz", "expression.csv") if (folder / n).is_file()), None)
    if path is None:
        return None
    try:
        sheet = open_text(path)
        notes += sheet.notes
        frame = _by_rows(sheet, case, problems, notes)
        if frame is None:
            return None
        return _checked(frame, path.name, case, patients, problems, notes)
    except ExpressionError as error:
        problems.append(error.problem)
        return None


def _by_rows(sheet: Sheet, case: pd.Series, problems: list[str], notes: list[str]) -> pd.DataFrame | None:
    """Return the table as it stands there, a row a sample; None where it cannot be told what it is."""
    name = sheet.name
    if not sheet.has_header:
        problems.append(f"{name} has no header with the genes")
        return None
    cases = set(case)
    named = case_column(sheet.cells)
    ids = 0 if named is None else sheet.cells.index(named)
    above = [cell for i, cell in enumerate(sheet.cells) if i != ids]
    # Only the ids are cut out: 200 rows of 20,000 genes take a second.
    lines = sheet.text.split("\n", LOOKED_AT + 1)[1 : LOOKED_AT + 1]
    first = [line.split(sheet.delimiter, ids + 1)[ids].strip(' "') for line in lines if line.strip()]
    ours = not cases.isdisjoint(first) or bool(samples_of(first, cases))
    turned = not ours and bool(samples_of(above, cases))
    # pandas renames the second column of one name, and a gene twice in a model would be one too many.
    problems += several(f"{name} has the gene {{}} twice", f"{name} has the genes {{}} twice", sheet.repeated)
    layout = layout_of(sheet) if turned else None
    if layout is None:
        return _parsed(sheet, ids, [i for i in range(len(sheet.cells)) if i != ids])
    notes.append(f"{name} has a column a patient and a row a gene; it was read like that.")
    return _turned(sheet, layout, problems)


def _parsed(sheet: Sheet, ids: int, columns: Sequence[int]) -> pd.DataFrame:
    """Return columns of a sheet by the cells of another, numbers where all cells of a column are."""
    try:
        # A converter keeps ids as text; with dtype= pandas makes a Series of every column, a second for 20,000.
        frame = pd.read_csv(
            io.StringIO(sheet.text),
            sep=sheet.delimiter,
            decimal=sheet.decimal,
            converters={ids: str},
            usecols=sorted({ids, *columns}),
            index_col=False,
            na_values=sorted(MISSING_WORDS),
            low_memory=False,
        )
    except ValueError as error:
        raise ExpressionError(
            f"{sheet.name} is damaged or not a table ({' '.join(str(error).split())[:80]})", "Correct it"
        ) from error
    place = {column: i for i, column in enumerate(sorted({ids, *columns}))}
    names = frame.iloc[:, place[ids]].astype(str).str.strip().map(restored)
    frame = frame.iloc[:, [place[column] for column in columns]]
    frame.index = pd.Index(names.to_numpy())
    frame.columns = pd.Index([sheet.cells[column] for column in columns])
    return frame


def _turned(sheet: Sheet, layout: Layout, problems: list[str]) -> pd.DataFrame | None:
    """Return a table with a column a sample as one with a row a sample."""
    if not layout.samples or layout.genes_of is not None:
        problems.append(f"{sheet.name} is a file of {layout.format}, not a table of patients and genes")
        return None
    frame = _parsed(sheet, layout.ids, list(layout.samples.values())).T
    frame.index = pd.Index(list(layout.samples))
    if layout.symbols is not None:
        symbols = _parsed(sheet, layout.ids, [layout.symbols]).iloc[:, 0].astype(str)
        names = read_gene_names(list(frame.columns), sheet.name, symbols.tolist())
        known = zip(frame.columns, names.symbols, strict=True)
        frame.columns = pd.Index([symbol or name for name, symbol in known])
    return frame.infer_objects()


def _checked(
    frame: pd.DataFrame,
    name: str,
    case: pd.Series,
    patients: pd.DataFrame,
    problems: list[str],
    notes: list[str],
) -> pd.DataFrame | None:
    cases = set(case)
    frame = _by_patient(frame, cases, name, problems, notes)
    again = set(frame.index[frame.index.duplicated()])
    problems += several(f"{name} lists {{}} twice", f"{name} lists {{}} twice", again)
    frame = _genes_only(frame, name, patients.columns, notes)
    # By the types of the columns: taking 20,000 columns out of the table one by one takes a second.
    kinds = zip(frame.columns, frame.dtypes, strict=True)
    text = [i for i, (_, kind) in enumerate(kinds) if not pd.api.types.is_numeric_dtype(kind)]
    if text:
        cells = frame.iloc[:, text[0]]
        place = pd.to_numeric(cells, errors="coerce").isna() & cells.notna()
        example = (
            f"{str(cells[place].iloc[0])[:20]!r} of {cells.index[place][0]}" if place.any() else "no number"
        )
        problems.append(
            f"{name} has values that are not numbers in {len(text)} gene{'s' if len(text) > 1 else ''},"
            f" e.g. {frame.columns[text[0]]}: {example}"
        )
        return None
    infinite = np.isinf(frame.to_numpy(float))
    if infinite.any():
        problems.append(f"{name} has infinite values, e.g. in gene {frame.columns[infinite.any(0)][0]}")
    absent = frame.isna().to_numpy() & np.isin(frame.index, list(cases))[:, None]
    if absent.any():
        row, column = np.argwhere(absent)[0]
        problems.append(
            f"{name} lacks {int(absent.sum())} value{'s' if absent.sum() > 1 else ''}, e.g. of gene"
            f" {frame.columns[column]} in patient {frame.index[row]} (fill them in, or leave out the gene or the patient)"
        )
    if cases and not cases & set(frame.index):
        problems.append(f"{name} holds none of the patients")
    if problems:
        return frame
    frame = _without_outcomes(frame, name, case, patients, notes)
    return _in_our_units(_with_symbols(frame, name, problems, notes), name, notes)


def _by_patient(
    frame: pd.DataFrame, cases: set[str], name: str, problems: list[str], notes: list[str]
) -> pd.DataFrame:
    """Name rows of samples (TCGA-AB-1234-01A) by their patients, as prediction finds them; tumor before normal."""
    rows = set(frame.index)
    strange = [row for row in frame.index if row not in cases]
    if not strange or cases <= rows:
        return frame
    patient_of: dict[str, str] = {}
    for case, found in samples_of(strange, sorted(cases - rows)).items():
        tumor = [row for row in found if not is_normal(row)]
        if len(tumor) > 1:
            problems.append(f"{name} has {len(tumor)} samples of {case} ({', '.join(tumor[:3])}); keep one")
        elif tumor:
            patient_of[tumor[0]] = case
        else:
            notes.append(f"{name} has only normal tissue of {case} ({found[0]}), which was not taken.")
    if patient_of:
        row, case = next(iter(patient_of.items()))
        notes.append(
            f"{len(patient_of)} patients were read from rows of {name} named by their samples, e.g. {case} from {row}."
        )
    return frame.rename(index=patient_of)


def _genes_only(frame: pd.DataFrame, name: str, others: Iterable[str], notes: list[str]) -> pd.DataFrame:
    """Leave out columns of patients and outcomes, by their names or since patients.csv has them, and columns of words."""
    found = columns_of_genes([str(column) for column in frame.columns], -1, set(others))
    if note := found.note(name):
        notes.append(note)
    if found.others or found.genes != tuple(frame.columns):
        frame = frame.iloc[:, list(found.columns)]
        frame.columns = pd.Index(found.genes)
    text = [
        i
        for i, (column, kind) in enumerate(zip(frame.columns, frame.dtypes, strict=True))
        if not pd.api.types.is_numeric_dtype(kind) and not is_gene(column)
        and pd.to_numeric(frame.iloc[:, i], errors="coerce").isna().all()
    ]  # fmt: skip
    if text and len(text) < frame.shape[1]:
        notes += filter(
            None, [left_out(name, [frame.columns[i] for i in text], "holds", "hold", "no numbers")]
        )
        frame = frame.iloc[:, [i for i in range(frame.shape[1]) if i not in set(text)]]
    return frame


def _without_outcomes(
    frame: pd.DataFrame, name: str, case: pd.Series, patients: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """Leave out columns that repeat one of patients.csv under another name: a model would read the answer there."""
    unknown = np.array([i for i, gene in enumerate(frame.columns) if not is_gene(gene)])
    both = case[case.isin(frame.index)]
    if not len(unknown) or len(both) < _COMPARED:
        return frame
    values: NDArray[np.float64] = frame.loc[both].to_numpy(float)[:, unknown]
    same: dict[int, str] = {}
    for column in patients.columns:
        numbers = pd.to_numeric(patients.loc[both.index, column], errors="coerce").to_numpy(float)
        if not np.isfinite(numbers).all() or len(set(numbers)) < 2:
            continue
        equal = unknown[(values[:_COMPARED] == numbers[:_COMPARED, None]).all(0)]
        same |= {i: column for i in equal if (frame.loc[both].iloc[:, i].to_numpy(float) == numbers).all()}
    if not same:
        return frame
    notes += [
        f"The column {frame.columns[i]} of {name} equals {column} of patients.csv and was left out."
        for i, column in sorted(same.items())
    ]
    return frame.iloc[:, [i for i in range(frame.shape[1]) if i not in same]]


def _with_symbols(frame: pd.DataFrame, name: str, problems: list[str], notes: list[str]) -> pd.DataFrame:
    """Bring the columns to symbols by the rules of a patient's file; columns that are symbols stay as they are."""
    columns = [str(column) for column in frame.columns]
    genes = read_gene_names(columns, name)
    if list(genes.symbols) == columns and frame.columns.is_unique:
        return frame
    notes += [f"{name}: {note}" for note in genes.notes]
    keep = [i for i, symbol in enumerate(genes.symbols) if symbol is not None]
    frame = frame.iloc[:, keep]
    frame.columns = pd.Index([genes.symbols[i] for i in keep])
    again = sorted(set(frame.columns[frame.columns.duplicated()]))
    if not again:
        return frame
    if not genes.ids:
        problems += several(f"{name} has the gene {{}} twice", f"{name} has the genes {{}} twice", again)
        return frame
    values = frame.to_numpy(float)
    logs = np.nanmin(values) < 0 or np.nanmax(values) <= _LOG_LIMIT
    groups = frame.T.groupby(level=0, sort=False)
    notes.append(
        f"{name}: {len(again)} symbols belong to several ids; their values were {'averaged' if logs else 'added up'}."
    )
    return (groups.mean() if logs else groups.sum()).T


def _in_our_units(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Turn log2(x + 0.001) into log2(x + 1), and refuse what is in no unit, or in several."""
    values = frame.to_numpy(float)
    if values.size == 0:
        return frame
    if has_log_floor(values.ravel()):
        notes.append(
            f"The lowest value of {name} is log2(0.001): log2(x + 0.001) was turned into log2(x + 1)."
        )
        values = shifted_log(values)
        frame = pd.DataFrame(values, frame.index, frame.columns)
    table_unit(values, [str(row) for row in frame.index])
    return frame
