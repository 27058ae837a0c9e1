"""Names of genes as tables have them, brought to symbols: the same for a patient's file and a cohort's table."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pandas as pd

from .genes import ensembl_id, gene_table
from .spreadsheet import is_date_serial, is_spreadsheet_date

_COUNTERS = frozenset(
    (
        "n_unmapped", "n_multimapping", "n_nofeature", "n_ambiguous", "__no_feature", "__ambiguous", "__too_low_aqual",
        "__not_aligned", "__alignment_not_unique", "no_feature", "ambiguous", "too_low_aqual", "not_aligned",
        "alignment_not_unique",
    )
)  # fmt: skip
"""Rows of STAR and HTSeq that count reads of no gene."""


@dataclass(frozen=True)
class GeneNames:
    """Genes of a table.

    Attributes
    ----------
    symbols : of the entries that are genes, indexed by their place in the table.
    merge : several entries may rightly be one gene, since their ids are finer than symbols.
    notes : what was left out, in sentences.
    """

    symbols: pd.Series
    merge: bool
    notes: tuple[str, ...]


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(gene_table().length_of)


def read_gene_names(names: pd.Series) -> GeneNames:
    """Bring names to symbols; ids are mapped, and dates and counters left out."""
    notes: list[str] = []
    merge = False
    # Firehose writes TP53|7157, and ?|100130426 for what has no symbol.
    names = names.astype(str).str.strip().str.replace(r"\|\d+$", "", regex=True).replace("?", "")
    # Of 20,000 genes nearly all are known by name: only the others are looked at, in a tenth of the time.
    odd = names[~names.isin(_known())]
    lower = odd.str.lower()
    none = odd.index[odd.eq("") | lower.eq("nan") | lower.isin(_COUNTERS)]
    names, odd = names.drop(none), odd.drop(none)
    found = odd.map(ensembl_id).dropna()
    if len(names) and len(found) > 0.5 * len(names):
        ids = found.reindex(names.index)
        par = names.str.endswith("_PAR_Y")
        names, ids = names[~par], ids[~par]
        # "ENSG00000141510.16_TP53" and "ENSG00000141510|TP53" are known by their id.
        symbols = ids.map(gene_table().symbol_of)
        lost = int(symbols.isna().sum())
        notes.append(
            f"{len(names) - lost} Ensembl ids were read as symbols; {lost} others are not protein-coding."
        )
        return GeneNames(symbols.dropna(), True, tuple(notes))
    dated = [name for name in odd if is_spreadsheet_date(name)]
    if odd.str.fullmatch(r"\d+(?:\.0+)?").sum() < 0.5 * len(names):  # else they are ids of Entrez
        dated += [name for name in odd if is_date_serial(name)]
    dates = odd.index[odd.isin(dated)]
    if len(dates):
        count = len(dates)
        notes.append(
            f"{count} gene name{'s were turned into dates' if count > 1 else ' was turned into a date'} by a"
            f" spreadsheet (such as {odd[dates[0]]}) and {'were' if count > 1 else 'was'} left out."
        )
        names = names.drop(dates)
    # A few ids among symbols are genes without a symbol, or those that the table did not name.
    some = found.map(gene_table().symbol_of).dropna()
    if len(some):
        names = names.copy()
        names[some.index] = some
        merge = True
    return GeneNames(names, merge, tuple(notes))
