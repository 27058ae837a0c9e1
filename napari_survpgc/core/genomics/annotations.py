"""Names of columns that describe a gene, a patient or a test, and are no sample and no gene."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from napari_survpgc.core.tables import CASE_COLUMNS, plain

from .gene_names import is_gene
from .genes import gene_table

SAMPLE_COLUMNS = CASE_COLUMNS | {"sample", "sample id", "sampleid", "barcode", "sample barcode", "samples"}
"""Names of a first column with samples; UCSC Xena heads its genes like that as well."""
SYMBOL_COLUMNS = frozenset(
    (
        "hugo symbol",
        "gene symbol",
        "symbol",
        "hgnc symbol",
        "genesymbol",
        "external gene name",
        "gene short name",
    )
)
GENE_COLUMNS = SYMBOL_COLUMNS | {
    "gene", "genes", "gene id", "gene name", "genename", "geneid", "gene ids", "ensembl id", "ensembl", "ensembl gene id",
    "ensg", "ensembl gene", "name", "tracking id", "target id", "id", "feature", "feature id", "row names", "rownames",
    "hgnc", "gene names", "associated gene name",
}  # fmt: skip
ABOUT_GENES = frozenset(
    (
        "entrez gene id", "entrez", "entrez id", "entrezid", "entrezgene", "ncbi gene id", "hgnc id", "refseq", "uniprot",
        "gene type", "genetype", "type", "biotype", "gene biotype", "transcript type", "class", "class code", "source", "level",
        "description", "gene description", "desc", "definition", "synonyms", "aliases", "alias", "previous symbols",
        "cytoband", "band", "locus", "location", "map location", "chr", "chrom", "chromosome", "seqname", "seqnames",
        "contig", "reference", "ref", "chromosome name", "start", "end", "stop", "chromstart", "chromend", "start position", "end position",
        "gene start", "gene end", "gene start (bp)", "gene end (bp)", "chromosome/scaffold name", "pos", "position", "coordinates", "strand",
        "frame", "phase", "length", "gene length", "transcript length", "exon length", "exonic length", "merged exon length", "width", "len",
        "effective length", "eff length", "efflength", "effectivelength", "bases", "size", "gc", "gc content", "gene % gc content", "percentage gene gc content", "exons",
        "num exons", "exon count", "transcript id", "transcript id(s)", "transcript ids", "transcript", "transcripts",
        "tss id", "nearest ref id", "isopct", "havana gene", "gene version", "version", "tag", "probe", "probe id", "probeset",
        "probe set id", "id ref", "spot id", "composite element ref", "accession", "gb acc", "coverage", "cov", "status", "row", "index", "no", "nr",
    )
)  # fmt: skip
ABOUT_PATIENTS = CASE_COLUMNS | {
    "slide id", "slide ids", "sample", "sample id", "sample type", "barcode", "site", "project", "project id", "cohort",
    "dataset", "batch", "plate", "oncotree code", "cancer type", "disease", "disease type", "age", "age at index",
    "age at diagnosis", "sex", "gender", "is female", "race", "ethnicity", "stage", "staging edition", "subtype", "grade",
    "ajcc pathologic stage", "ajcc pathologic tumor stage", "survival months", "survival days", "survival time", "months", "days", "time", "event", "censorship",
    "censored", "status", "vital status", "os", "os time", "os months", "os days", "os status", "os event", "dss", "dss time", "dss months", "dss event",
    "pfi", "pfi time", "pfi months", "pfi event", "pfs", "pfs time", "pfs months", "pfs event", "dfi", "dfi time", "dfi months", "dfi event", "dfs",
    "dfs time", "dfs months", "dfs event", "days to death", "days to last follow up", "days to last followup", "death", "dead", "deceased", "train",
    "test", "val", "split", "fold", "label", "unnamed: 0", "futime", "fustat", "surv time", "surv event", "survtime", "tte",
    "efs", "efs time", "efs event", "mfs", "lfs", "css", "rfs", "rfs time", "rfs event", "bcr time", "bcr event", "target",
    "outcome", "tumor stage", "tumour stage", "t stage", "n stage", "m stage", "smoking", "treatment", "bmi", "height", "weight",
}  # fmt: skip
"""Of patients and outcomes: beside genes such a column would let a model read the answer."""
_OUTCOME = frozenset(
    (
        "survival", "surv", "censorship", "censored", "censoring", "censor", "vital", "deceased", "death", "dead", "alive",
        "followup", "follow", "relapse", "recurrence", "recurred", "progression", "months", "days", "years", "diagnosis",
        "pathologic", "ajcc", "prognosis",
    )
)  # fmt: skip
"""Words in names of columns with times and outcomes (survival_months_dss, days_to_recurrence)."""
_COMPARED = ({"log2foldchange"}, {"logfc"}, {"log2fc"}, {"log2 fold change"})
_TESTED = {"padj", "pvalue", "p value", "adj p val", "fdr", "qvalue", "q value", "p val", "pval"}


def describes_genes(column: str) -> bool:
    """Whether a column beside the genes says something of them and is no sample."""
    name = plain(column)
    return name in ABOUT_GENES or name in GENE_COLUMNS


@dataclass(frozen=True)
class GeneColumns:
    """The columns of a table with a sample a row.

    Attributes
    ----------
    columns : numbers of those that are genes.   genes : their names.   others : names of those that are none.
    """

    columns: tuple[int, ...]
    genes: tuple[str, ...]
    others: tuple[str, ...]

    def note(self, source: str) -> str | None:
        """Say which columns were left out."""
        return left_out(source, self.others, "is not", "are not", "the expression of a gene")


def left_out(source: str, names: Sequence[str], one: str, several: str, rest: str) -> str | None:
    """Say which columns of a table were left out and why; None for none."""
    if not names:
        return None
    if len(names) == 1:
        return f"The column {names[0]} of {source} {one} {rest} and was left out."
    some = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
    return f"{len(names)} columns of {source} {several} {rest} ({some}) and were left out."


def describes_patients(column: str) -> bool:
    """Whether a column beside the genes says something of the patients, above all how they fared."""
    name = plain(column)
    if name not in ABOUT_PATIENTS and _OUTCOME.isdisjoint(name.split()):
        return False
    return column not in gene_table().length_of  # EFS is a gene, and efs, event-free survival, none


def gene_of_column(name: str) -> str:
    """Return the gene of a column as tables of several kinds of data name it (TP53_rnaseq)."""
    return name.removesuffix("_rnaseq")


def columns_of_genes(names: Sequence[str], ids: int, others: Collection[str] = ()) -> GeneColumns:
    """Tell the genes among the columns of a table with a sample a row.

    Parameters
    ----------
    names : the header.   ids : number of the column with the samples.   others : names that are known to be no genes.
    """
    by_kind = any(name.endswith("_rnaseq") for name in names)
    columns, genes, left = [], [], []
    for i, name in enumerate(names):
        if i == ids:
            continue
        # Tables of several kinds of data (PORPOISE) have copy numbers and mutations beside the expression.
        other_kind = by_kind and re.search(r"_(cnv|mut)$", name) is not None
        gene = gene_of_column(name)
        if other_kind or describes_patients(name) or (name in others and not is_gene(gene)):
            left.append(name)
        else:
            columns.append(i)
            genes.append(gene)
    return GeneColumns(tuple(columns), tuple(genes), tuple(left))


def is_comparison(columns: list[str]) -> bool:
    """Whether a table compares groups of samples (DESeq2, edgeR, limma, Cuffdiff) and holds no sample."""
    names = {plain(re.sub(r"[().]", " ", column)) for column in columns}
    return any(one <= names for one in _COMPARED) and bool(names & _TESTED)
