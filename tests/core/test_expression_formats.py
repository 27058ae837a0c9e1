"""Expression files of programs and repositories are read as what they are, and gene names by one set of rules."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics import read_expression
from napari_survpgc.core.genomics.spreadsheet import is_date_serial, is_spreadsheet_date
from napari_survpgc.core.types import ExpressionUnit

TP53, EGFR, ACTB = "ENSG00000141510", "ENSG00000146648", "ENSG00000075624"


def _file(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.replace(" ", "\t").encode())
    return path


RSEM = "gene_id transcript_id(s) length effective_length expected_count TPM FPKM\n"
SALMON = "Name Length EffectiveLength TPM NumReads\n"
KALLISTO = "target_id length eff_length est_counts tpm\n"
GENCODE = f"ENST00000269305.9|{TP53}.18|OTTHUMG1|OTTHUMT1|TP53-201|TP53|2579|protein_coding|"
QUANTIFIED = [
    (
        "s.genes.results",
        RSEM + f"{TP53}.18 ENST1,ENST2 2500 2300.5 120.6 7.5 5.5\n{EGFR}.4 ENST3 5000 4800 10.2 1.5 1\n",
        7.5,
        120.6,
    ),
    (
        "s.isoforms.results",
        "transcript_id gene_id length effective_length expected_count TPM FPKM IsoPct\n"
        + f"ENST00000269305 {TP53} 9 8 2.5 3.5 1 50\nENST00000359597 {TP53} 9 8 1.5 1.25 1 50\n",
        4.75,
        4.0,
    ),
    ("S1/quant.genes.sf", SALMON + f"{TP53}.18 2500 2300 7.5 120\n{EGFR}.4 5000 4800 1.5 10\n", 7.5, 120),
    (
        "S1/quant.sf",
        SALMON + f"{GENCODE} 2579 2300 7.5 120\n{GENCODE.replace('269305', '359597')} 2500 2300 1 12\n",
        8.5,
        132,
    ),
    (
        "S1/abundance.tsv",
        KALLISTO + f"{GENCODE} 2579 2300 120 7.5\n{GENCODE.replace('269305', '9')} 1 1 1 1\n",
        8.5,
        121,
    ),
]


@pytest.mark.parametrize(("name", "text", "tpm", "counts"), QUANTIFIED, ids=[q[0] for q in QUANTIFIED])
def test_tables_of_programs_give_tpm_and_no_annotation_as_a_sample(
    tmp_path: Path, name: str, text: str, tpm: float, counts: float
) -> None:
    path = _file(tmp_path, name, text)
    profile = read_expression(path, sample="whoever")
    assert (profile.unit, profile.unit_declared) == (ExpressionUnit.TPM, True)
    assert profile.values["TP53"] == tpm
    assert profile.sample == ("S1" if "/" in name else "s")
    assert read_expression(path, unit=ExpressionUnit.COUNTS).values["TP53"] == counts
    with pytest.raises(ExpressionError, match="holds no z-score"):
        read_expression(path, unit=ExpressionUnit.ZSCORE)


@pytest.mark.parametrize("head", [SALMON, KALLISTO, "gene S1 S2 S3 S4\n"])
def test_transcripts_are_not_taken_for_genes(tmp_path: Path, head: str) -> None:
    rows = "ENST00000269305.9 9 8 1.5 2\nENST00000359597.8 9 8 1.5 2\n"
    with pytest.raises(ExpressionError, match=r"holds transcripts \(ENST00000269305.9 .*tximport"):
        read_expression(_file(tmp_path, "q.tsv", head + rows), sample="S1")


def test_feature_counts_names_samples_by_their_alignments(tmp_path: Path) -> None:
    text = (
        "# Program:featureCounts v2.0.3; Command:...\nGeneid Chr Start End Strand Length"
        " /data/PA.sorted.bam /data/PBAligned.sortedByCoord.out.bam\n"
        f"{TP53}.18 17;17 1;5 2;6 -;- 2500 120 60\n{EGFR}.4 7 1 9 + 5000 1000 70\n"
    )
    profile = read_expression(_file(tmp_path, "fc.txt", text), sample="PB")
    assert (profile.sample, profile.unit) == ("PB", ExpressionUnit.COUNTS)
    assert dict(profile.values) == {"TP53": 60.0, "EGFR": 70.0}


@pytest.mark.parametrize(
    "text",
    [
        f"{TP53}.18 120\n{EGFR}.4 50\n__no_feature 99999\n__ambiguous 5\n__too_low_aQual 0\n",
        f"{TP53} TP53 120\n{EGFR} EGFR 50\n__no_feature  99999\n",
        f"N_unmapped 9 9 9\nN_multimapping 1 1 1\nN_noFeature 2 7 7\nN_ambiguous 3 3 3\n{TP53} 120 60 60\n{EGFR} 50 25 25\n",
    ],
    ids=["htseq", "htseq with names", "star"],
)
def test_counts_without_a_header_keep_their_first_gene_and_drop_their_counters(
    tmp_path: Path, text: str
) -> None:
    profile = read_expression(_file(tmp_path, "s.txt", text))
    assert dict(profile.values) == {"TP53": 120.0, "EGFR": 50.0}
    assert profile.unit is ExpressionUnit.COUNTS


GCT = f"#1.2\n2 2\nName Description PA PB\n{TP53}.4 TP53 7.5 40\n{EGFR}.9 EGFR 1 2\n"
GCT3 = f"#1.3\n2 2 2 1\nid symbol chr PA PB\nsex na na f m\n{TP53} TP53 17 7.5 40\n{EGFR} EGFR 7 1 2\n"


@pytest.mark.parametrize("text", [GCT, GCT3], ids=["1.2", "1.3"])
def test_gct_is_read(tmp_path: Path, text: str) -> None:
    path = _file(tmp_path, "m_tpm.gct", text)
    assert dict(read_expression(path, sample="PB").values) == {"TP53": 40.0, "EGFR": 2.0}
    cut = _file(tmp_path, "cut_tpm.gct", text.replace("\n2 2", "\n56202 2", 1))
    assert any("may be cut short" in note for note in read_expression(cut, sample="PB").notes)
    with pytest.raises(ExpressionError, match="says that it has 9 samples, and has 2"):
        read_expression(_file(tmp_path, "bad.gct", text.replace("\n2 2", "\n2 9", 1)))


@pytest.mark.parametrize("begins", ["^SAMPLE = GSM1\n!Sample_title = x\n", '!Series_title\t"x GSE12"\n'])
def test_soft_is_named_with_what_to_do(tmp_path: Path, begins: str) -> None:
    with pytest.raises(ExpressionError, match=r"file of GEO.*supplementary files"):
        read_expression(_file(tmp_path, "g.txt", begins + "ID_REF VALUE\n1007_s_at 5\n"))
    with pytest.raises(ExpressionError, match="holds probes of an array"):
        read_expression(_file(tmp_path, "p.txt", "ID S1\n1007_s_at 5\n1053_at 2\n"))


def test_the_genes_are_found_by_content_wherever_they_stand(tmp_path: Path) -> None:
    text = "length PA chr gene_type PB name\n2500 7.5 17 protein_coding 40 TP53\n5000 1 7 protein_coding 2 EGFR\n"
    path = _file(tmp_path, "m.tsv", text)
    assert dict(read_expression(path, sample="PB").values) == {"TP53": 40.0, "EGFR": 2.0}
    with pytest.raises(ExpressionError, match=r"holds 2 samples.*PA, PB"):
        read_expression(path)
    index = _file(tmp_path, "i.csv", ",gene,PA\n0,TP53,7.5\n1,EGFR,1\n")
    assert dict(read_expression(index).values) == {"TP53": 7.5, "EGFR": 1.0}


def test_zip_and_gzip_are_known_by_content(tmp_path: Path) -> None:
    table = f"gene,PA\n{TP53},7.5\n{EGFR},40\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m.csv", table)
        archive.writestr("__MACOSX/._m.csv", b"\0\1")
    for content in (packed.getvalue(), gzip.compress(table, mtime=0)):
        assert read_expression(_file(tmp_path, "m.csv", content)).values["TP53"] == 7.5
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("other.csv", table)
    with pytest.raises(ExpressionError, match=r"zip file with 2 files \(m.csv, other.csv\)"):
        read_expression(_file(tmp_path, "two.csv", packed.getvalue()))
    workbook = io.BytesIO()
    with zipfile.ZipFile(workbook, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
    with pytest.raises(ExpressionError, match="Excel"):
        read_expression(_file(tmp_path, "x.csv", workbook.getvalue()))
    with pytest.raises(ExpressionError, match="packed with xz"):
        read_expression(_file(tmp_path, "x.csv", b"\xfd7zXZ\x00aaaa"))


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_survpgc.core.genomics.expression_table._MAX_BYTES", 1 << 20)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m.csv", b"0" * (4 << 20))
    with pytest.raises(ExpressionError, match="unpacks to more than 1 MB"):
        read_expression(_file(tmp_path, "b.csv", packed.getvalue()))


@pytest.mark.parametrize(
    "name",
    [
        "1-Sep", "01.Sep", "Sep-01", "2001-03-01", "1. Mär", "sept.-1", "1-mars", "2-Mrz", "1-déc.", "1-dic", "7-set",
        "Sep/7", "1 de marzo", "01/03/2024", "1.3.2024", "1.3.", "3/1", "3月1日", "1 мар", "2001-09-01 00:00:00", "10-out",
    ],
)  # fmt: skip
def test_dates_of_spreadsheets_are_known_in_any_language(name: str) -> None:
    assert is_spreadsheet_date(name)


@pytest.mark.parametrize(
    "name", ["SEPT2", "MARCH1", "DEC1", "TP53", "HLA-A", "H3-4", "NKX2-1", "MT-CO1", "1.5", "7157", "A-1", ""]
)
def test_genes_are_no_dates(name: str) -> None:
    assert not is_spreadsheet_date(name)
    assert not is_date_serial(name)


def test_serial_numbers_of_dates_are_left_out_and_ids_of_entrez_are_not_dates(tmp_path: Path) -> None:
    rows = "43891,1\nTP53,2\nEGFR,40\nACTB,3\n"
    profile = read_expression(_file(tmp_path, "m.csv", f"gene,value\n{rows}"))
    assert dict(profile.values) == {"TP53": 2.0, "EGFR": 40.0, "ACTB": 3.0}
    assert any("such as 43891" in note for note in profile.notes)
    entrez = read_expression(_file(tmp_path, "e.csv", "gene,value\n43891,1\n7157,2\n1956,40\n"))
    assert len(entrez.values) == 3
