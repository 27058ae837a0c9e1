"""Expression is read from the layouts that programs, repositories and spreadsheets write, or refused in one sentence."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.expression_file import ExpressionFile, SampleNeededError, read_expression
from napari_survpgc.core.genomics.genes import gene_table
from napari_survpgc.core.genomics.spreadsheet_dates import is_spreadsheet_date
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit

TPM, COUNTS, FPKM = ExpressionUnit.TPM, ExpressionUnit.COUNTS, ExpressionUnit.FPKM
TP53, EGFR = "ENSG00000141510", "ENSG00000146648"
RSEM = "gene_id\ttranscript_id(s)\tlength\teffective_length\texpected_count\tTPM\tFPKM\n"
ISOFORMS = "transcript_id\tgene_id\tlength\teffective_length\texpected_count\tTPM\tFPKM\tIsoPct\n"
SALMON = "Name\tLength\tEffectiveLength\tTPM\tNumReads\n"
GENCODE = f"ENST0000026930{{}}.9|{TP53}.18|x|y|TP53-20{{}}|TP53|2512|protein_coding|"
FEATURE_COUNTS = (
    "# Program:featureCounts v2.0.1\nGeneid\tChr\tStart\tEnd\tStrand\tLength\tbam/S1.sorted.bam\tbam/S2Aligned.sortedByCoord"
    f".out.bam\n{TP53}.18\tchr17\t1\t9\t-\t2512\t50\t7\n{EGFR}.5\tchr7\t1\t9\t+\t9905\t3\t8\n"
)


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _read(folder: Path, name: str, content: str | bytes, sample: str | None = None) -> ExpressionProfile:
    return read_expression(_write(folder, name, content), sample=sample)


@pytest.mark.parametrize(
    ("name", "content", "sample", "unit", "values"),
    [
        pytest.param(
            "a.genes.results", RSEM + f"{TP53}.1\tx,y\t9\t8\t12.5\t5.0\t4.0\n{EGFR}\tz\t9\t8\t3\t1.0\t0.5\n", None, TPM,
            {"TP53": 5.0, "EGFR": 1.0}, id="RSEM genes",
        ),
        pytest.param(
            "a.isoforms.results", ISOFORMS + f"ENST00000000001\t{TP53}\t9\t8\t5\t5.0\t4\t50\nENST00000000002\t{TP53}\t9\t8\t5\t5.0\t4\t50\n",
            None, TPM, {"TP53": 10.0}, id="RSEM isoforms of equal values",
        ),
        pytest.param(
            "quant.genes.sf", SALMON + f"{TP53}.18\t2512\t2300\t5\t10\n", None, TPM, {"TP53": 5.0}, id="salmon genes",
        ),
        pytest.param(
            "quant.sf", SALMON + "".join(GENCODE.format(i, i) + "\t2512\t2300\t5\t10\n" for i in (5, 6)), None, TPM, {"TP53": 10.0},
            id="salmon transcripts of GENCODE",
        ),
        pytest.param(
            "abundance.tsv", "target_id\tlength\teff_length\test_counts\ttpm\n" + GENCODE.format(5, 1) + "\t9\t8\t7\t2.5\n", None, TPM,
            {"TP53": 2.5}, id="kallisto with transcripts of GENCODE",
        ),
        pytest.param("fc.txt", FEATURE_COUNTS, "S2", COUNTS, {"TP53": 7.0, "EGFR": 8.0}, id="featureCounts"),
        pytest.param(
            "a.htseq.counts", f"{TP53}.18\t12\n{EGFR}.5\t3\n__no_feature\t99\n__ambiguous\t5\n__too_low_aQual\t0\n", None, COUNTS,
            {"TP53": 12.0, "EGFR": 3.0}, id="HTSeq",
        ),
        pytest.param(
            "s.txt", f"{TP53}\tTP53\t120\n{EGFR}\tEGFR\t50\n__no_feature\t\t9\n", None, COUNTS, {"TP53": 120.0, "EGFR": 50.0},
            id="HTSeq with symbols between",
        ),
        pytest.param(
            "ReadsPerGene.out.tab", "N_unmapped\t9\t9\t9\nN_multimapping\t9\t9\t9\nN_noFeature\t9\t9\t9\nN_ambiguous\t9\t9\t9\n"
            f"{TP53}\t12\t6\t6\n{EGFR}\t4\t2\t2\n", None, COUNTS, {"TP53": 12.0, "EGFR": 4.0}, id="STAR",
        ),
        pytest.param(
            "gene_abund.tab", f"Gene ID\tGene Name\tReference\tStrand\tStart\tEnd\tCoverage\tFPKM\tTPM\n{TP53}\tTP53\t17\t-\t1\t9\t3\t4\t5\n",
            None, TPM, {"TP53": 5.0}, id="StringTie",
        ),
        pytest.param(
            "genes.fpkm_tracking", "tracking_id\tclass_code\tgene_id\tgene_short_name\tlength\tFPKM\tFPKM_status\nXLOC_1\t-\tXLOC_1\tTP53\t9\t4.5\tOK\n"
            "XLOC_2\t-\tXLOC_2\tEGFR\t9\t1.5\tOK\n", None, FPKM, {"TP53": 4.5, "EGFR": 1.5}, id="Cufflinks",
        ),
        pytest.param(
            "g.gct", f"#1.2\n2\t2\nid\tName\tDescription\tS1\tS2\n0\t{TP53}.4\tTP53\t5\t41\n1\t{EGFR}.2\tEGFR\t3\t2.5\n", "S2", TPM,
            {"TP53": 41.0, "EGFR": 2.5}, id="GCT of GTEx with an id column",
        ),
        pytest.param(
            "g.gct", f"#1.3\n2\t2\t1\t1\nid\tpr_gene_symbol\tS1\tS2\ntissue\tna\tliver\tliver\n{TP53}\tTP53\t5\t41.5\n{EGFR}\tEGFR\t3\t2\n", "S2",
            TPM, {"TP53": 41.5, "EGFR": 2.0}, id="GCT 1.3 with rows about the samples",
        ),
        pytest.param("x_tpm.csv", ",gene,PA\n0,TP53,7.5\n1,EGFR,1\n", None, TPM, {"TP53": 7.5, "EGFR": 1.0}, id="rows numbered by pandas"),
        pytest.param(
            "matrix_tpm.tsv", "Name\tS1\tS2\n" + "".join(GENCODE.format(i, i) + "\t5\t1\n" for i in (5, 6)), "S1", TPM, {"TP53": 10.0},
            id="a matrix of transcripts of equal values",
        ),
        pytest.param("x_tpm.csv", "S1,S2,gene\n1,2,TP53\n3,4,EGFR\n", "S1", TPM, {"TP53": 1.0, "EGFR": 3.0}, id="genes last"),
        pytest.param("x_tpm.csv", "1.5,TP53\n3,EGFR\n", None, TPM, {"TP53": 1.5, "EGFR": 3.0}, id="genes last, no header"),
        pytest.param(
            "x_tpm.csv", ",entrez,chromosome,symbol,length,S1,S2\n0,7157,17,TP53,2512,1,2\n1,1956,7,EGFR,9905,3,4\n2,3845,12,KRAS,5889,5,6\n",
            "S2", TPM, {"TP53": 2.0, "EGFR": 4.0, "KRAS": 6.0}, id="annotation columns around the genes",
        ),
        pytest.param(
            "x_tpm.csv", ",1001,1002\nTP53,5,1\nEGFR,1,2\n", "1002", TPM, {"TP53": 1.0, "EGFR": 2.0}, id="numbers for samples, empty corner",
        ),
        pytest.param(
            "x_tpm.txt", '"PA" "PB"\n"TP53" 1 2\n"EGFR" 3 4\n', "PB", TPM, {"TP53": 2.0, "EGFR": 4.0}, id="spaces of R's write.table",
        ),
        pytest.param(
            "x.csv", "gene,counts,tpm,fpkm\nTP53,100,5,3\nEGFR,3,1,1\n", None, TPM, {"TP53": 5.0, "EGFR": 1.0}, id="one sample in three units",
        ),
        pytest.param(
            "x_tpm.csv", "case_id,slide_id,age,survival_months,censorship,train,TP53_rnaseq,EGFR_rnaseq,TP53_mut,EGFR_cnv\n"
            "A,a.svs,50,3,1,1,1.5,2,0,1\nB,b.svs,50,3,1,1,2.5,1,0,1\n", "B", TPM, {"TP53": 2.5, "EGFR": 1.0}, id="rows of PORPOISE",
        ),
        pytest.param(
            "x_tpm.csv", "\ufeffgene;P1;P2\nTP53;1,5;2\nEGFR;40,25;3\n", "P1", TPM, {"TP53": 1.5, "EGFR": 40.25}, id="decimal commas",
        ),
    ],
)  # fmt: skip
def test_a_layout_is_read_by_what_it_means(
    tmp_path: Path,
    name: str,
    content: str,
    sample: str | None,
    unit: ExpressionUnit,
    values: dict[str, float],
) -> None:
    profile = _read(tmp_path, name, content, sample)
    assert (dict(profile.values), profile.unit) == (values, unit)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "d.csv", "gene,baseMean,log2FoldChange,lfcSE,stat,pvalue,padj\nTP53,5,1,1,1,0.1,0.2\n", "compares groups of samples", id="DESeq2",
        ),
        pytest.param("l.csv", ",logFC,AveExpr,t,P.Value,adj.P.Val,B\nTP53,1,2,3,0.1,0.2,1\n", "compares groups of samples", id="limma"),
        pytest.param("e.csv", "gene,S1\n7157,5\n1956,1\n", "by numbers such as 7157", id="Entrez numbers"),
        pytest.param(
            "e.txt", "Entrez_Gene_Id\tS1\n7157\t5\n1956\t1\n", "by numbers of Entrez alone", id="Entrez numbers of cBioPortal",
        ),
        pytest.param("quant.sf", SALMON + "ENST00000269305.9\t9\t8\t5\t10\n", "holds transcripts such as ENST", id="transcripts"),
        pytest.param("m.csv", "gene,S1\nENSMUSG00000059552,5\nENSMUSG00000020122,1\n", "another species", id="mouse"),
        pytest.param("p.csv", "ID_REF,S1\n1007_s_at,5\n201746_at,1\n", "probes of an array such as 1007_s_at", id="probes"),
        pytest.param("s.txt", "^SAMPLE = GSM11805\n!Sample_title = x\n", "SOFT file of GEO", id="SOFT"),
        pytest.param(
            "s.txt", '!Series_title\t"x"\n!Series_platform_id\t"GPL570"\n', "series matrix of GEO, platform GPL570", id="series matrix",
        ),
        pytest.param("g.gct", f"#1.2\n1\t3\nName\tDescription\tS1\tS2\n{TP53}\tTP53\t5\t1\n", "states 3 samples, but holds 2", id="GCT cut"),
        pytest.param("n.txt", "TP53\t1\t2\t3\nEGFR\t1\t2\t3\n", "no header", id="columns without names"),
    ],
)  # fmt: skip
def test_what_is_no_expression_of_a_sample_is_refused_with_its_kind(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(ExpressionError, match=message):
        _read(tmp_path, name, content)


def test_a_gct_cut_to_its_first_rows_is_read_and_says_how_many_it_has(tmp_path: Path) -> None:
    text = f"#1.2\n58219\t1\nName\tDescription\tS1\n{TP53}.4\tTP53\t5\n{EGFR}.2\tEGFR\t3\n"
    profile = _read(tmp_path, "S1_gene_tpm.gct", text)
    assert dict(profile.values) == {"TP53": 5.0, "EGFR": 3.0}
    assert "S1_gene_tpm.gct states 58219 genes and holds 2" in profile.notes[0]


def test_the_gct_of_rna_seqc_is_read(shared_dir: Path) -> None:
    profile = read_expression(shared_dir / "cases/formats/expression/rnaseqc_gene_tpm.gct")
    assert profile.unit is TPM
    assert len(profile.values) > 1000


def test_a_soft_file_of_geo_is_named(shared_dir: Path) -> None:
    with pytest.raises(ExpressionError, match="SOFT file of GEO, platform GPL"):
        read_expression(shared_dir / "cases/formats/expression/geo_GSM_soft.txt")


def test_transcripts_that_were_added_up_are_said(tmp_path: Path) -> None:
    text = (
        ISOFORMS + f"ENST00000000001\t{TP53}\t9\t8\t5\t5\t4\t50\nENST00000000002\t{TP53}\t9\t8\t5\t2\t4\t50\n"
    )
    profile = _read(tmp_path, "a.isoforms.results", text)
    assert profile.values["TP53"] == 7
    assert "a.isoforms.results holds transcripts; their values were added up to genes." in profile.notes


@pytest.mark.parametrize(
    ("datatype", "stable", "unit"),
    [
        ("CONTINUOUS", "rna_seq_v2_mrna", COUNTS),
        ("Z-SCORE", "rna_seq_v2_mrna_median_Zscores", ExpressionUnit.ZSCORE),
    ],
)
def test_a_table_of_cbioportal_has_the_unit_of_its_meta_file(
    tmp_path: Path, datatype: str, stable: str, unit: ExpressionUnit
) -> None:
    _write(
        tmp_path, "meta_expression.txt",
        f"datatype: {datatype}\nstable_id: {stable}\nprofile_name: mRNA\ndata_filename: data_mrna.txt\n",
    )  # fmt: skip
    text = "Hugo_Symbol\tEntrez_Gene_Id\tS1\tS2\nTP53\t7157\t0.5\t1\nEGFR\t1956\t1.1\t900\n"
    assert _read(tmp_path, "data_mrna.txt", text, "S1").unit is unit


def test_a_table_of_cbioportal_without_its_meta_file_is_no_tpm_by_guess(tmp_path: Path) -> None:
    text = "Hugo_Symbol\tEntrez_Gene_Id\tS1\tS2\nTP53\t7157\t5.5\t1\nEGFR\t1956\t900.1\t1\n"
    with pytest.raises(ExpressionError, match=r"does not say the unit .*--expression-unit"):
        _read(tmp_path, "data.txt", text, "S1")
    path = _write(tmp_path, "data.txt", text)
    assert read_expression(path, sample="S1", unit=COUNTS).values["EGFR"] == 900.1


def test_a_whole_table_of_cbioportal_says_its_unit_by_its_sum(tmp_path: Path) -> None:
    genes = list(gene_table().length_of)[:6000]
    for total, unit in ((1e6, TPM), (2e7, COUNTS), (3e5, None)):
        rows = "".join(f"{gene}\t{2 * total * i / 6000**2:.4f}\n" for i, gene in enumerate(genes))
        path = _write(tmp_path, "data.txt", "Hugo_Symbol\tS1\n" + rows)
        if unit is None:
            with pytest.raises(ExpressionError, match="does not say the unit"):
                read_expression(path, sample="S1")
        else:
            assert read_expression(path, sample="S1").unit is unit


# --- packed ------------------------------------------------------------------------------------------------------


def _zipped(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__MACOSX", "__MACOSX/._"), text)
    return packed.getvalue()


def test_gzip_and_zip_are_known_by_their_content(tmp_path: Path) -> None:
    table = "gene,tpm\nTP53,5\n"
    alone = _zipped(e="gene,tpm\nTP53,5\n", __MACOSX="twin")
    for content in (gzip.compress(table.encode()), alone, gzip.compress(gzip.compress(table.encode()))):
        assert dict(_read(tmp_path, "x.csv", content).values) == {"TP53": 5.0}


def test_a_bomb_is_refused_before_it_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_survpgc.core.genomics.expression_table._MAX_BYTES", 1 << 20)
    for content in (_zipped(a="0" * (4 << 20)), gzip.compress(b"0" * (4 << 20))):
        with pytest.raises(ExpressionError, match="unpacks to more than 1 MB"):
            _read(tmp_path, "x.csv", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_zipped(a="1", b="2"), r"zip file of 2 files \(a, b\)"),
        (_zipped(**{"[Content_Types].xml": "x"}), "Excel"),
        (_zipped(a="gene,tpm\nTP53,5\n" * 50)[:-60], "damaged"),
        (b"BZh91AY&SY", "packed with bzip2"),
        (b"7z\xbc\xaf'\x1c", "packed with 7-Zip"),
    ],
    ids=("two files", "Excel", "cut short", "bzip2", "7-Zip"),  # a zip file holds the time of day
)
def test_what_is_packed_otherwise_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        _read(tmp_path, "x.csv", content)


# --- whose -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "asked", "found"),
    [
        ("TCGA-AA-0001-01A", "TCGA-AA-0001-01", "TCGA-AA-0001-01A"),
        ("TCGA.AA.0001.01A.11R", "TCGA-AA-0001", "TCGA.AA.0001.01A.11R"),
        ("X1001", "1001", "X1001"),
        ("P1-tumor", "P1", "P1-tumor"),
    ],
)
def test_the_sample_of_a_patient_is_found_by_parts_of_its_name_and_said(
    tmp_path: Path, column: str, asked: str, found: str
) -> None:
    profile = _read(tmp_path, "m_tpm.csv", f"gene,{column},Q\nTP53,5,1\n", asked)
    assert (profile.sample, profile.values["TP53"]) == (found, 5.0)
    assert profile.notes[0] == f"{asked} was read from the sample {found} of m_tpm.csv."


def test_the_only_column_is_not_taken_for_another_patient(tmp_path: Path) -> None:
    with pytest.raises(ExpressionError, match="no sample P1"):
        _read(tmp_path, "d.csv", "gene,P10\nTP53,5\n", "P1")
    text = RSEM + f"{TP53}.1\tx\t9\t8\t5\t5.0\t5\n"
    with pytest.raises(ExpressionError, match="no sample TCGA-ZZ-9999"):
        _read(tmp_path, "TCGA-AA-0001-01A.genes.results", text, "TCGA-ZZ-9999")
    assert _read(tmp_path, "TCGA-AA-0001-01A.genes.results", text, "TCGA-AA-0001").values["TP53"] == 5
    # A name that is nobody's says nothing.
    assert _read(tmp_path, "abc.genes.results", text, "TCGA-AA-0001").values["TP53"] == 5


def test_a_file_named_for_normal_tissue_is_not_taken_unasked(tmp_path: Path) -> None:
    text = RSEM + f"{TP53}.1\tx\t9\t8\t5\t5.0\t5\n"
    with pytest.raises(SampleNeededError, match="normal tissue TCGA-AA-0001-11A, not the tumor"):
        _read(tmp_path, "TCGA-AA-0001-11A.genes.results", text)


def test_a_file_named_as_all_of_its_program_are_is_called_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "TCGA-AA-0001-01A"
    folder.mkdir()
    path = _write(folder, "quant.genes.sf", SALMON + f"{TP53}.18\t9\t8\t5\t10\n")
    assert read_expression(path).sample == "TCGA-AA-0001-01A"
    with pytest.raises(ExpressionError, match="no sample TCGA-ZZ-9999"):
        read_expression(path, sample="TCGA-ZZ-9999")


def test_the_samples_of_a_table_are_listed_without_what_describes_genes(tmp_path: Path) -> None:
    assert ExpressionFile(_write(tmp_path, "fc.txt", FEATURE_COUNTS)).samples == ("S1", "S2")
    wide = _write(
        tmp_path, "w.csv", "Hugo_Symbol,Entrez_Gene_Id,Chr,LN_1,S2\nTP53,7157,17,1,2\nEGFR,1956,7,3,4\n"
    )
    assert ExpressionFile(wide).samples == ("LN_1", "S2")


# --- names of genes ----------------------------------------------------------------------------------------------

DATES = (
    "2-Sep", "sept.-1", "43891", "1.III", "9月1日", "2001-03-01 00:00:00", "1er mars", "01.09", "01.Mrz", "Mär 02", "2023/09/01", "1-дек",
    "Sep-01", "1. Mär", "1-déc.", "1-dic", "7-set", "Sep/7", "1 de marzo", "1.3.2024", "1.3.", "3/1", "1 мар", "10-out",
)  # fmt: skip


@pytest.mark.parametrize("decimal", [".", ","])
def test_dates_of_any_spreadsheet_are_left_out_and_change_no_number(tmp_path: Path, decimal: str) -> None:
    rows = ["TP53;1.5", "EGFR;40.25", "KRAS;2", "MYC;7.125", *(f"{date};3.5" for date in DATES), "14-3-3;1"]
    values = [f"{gene};{value.replace('.', decimal)}\n" for gene, value in (row.split(";") for row in rows)]
    profile = _read(tmp_path, "d.csv", "gene;tpm\n" + "".join(values))
    assert dict(profile.values) == {"TP53": 1.5, "EGFR": 40.25, "KRAS": 2.0, "MYC": 7.125, "14-3-3": 1.0}
    (note,) = [note for note in profile.notes if "spreadsheet" in note]
    assert note.startswith(f"{len(DATES)} gene names were turned into dates or numbers")


@pytest.mark.parametrize(
    "name", ["14-3-3", "HLA-A", "H3-4", "NKX2-1", "MT-CO1", "A-1", "III-1", "SEPT2", "1.5", ""]
)
def test_names_that_are_no_dates_stay(name: str) -> None:
    assert not is_spreadsheet_date(name)


def test_symbols_that_look_like_months_are_genes(tmp_path: Path) -> None:
    rows = "SEPT2,1\nMARCH1,2\nDEC1,3\nMARC1,4\nOCT4,5\nNOV,41.5\n"
    profile = _read(tmp_path, "d_tpm.csv", "gene,value\n" + rows)
    assert len(profile.values) == 6
    assert profile.values["SEPTIN2"] == 1.0
    assert profile.notes == ()


def test_ids_with_versions_become_symbols_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    rows = f"{TP53}.18,5\n{EGFR},1\nENSG00000999999.1,7\nENSG00000169084.15_PAR_Y,2\n"
    profile = _read(tmp_path, "d_tpm.csv", "gene_id,S1\n" + rows, "S1")
    assert dict(profile.values) == {"TP53": 5.0, "EGFR": 1.0}
    assert profile.notes == ("2 Ensembl ids were read as symbols; 1 others are not protein-coding.",)


def test_numbers_of_entrez_behind_a_symbol_are_cut_off(tmp_path: Path) -> None:
    profile = _read(tmp_path, "d.csv", "Hybridization REF,rsem\n?|100130426,1\nTP53|7157,5\nEGFR|1956,41\n")
    assert dict(profile.values) == {"TP53": 5.0, "EGFR": 41.0}
    assert profile.unit is COUNTS
