"""Tables of programs that quantify one sample: RSEM, salmon, kallisto, StringTie, Cufflinks; and featureCounts' columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from napari_survpgc.core.types import ExpressionUnit


@dataclass(frozen=True)
class Quantifier:
    """The table of one program.

    Attributes
    ----------
    columns : that tell it from others, in lower case.   gene : the column with genes, or with transcripts.
    values : unit -> column; the first is taken unless another is asked for.
    several : a gene may have several rows, whose values add up (transcripts, or a gene in parts).
    """

    name: str
    columns: frozenset[str]
    gene: str
    values: Mapping[ExpressionUnit, str]
    several: bool = False


_TPM, _COUNTS, _FPKM = ExpressionUnit.TPM, ExpressionUnit.COUNTS, ExpressionUnit.FPKM
QUANTIFIERS = (
    Quantifier(
        "RSEM's genes.results",
        frozenset(("gene_id", "transcript_id(s)", "expected_count", "tpm")),
        "gene_id",
        {_TPM: "tpm", _COUNTS: "expected_count", _FPKM: "fpkm"},
    ),
    Quantifier(
        "RSEM's isoforms.results",
        frozenset(("transcript_id", "gene_id", "expected_count", "tpm", "isopct")),
        "gene_id",
        {_TPM: "tpm", _COUNTS: "expected_count", _FPKM: "fpkm"},
        several=True,
    ),
    Quantifier(
        "salmon's quantification",
        frozenset(("name", "length", "effectivelength", "tpm", "numreads")),
        "name",
        {_TPM: "tpm", _COUNTS: "numreads"},
        several=True,
    ),
    Quantifier(
        "kallisto's abundance",
        frozenset(("target_id", "length", "eff_length", "est_counts", "tpm")),
        "target_id",
        {_TPM: "tpm", _COUNTS: "est_counts"},
        several=True,
    ),
    Quantifier(
        "StringTie's gene abundances",
        frozenset(("gene id", "gene name", "reference", "strand", "fpkm", "tpm")),
        "gene name",
        {_TPM: "tpm", _FPKM: "fpkm"},
        several=True,
    ),
    Quantifier(
        "Cufflinks' fpkm_tracking",
        frozenset(("tracking_id", "gene_short_name", "fpkm", "fpkm_conf_lo")),
        "gene_short_name",
        {_FPKM: "fpkm"},
        several=True,
    ),
)
_FEATURE_COUNTS = ("geneid", "chr", "start", "end", "strand", "length")
_ENDINGS = re.compile(
    r"(Aligned)?([._]?(sortedByCoord|toTranscriptome|out|sorted|dedup|markdup|md|bam|sam|cram))+$",
    re.IGNORECASE,
)


def find_quantifier(header: Sequence[str]) -> Quantifier | None:
    """Return the program whose table has these columns (in lower case)."""
    return next((one for one in QUANTIFIERS if one.columns <= set(header)), None)


def genes_of_transcripts(names: pd.Series) -> pd.Series:
    """Return the gene of transcripts named as GENCODE's FASTA does, ``ENST...|ENSG...|...|SYMBOL|``; others as they are."""
    found = names.astype(str).str.extract(r"^ENST[^|]*\|(ENSG\d{11})", expand=False)
    return found.where(found.notna(), names)


def is_feature_counts(header: Sequence[str]) -> bool:
    """Whether columns (in lower case) are those of featureCounts."""
    return tuple(header[:6]) == _FEATURE_COUNTS


def sample_of_alignment(name: str) -> str:
    """Return the sample of a column that featureCounts names by its BAM file."""
    return _ENDINGS.sub("", PurePosixPath(name.replace("\\", "/")).name) or name
