"""Which column of a matrix has the genes, and which are samples, told by content before names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from napari_survpgc.core.genomics.genes import current_symbol, ensembl_id, gene_table
from napari_survpgc.core.genomics.spreadsheet import is_spreadsheet_date
from napari_survpgc.core.tables import is_missing, plain

_ANNOTATIONS = frozenset(
    (
        "entrez gene id", "entrez id", "entrez", "entrezid", "entrezgene", "entrezgene id", "ncbi gene id", "gene type",
        "gene biotype", "biotype", "genebiotype", "type", "class", "class code", "description", "gene description",
        "cytoband", "band", "gene name", "gene names", "hugo symbol", "gene symbol", "hgnc symbol", "hgnc id", "symbol",
        "external gene name", "gene id", "geneid", "ensembl id", "ensembl gene id", "ensembl", "gene", "genes", "length",
        "gene length", "genelength", "effective length", "effectivelength", "eff length", "transcript length", "width",
        "chr", "chrom", "chromosome", "chromosome name", "seqnames", "seqname", "reference", "contig", "start", "end",
        "stop", "txstart", "txend", "chromstart", "chromend", "start position", "end position", "position", "strand", "locus",
        "tss id", "transcript id", "transcript id(s)", "transcripts", "refseq", "refseq id", "uniprot", "source", "level",
        "status", "havana gene", "tag", "gc", "gc content", "percentage gene gc content", "gene percent gc content",
        "nearest ref id", "coverage", "aliases", "alias", "synonyms", "probe", "probe id", "probeid", "id ref", "unnamed: 0",
        "index", "row", "rownames", "row names", "exon count", "n exons", "num exons",
    )
)  # fmt: skip
_SYMBOLS = ("hugo symbol", "gene symbol", "symbol", "hgnc symbol")


def gene_and_samples(
    header: Sequence[str], rows: Sequence[Sequence[str]], annotations: Collection[int] = ()
) -> tuple[int, list[int]]:
    """Return the place of the column with the genes and those of the samples.

    Parameters
    ----------
    rows : the first ones, as long as the header.   annotations : places that the format says are no samples.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    text = [place for place, cells in enumerate(columns) if _is_text(cells)]
    genes = [place for place in text if _gene_share(columns[place]) >= 0.3]
    by_symbol = [place for place in genes if plain(header[place]) in _SYMBOLS]
    by_id = [place for place in genes if ensembl_id(_first(columns[place])) is not None]
    found = by_symbol or by_id or genes
    if not found:  # names that nobody knows: the first column, unless it is a running number
        found = [0] if not rows or 0 in text or len(header) == 2 else text
    gene = found[0] if found else 0
    others = [
        place
        for place, name in enumerate(header)
        if place != gene and place not in annotations and plain(name) not in _ANNOTATIONS and (name or place)
    ]
    numbers = [place for place in others if place not in text]
    return gene, numbers or others


def _is_text(cells: Sequence[str]) -> bool:
    known = [cell for cell in cells if not is_missing(cell)]
    return bool(known) and sum(map(_is_number, known)) < 0.5 * len(known)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _gene_share(cells: Sequence[str]) -> float:
    known = gene_table().length_of
    names = [re.sub(r"\|\d+$", "", cell) for cell in cells if not is_missing(cell)]
    hits = sum(
        name in known
        or ensembl_id(name) is not None
        or current_symbol(name) != name
        or is_spreadsheet_date(name)
        for name in names
    )
    return hits / max(1, len(names))


def _first(cells: Sequence[str]) -> str:
    return next((cell for cell in cells if not is_missing(cell)), "")
