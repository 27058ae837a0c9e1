"""Names of genes: Ensembl ids to symbols, old symbols to current ones, gene lengths, and gene sets from GMT files."""

from __future__ import annotations

import functools
import gzip
import re
from dataclasses import dataclass

from napari_survpgc.resources import resource_path

# Former symbols and common names in files of the last decade -> current HGNC symbols.
_FORMER = {
    "PD-L1": "CD274", "PDL1": "CD274", "PD-1": "PDCD1", "PD1": "PDCD1", "HER2": "ERBB2", "KI67": "MKI67",
    "KI-67": "MKI67", "P53": "TP53", "IL8": "CXCL8", "MLL": "KMT2A", "MLL2": "KMT2D", "MLL3": "KMT2C", "WHSC1": "NSD2",
    "PARK2": "PRKN", "TNFSF6": "FASLG", "FAM175A": "ABRAXAS1", "C10ORF54": "VSIR", "MRE11A": "MRE11", "CASC5": "KNL1",
    "KIAA0101": "PCLAF", "FAM64A": "PIMREG", "CTSL1": "CTSL", "EMR1": "ADGRE1", "EMR2": "ADGRE2", "CD97": "ADGRE5",
    "TMEM173": "STING1", "MB21D1": "CGAS", "DDX58": "RIGI", "H2AFX": "H2AX", "H2AFZ": "H2AZ1", "PVRL2": "NECTIN2",
    "PVRL4": "NECTIN4", "SLC9A3R1": "NHERF1", "PRPF4B": "PRP4K", "TDGF1": "CRIPTO", "MUT": "MMUT", "SQRDL": "SQOR",
    "ATP5D": "ATP5F1D", "ATP5E": "ATP5F1E", "ATP5F1": "ATP5PB", "ATP5G1": "ATP5MC1", "ATP5H": "ATP5PD", "ATP5I": "ATP5ME",
    "ATP5J": "ATP5PF", "ATP5J2": "ATP5MF", "ATP5L": "ATP5MG", "ATP5O": "ATP5PO", "ADSS": "ADSS2", "ADSSL1": "ADSS1",
    "PVRL1": "NECTIN1", "PVRL3": "NECTIN3", "HFE2": "HJV", "CCBL1": "KYAT1", "CCBL2": "KYAT3", "MRVI1": "IRAG1",
    "TTC37": "SKIC3", "METTL7B": "TMT1B", "FAM102A": "EEIG1", "FAM126B": "HYCC2", "HIST1H2AB": "H2AC4",
    "HIST1H2AC": "H2AC6", "HIST1H2AD": "H2AC7", "HIST1H2AJ": "H2AC14", "HIST1H2BA": "H2BC1", "HIST1H2BB": "H2BC3",
    "HIST1H2BC": "H2BC4", "HIST1H2BD": "H2BC5", "HIST1H2BH": "H2BC9", "HIST1H2BJ": "H2BC11", "HIST1H2BK": "H2BC12",
    "HIST1H2BL": "H2BC13", "HIST1H2BM": "H2BC14", "HIST1H2BN": "H2BC15", "HIST1H2BO": "H2BC17", "HIST1H4A": "H4C1",
    "HIST2H2AA3": "H2AC18", "HIST2H2AC": "H2AC20", "HIST2H2BE": "H2BC21", "HIST3H2BB": "H2BC26", "HIST3H3": "H3-4",
    "ATP5A1": "ATP5F1A", "ATP5B": "ATP5F1B", "ATP5C1": "ATP5F1C", "EPRS": "EPRS1", "ICOSL": "ICOSLG",
    **{f"{x}ARS": f"{x}ARS1" for x in "ACDGHIKLMNQRSTVWY"},
    **{f"MARCH{i}": f"MARCHF{i}" for i in range(1, 12)},
    **{f"SEPT{i}": f"SEPTIN{i}" for i in range(1, 15) if i != 13},
}  # fmt: skip

_ENSEMBL = re.compile(r"(?<![A-Za-z0-9])ENSG\d{11}(?!\d)")


@dataclass(frozen=True)
class GeneTable:
    """What is known about human genes (GENCODE 48).

    Attributes
    ----------
    symbol_of : Ensembl gene id without version -> symbol.   length_of : symbol -> bases.
    """

    symbol_of: dict[str, str]
    length_of: dict[str, int]


@functools.cache
def gene_table() -> GeneTable:
    """Read the table that ships with the package, once."""
    with gzip.open(resource_path("genes", "genes.tsv.gz"), "rt", encoding="utf-8") as stream:
        next(stream)
        rows = [line.rstrip("\n").split("\t") for line in stream]
    return GeneTable({r[0]: r[1] for r in rows}, {r[1]: int(r[2]) for r in rows})


def ensembl_id(name: str) -> str | None:
    """Return the Ensembl gene id without its version, or None when the name is none."""
    match = _ENSEMBL.search(name)
    return match[0] if match else None


def current_symbol(name: str) -> str:
    """Return the current symbol of a former one or a common name; other names as they are."""
    former = _FORMER.get(name.upper())
    if former:
        return former
    known = gene_table().length_of
    return name.upper() if name not in known and name.upper() in known else name
