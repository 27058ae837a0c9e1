"""Expression: the layouts that are read, and with which sentence the others are refused."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

from napari_survpgc.core.genomics.expression_file import read_expression

from .case import Case

TP53, EGFR = "ENSG00000141510", "ENSG00000146648"
_TRANSCRIPT = f"ENST0000026930{{}}.9|{TP53}.18|x|y|TP53-20{{}}|TP53|2512|protein_coding|"
_RSEM = "gene_id transcript_id(s) length effective_length expected_count TPM FPKM\n"
_GDC = "gene_id gene_name gene_type unstranded stranded_first stranded_second tpm_unstranded fpkm_unstranded fpkm_uq_unstranded\n"


def _open(sample: str | None) -> Callable[[Path], str]:
    def opened(path: Path) -> str:
        found = read_expression(path, sample=sample)
        some = ", ".join(f"{gene} {value:g}" for gene, value in list(found.values.items())[:2])
        return (
            f"{found.sample}: {len(found.values)} gene{'s' * (len(found.values) > 1)}, {found.unit} ({some})"
        )

    return opened


def _write(name: str, text: str | bytes, beside: dict[str, str] | None = None) -> Callable[[Path], Path]:
    """Return what writes a file, with tabs for spaces, and others beside it."""

    def write(folder: Path) -> Path:
        for other, words in (beside or {}).items():
            (folder / other).write_text(words, encoding="utf-8")
        content = text if isinstance(text, bytes) else text.replace(" ", "\t").encode()
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return write


def _case(
    name: str,
    origin: str,
    file: str,
    text: str | bytes,
    result: str,
    *,
    sample: str | None = None,
    refused: bool = False,
    beside: dict[str, str] | None = None,
) -> Case:
    return Case(name, origin, _open(sample), result, refused, _write(file, text, beside))


def _zip(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.csv", text)
    return packed.getvalue()


_TWO = "gene,tpm\nTP53,5\nEGFR,1.5\n"
_MATRIX = "gene PA PB\nTP53 5 41.5\nEGFR 1 2\n"
_META = {
    "meta_expression.txt": "datatype: CONTINUOUS\nstable_id: rna_seq_v2_mrna\ndata_filename: data_mrna.txt\n"
}
_CBIO = "Hugo_Symbol Entrez_Gene_Id S1 S2\nTP53 7157 5.5 1\nEGFR 1956 900.1 1\n"

CASES: list[Case] = [
    _case("two columns, gene and value", "anybody", "P1_tpm.csv", _TWO.replace(",", " "), "P1_tpm: 2 genes, tpm (TP53 5, EGFR 1.5)"),
    _case("two columns, gzip or zip by content", "anybody", "P1.csv", gzip.compress(_TWO.encode(), mtime=0), "P1: 2 genes, tpm (TP53 5, EGFR 1.5)"),
    _case("two columns in a zip file", "anybody", "P1.csv", _zip(P1=_TWO), "P1: 2 genes, tpm (TP53 5, EGFR 1.5)"),
    _case("two columns, semicolons and decimal commas", "spreadsheets", "P1.csv", b"gene;tpm\nTP53;5\nEGFR;1,5\n", "P1: 2 genes, tpm (TP53 5, EGFR 1.5)"),
    _case("two columns, genes last, no header", "anybody", "P1_tpm.csv", b"5,TP53\n1.5,EGFR\n", "P1_tpm: 2 genes, tpm (TP53 5, EGFR 1.5)"),
    _case("matrix of genes and samples", "anybody", "m_tpm.tsv", _MATRIX, "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB"),
    _case(
        "matrix with annotation columns, genes anywhere", "anybody", "m_tpm.tsv",
        "length PA chr gene_type PB name\n2512 5 17 protein_coding 41.5 TP53\n9905 1 7 protein_coding 2 EGFR\n", "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB",
    ),
    _case("matrix of write.table, with tabs", "R", "m_tpm.tsv", '"PA" "PB"\n"TP53" 5 41.5\n"EGFR" 1 2\n', "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB"),
    _case(
        "matrix of write.table, with spaces", "R", "m_tpm.txt", b'"PA" "PB"\n"TP53" 5 41.5\n"EGFR" 1 2\n', "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB",
    ),
    _case(
        "table of samples and genes", "cohort folders", "m_tpm.csv", b"case_id,TP53,EGFR\nPA,5,1\nPB,41.5,2\n", "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB",
    ),
    _case(
        "rows with outcomes, expression, mutations", "PORPOISE, MCAT", "all_tpm.csv",
        b"case_id,slide_id,age,survival_months,censorship,TP53_rnaseq,EGFR_rnaseq,TP53_mut\nPA,s,50,3,1,5,1,0\nPB,t,50,3,1,41.5,2,1\n",
        "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB",
    ),
    _case(
        "STAR counts with TPM", "GDC", "a.rna_seq.augmented_star_gene_counts.tsv",
        f"# gene-model: GENCODE v36\n{_GDC}N_unmapped   100 1 1   \n{TP53}.18 TP53 protein_coding 1200 600 600 35.5 12 13\n", "a: 1 gene, tpm (TP53 35.5)",
    ),
    _case("log2(TPM+0.001)", "UCSC Xena (Toil)", "x.tsv", "sample TCGA-AA-0001-01 X\nTP53 -9.9658 1\nEGFR 3.2 2\n", "TCGA-AA-0001-01: 2 genes, log2(tpm+1) (TP53 0, EGFR 3.34888)", sample="TCGA-AA-0001"),
    _case("table of a study with its meta file", "cBioPortal", "data_mrna.txt", _CBIO, "S1: 2 genes, counts (TP53 5.5, EGFR 900.1)", sample="S1", beside=_META),
    _case("symbols with numbers of Entrez", "Firehose", "rsem.txt", "id S1\n?|100130426 1\nTP53|7157 5.5\nEGFR|1956 41\n", "S1: 2 genes, counts (TP53 5.5, EGFR 41)"),
    _case("GCT 1.2", "GTEx, RNA-SeQC", "S_tpm.gct", f"#1.2\n2 2\nName Description PA PB\n{TP53}.4 TP53 5 41.5\n{EGFR}.9 EGFR 1 2\n", "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB"),
    _case(
        "GCT of one tissue, with an id column", "GTEx", "S_tpm.gct",
        f"#1.2\n2 2\nid Name Description PA PB\n0 {TP53}.4 TP53 5 41.5\n1 {EGFR}.9 EGFR 1 2\n", "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB",
    ),
    _case(
        "GCT 1.3 with rows about the samples", "Morpheus, cmapR", "S_tpm.gct",
        f"#1.3\n2 2 1 1\nid symbol PA PB\nsex na f m\n{TP53} TP53 5 41.5\n{EGFR} EGFR 1 2\n", "PB: 2 genes, tpm (TP53 41.5, EGFR 2)", sample="PB",
    ),
    _case("genes.results", "RSEM", "P1.genes.results", f"{_RSEM}{TP53}.18 x 9 8 120.6 5 4\n{EGFR}.4 y 9 8 10 1.5 1\n", "P1: 2 genes, tpm (TP53 5, EGFR 1.5)"),
    _case(
        "isoforms.results", "RSEM", "P1.isoforms.results",
        "transcript_id gene_id length effective_length expected_count TPM FPKM IsoPct\n"
        f"ENST00000000001 {TP53} 9 8 5 5 4 50\nENST00000000002 {TP53} 9 8 5 5 4 50\n", "P1: 1 gene, tpm (TP53 10)",
    ),
    _case("quant.genes.sf", "salmon", "P1/quant.genes.sf", f"Name Length EffectiveLength TPM NumReads\n{TP53}.18 9 8 5 10\n", "P1: 1 gene, tpm (TP53 5)"),
    _case(
        "quant.sf with transcripts of GENCODE", "salmon", "P1/quant.sf",
        "Name Length EffectiveLength TPM NumReads\n" + "".join(_TRANSCRIPT.format(i, i) + " 9 8 5 10\n" for i in (5, 6)), "P1: 1 gene, tpm (TP53 10)",
    ),
    _case(
        "abundance.tsv with transcripts of GENCODE", "kallisto", "P1/abundance.tsv",
        "target_id length eff_length est_counts tpm\n" + _TRANSCRIPT.format(5, 1) + " 9 8 7 2.5\n", "P1: 1 gene, tpm (TP53 2.5)",
    ),
    _case(
        "counts with places", "featureCounts", "fc.txt",
        f"# Program:featureCounts\nGeneid Chr Start End Strand Length a/PA.sorted.bam a/PBAligned.sortedByCoord.out.bam\n{TP53}.18 17;17 1;5 2;6 -;- 9 120 60\n",
        "PB: 1 gene, counts (TP53 60)", sample="PB",
    ),
    _case("counts with counters", "HTSeq", "P1.counts", f"{TP53}.18 120\n{EGFR}.4 50\n__no_feature 99\n__ambiguous 5\n__too_low_aQual 0\n", "P1: 2 genes, counts (TP53 120, EGFR 50)"),
    _case(
        "ReadsPerGene.out.tab", "STAR", "P1ReadsPerGene.out.tab",
        f"N_unmapped 9 9 9\nN_multimapping 9 9 9\nN_noFeature 9 9 9\nN_ambiguous 9 9 9\n{TP53} 120 60 60\n{EGFR} 50 25 25\n", "P1: 2 genes, counts (TP53 120, EGFR 50)",
    ),
    _case("genes.fpkm_tracking", "Cufflinks", "P1/genes.fpkm_tracking", "tracking_id class_code gene_id gene_short_name length FPKM FPKM_status\nX1 - X1 TP53 9 4.5 OK\n", "P1: 1 gene, fpkm (TP53 4.5)"),
    _case(
        "gene abundances", "StringTie", "P1/gene_abund.tab",
        f"Gene ID\tGene Name\tReference\tStrand\tStart\tEnd\tCoverage\tFPKM\tTPM\n{TP53}\tTP53\t17\t-\t1\t9\t3\t4\t5\n".encode(), "P1: 1 gene, tpm (TP53 5)",
    ),
    _case(
        "gene names that a spreadsheet made dates", "spreadsheets", "P1.csv",
        "gene,tpm\nTP53,5\nEGFR,1.5\n2-Sep,3\nsept.-1,3\n43891,3\n9月1日,3\n1.III,3\n01.09,3\n".encode(), "P1: 2 genes, tpm (TP53 5, EGFR 1.5)",
    ),
    Case("GCT cut to its first rows", "RNA-SeQC (MultiQC's test data)", _open(None), "rnaseqc_gene_tpm: 2923 genes, tpm (DDX11L1 0, WASH7P 11.0798)", shared="cases/formats/expression/rnaseqc_gene_tpm.gct"),
    _case("table of a study without its meta file", "cBioPortal", "data_mrna.txt", _CBIO, "data_mrna.txt does not say the unit of its values; cBioPortal says it in the meta file (datatype, stable_id) that belongs to the table. State it (--expression-unit), e.g. counts for RSEM, or give the table under its own name beside its meta file.", sample="S1", refused=True),
    _case("numbers of Entrez alone", "anybody", "m.csv", b"gene,S1\n7157,5\n1956,1\n", "m.csv names its genes by numbers such as 7157 (of Entrez). Give a table with gene symbols or Ensembl ids.", refused=True),
    _case("transcripts without their genes", "salmon", "P1/quant.sf", "Name Length EffectiveLength TPM NumReads\nENST00000269305.9 9 8 5 10\n", "quant.sf holds transcripts such as ENST00000269305.9, not genes. Give the table of genes: quant.genes.sf of salmon -g, genes.results of RSEM, or what tximport makes of kallisto's and salmon's files.", refused=True),
    _case("probes of an array", "GEO", "m.txt", "ID_REF GSM1\n1007_s_at 5\n201746_at 2\n", "m.txt names probes of an array such as 1007_s_at, not genes. Give RNA sequencing by genes: an array's intensities cannot be compared with the model's reference.", refused=True),
    _case("series matrix", "GEO", "s.txt", b'!Series_title\t"x"\n!Series_platform_id\t"GPL570"\n', "s.txt is a series matrix of GEO, platform GPL570: its values are those of an array's probes, or none. Give RNA sequencing: the counts, TPM or FPKM among the supplementary files of the series, as a table of genes and samples.", refused=True),
    _case("fold changes", "DESeq2", "d.csv", b"gene,baseMean,log2FoldChange,lfcSE,stat,pvalue,padj\nTP53,5,1,1,1,1,1\n", "d.csv compares groups of samples (fold changes and p-values) and holds the expression of none. Give the counts or TPM that the comparison was made from.", refused=True),
    _case("log10(TPM+1)", "anybody", "d.csv", b"gene,log10(tpm+1)\nTP53,5\n", "'log10(tpm+1) d.csv' speaks of log10, which cannot be compared with the model's reference. Give counts, TPM or FPKM, or their log2(x+1).", refused=True),
    _case("normal tissue, unasked", "TCGA", "d.csv", b"gene,TCGA-AA-0001-11A\nTP53,5\n", "d.csv holds the normal tissue TCGA-AA-0001-11A, not the tumor. Give the expression of the tumor, or ask for the normal tissue with --case TCGA-AA-0001-11A.", refused=True),
    _case("the only column is another patient's", "anybody", "d.csv", b"gene,P10\nTP53,5\n", "d.csv has no sample P1. Choose one that it has, e.g. P10.", sample="P1", refused=True),
    _case("workbook", "Excel", "d.csv", _zip(**{"[Content_Types].xml": "x"}).replace(b".xml.csv", b".xml\0\0\0\0"), "d.csv is an Excel or zip file. Save the sheet as CSV and give that file.", refused=True),
    _case("several tables in a zip file", "anybody", "d.csv", _zip(a="1", b="2"), "d.csv is a zip file of 2 files (a.csv, b.csv). Unpack it and give the one table.", refused=True),
    Case("SOFT", "GEO (GEOquery's test data)", _open(None), "geo_GSM_soft.txt is a SOFT file of GEO, platform GPL96: its values are those of an array's probes, or none. Give RNA sequencing: the counts, TPM or FPKM among the supplementary files of the series, as a table of genes and samples.", True, shared="cases/formats/expression/geo_GSM_soft.txt"),
]  # fmt: skip
