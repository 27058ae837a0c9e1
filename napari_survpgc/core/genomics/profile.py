"""From the cells of a gene column and a value column to an expression profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.tables import is_missing
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit

from .expression_table import EXAMPLE
from .gene_names import is_transcript, read_gene_names
from .genes import current_symbol
from .unit_of_values import settle_unit

_LINEAR = (ExpressionUnit.COUNTS, ExpressionUnit.TPM, ExpressionUnit.FPKM)


def profile_of_cells(
    source: str,
    genes: Sequence[str],
    cells: pd.Series,
    sample: str,
    unit: ExpressionUnit | None,
    *,
    symbols: Sequence[str] | None = None,
    merge: bool = False,
    add_up: bool = False,
    by_user: bool = False,
    notes: Sequence[str] = (),
) -> ExpressionProfile:
    """Return one sample's profile.

    Parameters
    ----------
    genes, cells : as text, with decimal points.   symbols : the file's own, for ids that our table does not know.
    unit : stated by the file or (``by_user``) a person; None to infer it.
    merge : a symbol may stand there several times, for several ids.   add_up : for several transcripts.

    Raises
    ------
    ExpressionError : names that are no genes, values that are no numbers, a gene twice, a unit that cannot be.
    """
    said = list(notes)
    named = read_gene_names(genes, source, symbols)
    said += named.notes
    keep = [row for row, symbol in enumerate(named.symbols) if symbol is not None]
    names = [str(named.symbols[row]) for row in keep]
    texts = cells.iloc[keep].astype(str).str.strip()
    blank = texts.map(is_missing).to_numpy(bool)
    if blank.any():
        said.append(f"{int(blank.sum())} genes have no value and count as missing.")
        names = [name for name, empty in zip(names, blank, strict=True) if not empty]
        texts = texts[~blank]
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(numbers)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ExpressionError(
            f"{source} has {int(bad.sum())} values that are not numbers, the first is"
            f" '{texts.iloc[first][:30]}' for gene {names[first][:30]}",
            "Correct them, or leave them empty",
        )
    if len(numbers) == 0:
        raise ExpressionError(f"{source} holds no gene with a value", EXAMPLE)
    settled = settle_unit(numbers, unit, source, by_user=by_user)
    said += settled.notes
    present = set(names)
    current = [s if (s := current_symbol(n)) == n or s not in present else n for n in names]
    values = _merged(source, current, settled.values, settled.unit, merge or named.ids, add_up, said)
    return ExpressionProfile(values, settled.unit, settled.declared, sample, source, tuple(said))


def genes_of_transcripts(
    source: str, transcripts: Sequence[str], genes: Sequence[str] | None, notes: list[str]
) -> tuple[Sequence[str], bool]:
    """Return the genes of transcripts by the file's own column of them, and whether there are any to add up.

    Names as GENCODE's FASTA files have them (ENST...|ENSG...|...) say their gene themselves.
    """
    first = transcripts[:200]
    named = genes is None and any("ENST" in name and "|ENSG" in name for name in first)
    if not named and not (genes is not None and any(is_transcript(name) for name in first)):
        return transcripts, False
    notes.append(f"{source} holds transcripts; their values were added up to genes.")
    return transcripts if genes is None else genes, True


def _merged(
    source: str,
    symbols: Sequence[str],
    numbers: np.ndarray,
    unit: ExpressionUnit,
    merge: bool,
    add_up: bool,
    notes: list[str],
) -> Mapping[str, float]:
    if add_up and unit not in _LINEAR:
        raise ExpressionError(
            f"{source} holds transcripts as {unit}, which cannot be added up",
            "Give the table of genes, or TPM",
        )
    result: dict[str, list[float]] = {}
    for symbol, number in zip(symbols, numbers.tolist(), strict=True):
        result.setdefault(symbol, []).append(number)
    if add_up:
        return {s: float(np.sum(v)) for s, v in result.items()}
    repeated = [s for s, v in result.items() if len(v) > 1]
    differing = [s for s in repeated if len(set(result[s])) > 1]
    if differing and not merge:
        raise ExpressionError(
            f"{source} has {len(differing)} duplicate genes with different values, e.g. {', '.join(differing[:3])}",
            "Keep one value a gene",
        )
    if differing:
        how = "added up" if unit in _LINEAR else "averaged"
        notes.append(f"{len(differing)} symbols belong to several ids; their values were {how}.")
        total = np.sum if unit in _LINEAR else np.mean
        return {s: float(total(v)) if len(set(v)) > 1 else v[0] for s, v in result.items()}
    return {s: v[0] for s, v in result.items()}
