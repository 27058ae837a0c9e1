"""Expression is read from what people have, and brought to the model's units."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.genomics.gene_sets import bundled_gene_sets, gene_set_vectors, read_gmt
from napari_survpgc.core.genomics.genes import gene_table
from napari_survpgc.core.genomics.normalize import ExpressionScale, GeneReference, normalize_profile
from napari_survpgc.core.genomics.units import parse_unit
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit, GeneSet

GDC = (
    "# gene-model: GENCODE v36\n"
    "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\ttpm_unstranded\tfpkm_unstranded\t"
    "fpkm_uq_unstranded\nN_unmapped\t\t\t100\t1\t1\t\t\t\n"
    "ENSG00000141510.18\tTP53\tprotein_coding\t1200\t600\t600\t35.5\t12.0\t13.0\n"
    "ENSG00000146648.18\tEGFR\tprotein_coding\t10\t5\t5\t0.5\t0.2\t0.3\n"
    "ENSG00000169084.15_PAR_Y\tDHRSX\tprotein_coding\t0\t0\t0\t0.0\t0.0\t0.0\n"
)


def _write(tmp_path: Path, content: str | bytes, name: str = "x.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    ["gene,value\nTP53,1.5\nEGFR,-2\n", "TP53\t1.5\nEGFR\t-2\n", "\ufeffgene;z-score\nTP53;1.5\nEGFR;-2\n"],
)
def test_two_columns_with_or_without_a_header(tmp_path: Path, content: str) -> None:
    for data in (content.encode(), gzip.compress(content.encode())):
        profile = read_expression(_write(tmp_path, data))
        assert dict(profile.values) == {"TP53": 1.5, "EGFR": -2.0}
        assert profile.unit is ExpressionUnit.ZSCORE


def test_a_sample_is_picked_from_a_matrix(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "sample\tP1-01A\tP2-01A\tP2-11A\nENSG00000141510.18\t3.5\t4\t1\nENSG00000146648.5\t0\t1\t2\n",
    )
    assert dict(read_expression(path, sample="P1").values) == {"TP53": 3.5, "EGFR": 0.0}
    assert read_expression(path, sample="P2-11A").sample == "P2-11A"
    with pytest.raises(ExpressionError, match="2 samples of P2"):
        read_expression(path, sample="P2")
    with pytest.raises(ExpressionError, match="no sample P9"):
        read_expression(path, sample="P9")
    with pytest.raises(ExpressionError, match=r"holds 3 samples.*--case"):
        read_expression(path)


def test_a_case_is_picked_from_a_table_of_samples(tmp_path: Path) -> None:
    path = _write(tmp_path, "case_id,TP53,EGFR\nA,1,2\nB,-3,4\n")
    assert dict(read_expression(path, sample="B").values) == {"TP53": -3.0, "EGFR": 4.0}


def test_gdc_star_counts_give_tpm_or_what_is_asked_for(tmp_path: Path) -> None:
    path = _write(tmp_path, GDC, "abc.rna_seq.tsv")
    profile = read_expression(path)
    assert profile.unit is ExpressionUnit.TPM
    assert dict(profile.values) == {"TP53": 35.5, "EGFR": 0.5}
    assert read_expression(path, unit=ExpressionUnit.COUNTS).values["TP53"] == 1200


def test_cbioportal_tables_are_read(tmp_path: Path) -> None:
    path = _write(tmp_path, "Hugo_Symbol\tEntrez_Gene_Id\tS1\tS2\nTP53\t7157\t-0.5\t1\nTP53\t7158\t0.5\t1\n")
    profile = read_expression(path, sample="S1")
    assert profile.values["TP53"] == 0.0
    assert "averaged" in profile.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gene,value\nTP53,abc\n", "not numbers.*'abc' for gene TP53"),
        ("gene,value\nTP53,inf\n", "not numbers"),
        ("gene,value\nTP53,1\nTP53,2\n", "duplicate genes"),
        ("gene\nTP53\n", "one column"),
        ("", "empty"),
        (b"PK\x03\x04....", "Excel"),
        (b"\x00\x01\x02", "not a text file"),
        (b"\xff\xfetext,1\n", "not a text file"),
        (gzip.compress(b"gene,value\nTP53,1\n" * 500, mtime=0)[:40], "cut short"),
        ("gene,value\nTP53,\n", "no gene with a value"),
        ("gene,tpm\nTP53,-1\n", "negative"),
        ("a,a,b\n1,2,3\n", "twice"),
    ],
)
def test_unusable_files_end_in_one_sentence(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ExpressionError, match=message) as error:
        read_expression(_write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_gene_twice_with_the_same_value_is_no_problem(tmp_path: Path) -> None:
    assert len(read_expression(_write(tmp_path, "gene,value\nTP53,1\nTP53,1\n")).values) == 1


def test_spreadsheet_dates_and_old_names_are_noticed(tmp_path: Path) -> None:
    profile = read_expression(_write(tmp_path, "gene,z-score\n2-Sep,1\nIL8,2\nHER2,-1\n"))
    assert dict(profile.values) == {"CXCL8": 2.0, "ERBB2": -1.0}
    assert "spreadsheet" in profile.notes[0]


@pytest.mark.parametrize(
    ("numbers", "unit"),
    [
        ([-1.5, 2], ExpressionUnit.ZSCORE),
        ([0, 1200, 33], ExpressionUnit.COUNTS),
        ([0, 3.5, 12.1], ExpressionUnit.LOG2_TPM),
        ([0.1, 350.5], ExpressionUnit.TPM),
    ],
)
def test_the_unit_is_inferred_and_said_to_be(
    tmp_path: Path, numbers: list[float], unit: ExpressionUnit
) -> None:
    rows = "".join(f"G{i},{n}\n" for i, n in enumerate(numbers))
    profile = read_expression(_write(tmp_path, "gene,value\n" + rows))
    assert profile.unit is unit
    assert not profile.unit_declared
    assert read_expression(_write(tmp_path, "gene,value\nTP53,2\n"), unit=parse_unit("TPM")).unit_declared


def _profile(values: dict[str, float], unit: ExpressionUnit) -> ExpressionProfile:
    return ExpressionProfile(values, unit, True, "s", "file.csv")


def test_units_meet_in_the_models_z_scores() -> None:
    """The same sample as counts, FPKM, TPM and their logarithms gives the same z-scores."""
    genes = list(gene_table().length_of)[:6000]
    rng = np.random.default_rng(0)
    tpm = rng.gamma(0.5, 1, len(genes))
    tpm *= 1e6 / tpm.sum()
    length = np.array([gene_table().length_of[g] for g in genes])
    reference = GeneReference(tuple(genes[:50]), np.full(50, 3.0), np.full(50, 1.5))
    forms = {
        ExpressionUnit.TPM: tpm,
        ExpressionUnit.LOG2_TPM: np.log2(tpm + 1),
        ExpressionUnit.FPKM: tpm * 0.31,
        ExpressionUnit.LOG2_FPKM: np.log2(tpm * 0.31 + 1),
        ExpressionUnit.COUNTS: tpm * length * 0.02,
        ExpressionUnit.LOG2_COUNTS: np.log2(tpm * length * 0.02 + 1),
    }
    want = np.clip((np.log2(tpm[:50] + 1) - 3) / 1.5, -5, 5)
    for unit, values in forms.items():
        found = normalize_profile(_profile(dict(zip(genes, values, strict=True)), unit), reference)
        np.testing.assert_allclose(found.values, want, atol=1e-6, err_msg=str(unit))
        assert found.overlap == 1


def test_missing_genes_are_average_and_extremes_clipped() -> None:
    reference = GeneReference(("A", "B", "C"), clip=5)
    found = normalize_profile(_profile({"A": 36893.0, "C": -1.0}, ExpressionUnit.ZSCORE), reference)
    np.testing.assert_array_equal(found.values, [5, 0, -1])
    assert found.missing == ("B",)
    assert any("clipped" in note for note in found.notes)


def test_too_little_overlap_or_a_unit_without_reference_is_refused() -> None:
    reference = GeneReference(("A", "B", "C", "D"), min_overlap=0.5)
    with pytest.raises(ExpressionError, match="1 of the model's 4 genes"):
        normalize_profile(_profile({"A": 1.0}, ExpressionUnit.ZSCORE), reference)
    with pytest.raises(ExpressionError, match="keeps no reference"):
        normalize_profile(_profile({"A": 1.0, "B": 1.0}, ExpressionUnit.TPM), reference)
    with pytest.raises(ExpressionError, match="too few to know"):
        normalize_profile(
            _profile({"A": 1.0, "B": 1.0}, ExpressionUnit.COUNTS),
            GeneReference(("A", "B"), np.zeros(2), np.ones(2)),
        )


@pytest.mark.parametrize("trained_on", [ExpressionUnit.COUNTS, ExpressionUnit.TPM])
def test_units_meet_in_the_expression_that_a_model_was_trained_on(trained_on: ExpressionUnit) -> None:
    """In proportion: samples are scaled to one total later."""
    genes = tuple(list(gene_table().length_of)[:300])
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 400, 300)).astype(float)
    tpm = counts / np.array([gene_table().length_of[g] for g in genes])
    tpm *= 1e6 / tpm.sum()
    reference = GeneReference(
        genes, np.full(300, 3.0), np.full(300, 1.5), scale=ExpressionScale(trained_on, 1e6)
    )
    forms = {
        ExpressionUnit.TPM: tpm,
        ExpressionUnit.LOG2_TPM: np.log2(tpm + 1),
        ExpressionUnit.FPKM: tpm * 0.31,
        ExpressionUnit.COUNTS: counts,
        ExpressionUnit.LOG2_COUNTS: np.log2(counts + 1).round(4),
    }
    want = counts if trained_on is ExpressionUnit.COUNTS else tpm
    for unit, values in forms.items():
        for declared in (True, False):
            profile = dataclasses.replace(
                _profile(dict(zip(genes, values, strict=True)), unit), unit_declared=declared
            )
            found = normalize_profile(profile, reference)
            share = found.values / found.values.sum()
            np.testing.assert_allclose(share, want / want.sum(), rtol=1e-3, atol=1e-7, err_msg=str(unit))
            counted = unit in (ExpressionUnit.COUNTS, ExpressionUnit.LOG2_COUNTS)
            said = any("gene lengths" in note for note in found.notes)
            assert said is (counted != (trained_on is ExpressionUnit.COUNTS))


def test_expression_itself_is_0_where_the_file_lacks_the_gene() -> None:
    scale = ExpressionScale(ExpressionUnit.TPM, 100.0)
    # Both symbols of one gene in the model's list: each stands for itself first.
    reference = GeneReference(("ATP5A1", "ATP5F1A", "B"), np.ones(3), np.ones(3), scale=scale)
    both = {"ATP5A1": 7.5, "ATP5F1A": 2.25}
    found = normalize_profile(_profile(both, ExpressionUnit.TPM), reference)
    np.testing.assert_array_equal(found.values, [7.5, 2.25, 0])
    assert found.missing == ("B",)
    np.testing.assert_array_equal(reference.average(), [1, 1, 1])
    with pytest.raises(
        ExpressionError, match=r"z-scores, but this model reads expression itself\. Give counts"
    ):
        normalize_profile(_profile(both, ExpressionUnit.ZSCORE), reference)
    with pytest.raises(ExpressionError, match="1 of the model's 3 genes"):
        normalize_profile(_profile({"B": 2.0}, ExpressionUnit.TPM), reference)
    with pytest.raises(ExpressionError, match="zeros only"):
        normalize_profile(_profile({"B": 0.0, "ATP5A1": 0.0}, ExpressionUnit.TPM), reference)


def test_gene_sets_are_read_and_cut_to_the_genes(tmp_path: Path) -> None:
    sets = read_gmt(_write(tmp_path, "one\tsource\tA\tB\tA\t\ntwo\t\tC\n", "s.gmt"))
    assert sets == (GeneSet("one", "source", ("A", "B")), GeneSet("two", "", ("C",)))
    vectors = gene_set_vectors(np.array([3.0, 1.0]), ("B", "C"), sets)
    assert [v.tolist() for v in vectors] == [[3.0], [1.0]]
    with pytest.raises(ExpressionError, match="one has no gene"):
        gene_set_vectors(np.array([1.0]), ("C",), sets)
    with pytest.raises(ExpressionError, match="twice"):
        read_gmt(_write(tmp_path, "one\t\tA\none\t\tB\n", "t.gmt"))


def test_our_programmes_name_current_genes() -> None:
    known = gene_table().length_of
    sets = bundled_gene_sets()
    assert len(sets) >= 15
    for gene_set in sets:
        assert 10 <= len(gene_set.genes) <= 30
        assert not [g for g in gene_set.genes if g not in known]


def test_the_papers_pathways_and_cohorts_can_be_read(shared_dir: Path) -> None:
    assert len(read_gmt(shared_dir / "pathways" / "combine_331.gmt")) == 331
    profile = read_expression(shared_dir / "tcga" / "lihc" / "expression.csv.gz", sample="TCGA-2Y-A9GS")
    assert len(profile.values) > 1500
    assert profile.unit is ExpressionUnit.ZSCORE


# --- what is read for certain, and what is not -------------------------------------------------------------------


def test_a_matrix_written_by_r_gives_each_sample_its_own_values(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text('"PA" "PB"\n"TP53" 1 2\n"EGFR" 3 4\n'.replace(" ", "\t"))
    profile = read_expression(tmp_path / "r.txt", sample="PB")
    assert dict(profile.values) == {"TP53": 2.0, "EGFR": 4.0}
    assert any("as R writes it" in note for note in profile.notes)


def test_an_unquoted_decimal_comma_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("gene,value\nTP53,1,2\nACSL3,5,503\n")
    with pytest.raises(ExpressionError, match=r"Line 2 of e\.csv has 3 cells"):
        read_expression(tmp_path / "e.csv")


def test_semicolons_with_decimal_commas_are_read_and_said(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("gene;tpm\nTP53;1,5\nEGFR;40,25\n")
    profile = read_expression(tmp_path / "e.csv")
    assert dict(profile.values) == {"TP53": 1.5, "EGFR": 40.25}
    assert any("decimal sign" in note for note in profile.notes)


def test_a_delimiter_at_the_end_of_each_line_is_no_column(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("gene,value,\nTP53,1,\nEGFR,3,\n")
    assert dict(read_expression(tmp_path / "e.csv").values) == {"TP53": 1.0, "EGFR": 3.0}


def _matrix(tmp_path: Path, *samples: str) -> Path:
    path = tmp_path / "m.tsv"
    numbers = "\t".join(str(i + 1) for i in range(len(samples)))
    path.write_text("gene\t" + "\t".join(samples) + f"\nTP53\t{numbers}\nEGFR\t{numbers}\n")
    return path


def test_the_beginning_of_a_name_counts_up_to_a_sign_of_a_barcode(tmp_path: Path) -> None:
    with pytest.raises(ExpressionError, match="no sample P1"):
        read_expression(_matrix(tmp_path, "P10", "P11"), sample="P1")
    profile = read_expression(_matrix(tmp_path, "TCGA.AB.1234.01A", "P2"), sample="TCGA-AB-1234")
    assert profile.sample == "TCGA.AB.1234.01A"
    assert "TCGA-AB-1234 was read from the sample TCGA.AB.1234.01A" in profile.notes[0]


def test_the_tumor_is_taken_and_normal_tissue_only_by_its_whole_name(tmp_path: Path) -> None:
    both = _matrix(tmp_path, "TCGA-AB-1234-11A", "TCGA-AB-1234-01A")
    assert read_expression(both, sample="TCGA-AB-1234").sample == "TCGA-AB-1234-01A"
    assert read_expression(both, sample="TCGA-AB-1234-11A").values["TP53"] == 1.0
    with pytest.raises(ExpressionError, match="only the normal tissue TCGA-AB-1234-11A"):
        read_expression(_matrix(tmp_path, "TCGA-AB-1234-11A", "X"), sample="TCGA-AB-1234")


def test_a_single_column_of_another_patient_is_not_taken(tmp_path: Path) -> None:
    alone = _matrix(tmp_path, "TCGA-AB-1234-01A")
    assert read_expression(alone, sample="TCGA-AB-1234").sample == "TCGA-AB-1234-01A"
    with pytest.raises(ExpressionError, match="no sample TCGA-ZZ-9999"):
        read_expression(alone, sample="TCGA-ZZ-9999")
    assert read_expression(_matrix(tmp_path, "tpm"), sample="TCGA-ZZ-9999").values["TP53"] == 1.0


def test_normal_tissue_is_never_taken_unasked(tmp_path: Path) -> None:
    alone = _matrix(tmp_path, "TCGA-AB-1234-11A")
    with pytest.raises(ExpressionError, match="holds the normal tissue TCGA-AB-1234-11A, not the tumor"):
        read_expression(alone)
    profile = read_expression(alone, sample="TCGA-AB-1234-11A")
    assert profile.notes[0] == "TCGA-AB-1234-11A of m.tsv is normal tissue, not the tumor."
    both = _matrix(tmp_path, "P1_normal", "P1_tumor")
    assert read_expression(both, sample="P1").sample == "P1_tumor"
