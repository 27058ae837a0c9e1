"""Cells of one sample -> its profile: names to symbols, texts to numbers, the unit, one value a gene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.tables import is_missing
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit

from .expression_table import EXAMPLE
from .gene_names import read_gene_names
from .genes import current_symbol
from .units import settle_unit

_TRANSCRIPT = r"(?:ENST\d{11}|[NX][MR]_\d{6,})(?:\.\d+)?(?:\D.*)?"
_PROBE = r"(?:\d+(?:_[a-z]+)*_at|AFFX-.*|ILMN_\d+|A_\d\d_P\d+|cg\d{8})"


def make_profile(
    source: str,
    names: pd.Series,
    cells: pd.Series,
    sample: str,
    *,
    stated: ExpressionUnit | None,
    named: ExpressionUnit | None,
    merge: bool = False,
    notes: Sequence[str] = (),
) -> ExpressionProfile:
    """Bring a sample's genes and cells into a profile.

    Parameters
    ----------
    source : file name.   stated : unit that a person gave.   named : unit that the file states.
    merge : several rows may rightly be one gene.

    Raises
    ------
    ExpressionError : no genes, values that are no numbers, a gene twice with different values, a unit that the values
        contradict.
    """
    _refuse_other_ids(source, names)
    genes = read_gene_names(names)
    said = [*notes, *genes.notes]
    symbols, texts = genes.symbols, cells[genes.symbols.index].astype(str).str.strip()
    blank = texts.map(is_missing)
    if blank.any():
        said.append(f"{int(blank.sum())} genes have no value and count as missing.")
        symbols, texts = symbols[~blank], texts[~blank]
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(numbers)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ExpressionError(
            f"{source} has {int(bad.sum())} values that are not numbers, the first is"
            f" '{texts.iloc[first][:30]}' for gene {symbols.iloc[first][:30]}",
            "Correct them, or leave them empty",
        )
    if len(numbers) == 0:
        raise ExpressionError(f"{source} holds no gene with a value", EXAMPLE)
    settled = settle_unit(numbers, stated, named, source)
    said += settled.notes
    present = set(symbols)
    current = [s if (s := current_symbol(n)) == n or s not in present else n for n in symbols]
    values = _one_value_a_gene(source, current, settled.numbers, settled.unit, merge or genes.merge, said)
    return ExpressionProfile(values, settled.unit, settled.declared, sample, source, tuple(said))


def _refuse_other_ids(source: str, names: pd.Series) -> None:
    looked_at = names.iloc[:500].astype(str).str.strip()
    if looked_at.str.fullmatch(_TRANSCRIPT).mean() > 0.5:
        raise ExpressionError(
            f"{source} holds transcripts ({looked_at.iloc[0][:30]} ...), not genes",
            "Summarize them to genes (tximport; salmon quant -g writes quant.genes.sf) and give that table",
        )
    if looked_at.str.fullmatch(_PROBE).mean() > 0.5:
        raise ExpressionError(
            f"{source} holds probes of an array ({looked_at.iloc[0][:30]} ...), not genes",
            "Map them to gene symbols with the annotation of the array, and give that table",
        )


def _one_value_a_gene(
    source: str,
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
            f"{source} has {len(differing)} duplicate genes with different values, e.g. {', '.join(differing[:3])}",
            "Keep one value a gene",
        )
    if differing:
        linear = unit in (ExpressionUnit.COUNTS, ExpressionUnit.TPM, ExpressionUnit.FPKM)
        how = "added up" if linear else "averaged"
        notes.append(f"{len(differing)} symbols belong to several ids; their values were {how}.")
        total = np.sum if linear else np.mean
        return {s: float(total(v)) if len(set(v)) > 1 else v[0] for s, v in result.items()}
    return {s: v[0] for s, v in result.items()}
