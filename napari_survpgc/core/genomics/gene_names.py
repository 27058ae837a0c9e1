"""The names in the gene column of a file, or above the columns of a cohort's table, as symbols; the rest is said.

One place for training and prediction: ids of Ensembl become symbols, what a spreadsheet has turned into dates is left out,
what names no gene at all (transcripts, Entrez numbers, another species) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from napari_survpgc.core.errors import ExpressionError

from .genes import current_symbol, ensembl_id, gene_table
from .spreadsheet_dates import is_number, is_spreadsheet_date

COUNTERS = frozenset(
    (
        "no_feature", "ambiguous", "too_low_aqual", "not_aligned", "alignment_not_unique", "n_unmapped",
        "n_multimapping", "n_nofeature", "n_ambiguous",
    )
)  # fmt: skip
"""Rows in which HTSeq and STAR count reads of no gene, without the underscores before them."""

_TRANSCRIPT = re.compile(r"(ENS[A-Z]*T\d{6,}|[NX][MR]_\d+|TCONS_\d+)(\.\d+)?")
_OTHER_SPECIES = re.compile(r"ENS(?!G\d|T\d|E\d|P\d|GR\d)[A-Z]{3,4}G\d{6,}")
_PROBE = re.compile(r"(\d+(_[a-z])?_at|AFFX-\S+|ILMN_\d+|A_\d+_P\d+|cg\d{8})", re.IGNORECASE)
_MOST = 0.5  # a share of the names that says what the whole column holds
_LOOKED_AT = 4000


@dataclass(frozen=True)
class GeneNames:
    """What the names of a table stand for.

    Attributes
    ----------
    symbols : one a name; None for a row (or column) that is left out.
    ids : most were ids, several of which may have one symbol: their values are merged.
    notes : what was done, in sentences.
    """

    symbols: tuple[str | None, ...]
    ids: bool
    notes: tuple[str, ...]


def is_counter(name: str) -> bool:
    """Whether a row counts reads of no gene (__no_feature, N_unmapped)."""
    return name.strip().lstrip("_").lower() in COUNTERS


def is_gene(name: str) -> bool:
    """Whether a name is that of a human gene: a symbol, a former one, an Ensembl id."""
    known = gene_table().length_of
    return bool(name) and (name in known or ensembl_id(name) is not None or current_symbol(name) != name)


def is_transcript(name: str) -> bool:
    return _TRANSCRIPT.match(name) is not None and ensembl_id(name) is None


def read_gene_names(names: Sequence[str], source: str, fallback: Sequence[str] | None = None) -> GeneNames:
    """Return the symbols of the genes of a table.

    Parameters
    ----------
    names : as they stand there.   source : file name, for the messages.
    fallback : the file's own symbols for ids that our table (protein-coding genes of GENCODE 48) does not know.

    Raises
    ------
    ExpressionError : they are transcripts, numbers of Entrez, probes of an array, or genes of another species.
    """
    plain = [_without_entrez(name.strip()) for name in names]
    _refuse_others(plain, source)
    table = gene_table().symbol_of
    ids = [ensembl_id(name) for name in plain]
    n_ids = sum(one is not None for one in ids)
    n_named = sum(bool(name) for name in plain)
    mostly_ids = n_ids > _MOST * max(1, n_named)
    taken = {name for name, one in zip(plain, ids, strict=True) if one is None}
    symbols: list[str | None] = []
    dates: list[str] = []
    read = lost = 0
    for row, (name, one) in enumerate(zip(plain, ids, strict=True)):
        symbol: str | None = None
        if not name or name.lower() == "nan" or is_counter(name) or name.endswith("_PAR_Y"):
            pass
        elif one is not None:
            symbol = table.get(one)
            own = "" if fallback is None else fallback[row].strip()
            if symbol is None and own and not own.startswith("ENSG"):
                symbol = own
            read += symbol is not None
            if symbol is None:
                lost += 1
            elif not mostly_ids and symbol in taken:
                symbol = None  # the symbol itself stands there as well
        elif is_spreadsheet_date(name) or is_number(name):
            dates.append(name)
        elif not mostly_ids or not name.startswith("ENSG"):
            symbol = name
        symbols.append(symbol)
    notes = []
    if n_ids:
        notes.append(f"{read} Ensembl ids were read as symbols; {lost} others are not protein-coding.")
    if dates:
        one_name = len(dates) == 1
        notes.append(
            f"{len(dates)} gene name{' was' if one_name else 's were'} turned into"
            f" {'a date or number' if one_name else 'dates or numbers'} by a spreadsheet"
            f" (such as {dates[0]}) and {'was' if one_name else 'were'} left out."
        )
    return GeneNames(tuple(symbols), mostly_ids, tuple(notes))


def _without_entrez(name: str) -> str:
    """Firehose writes TP53|7157, and ?|100130426 for what has no symbol."""
    return "" if name == "?" or name.startswith("?|") else re.sub(r"\|\d+$", "", name)


def _refuse_others(names: Sequence[str], source: str) -> None:
    seen = [name for name in names[:_LOOKED_AT] if name and not is_counter(name)]
    enough = _MOST * len(seen)

    def most(kind: re.Pattern[str]) -> str | None:
        found = [name for name in seen if kind.match(name) and ensembl_id(name) is None]
        return found[0] if len(found) > enough else None

    if example := most(_TRANSCRIPT):
        raise ExpressionError(
            f"{source} holds transcripts such as {example}, not genes",
            "Give the table of genes: quant.genes.sf of salmon -g, genes.results of RSEM, or what tximport makes of"
            " kallisto's and salmon's files",
        )
    if example := most(_OTHER_SPECIES):
        raise ExpressionError(
            f"{source} names genes of another species, such as {example}", "Give human expression"
        )
    if example := most(_PROBE):
        raise ExpressionError(
            f"{source} names probes of an array such as {example}, not genes",
            "Give RNA sequencing by genes: an array's intensities cannot be compared with the model's reference",
        )
    numbers = [name for name in seen if is_number(name)]
    if len(numbers) > enough:
        raise ExpressionError(
            f"{source} names its genes by numbers such as {numbers[0]} (of Entrez)",
            "Give a table with gene symbols or Ensembl ids",
        )
