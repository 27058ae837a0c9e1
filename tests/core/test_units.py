"""Units of expression are told from the values, and a stated one that they contradict is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.cohort import read_cohort
from napari_survpgc.core.errors import CohortError, ExpressionError
from napari_survpgc.core.genomics import read_expression, table_unit
from napari_survpgc.core.genomics.genes import gene_table
from napari_survpgc.core.genomics.units import parse_unit, settle_unit
from napari_survpgc.core.types import ExpressionUnit as Unit

_RANDOM = np.random.default_rng(5)
TPM = np.where(_RANDOM.random(8000) < 0.3, 0.0, _RANDOM.lognormal(1.5, 2, 8000))
TPM *= 1e6 / TPM.sum()
TOIL = np.round(np.log2(TPM + 0.001), 4)
RSEM = np.round(TPM * _RANDOM.lognormal(0, 1, 8000) * 20, 2)


def test_log2_with_a_small_offset_is_no_z_score() -> None:
    found = settle_unit(TOIL, None, None, "toil.tsv")
    assert (found.unit, found.declared) == (Unit.TPM, False)
    np.testing.assert_allclose(found.numbers, TPM, atol=2e-4, rtol=1e-3)
    assert "log2(x+0.001), known by its lowest value of -9.966" in found.notes[0]
    for unit in (Unit.TPM, Unit.LOG2_TPM):  # as the file's name may say
        np.testing.assert_array_equal(settle_unit(TOIL, None, unit, "tcga_tpm").numbers, found.numbers)
    assert settle_unit(TOIL, parse_unit("log2(TPM+0.001)"), None, "x").unit is Unit.TPM
    few = settle_unit(np.array([-9.9658, 3.2, 5.0]), None, None, "panel.csv")  # SurvPath's tables are parts
    assert few.unit is Unit.TPM
    assert few.numbers[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "unit", "reason"),
    [
        (TOIL, "z-score", r"lowest value, -9.966, is log2\(0.001\)"),
        (TOIL, "log2(tpm+1)", r"negative values, down to -9.966, which is log2\(0.001\)"),
        (TOIL[TOIL > -9], "z-score", "spread by|half of its values"),
        (np.log2(TPM + 1), "z-score", "none of its 8000 values is negative"),
        (TPM, "z-score", "none of its"),
        (TPM, "log2(tpm+1)", "too large for a logarithm"),
        (np.log2(TPM + 1), "tpm", "as of logarithms"),
        (np.log2(TPM + 1), "counts", "as of logarithms"),
        (RSEM, "tpm", "add up to .* million, and TPM to 1 million"),
        (RSEM, "fpkm", "RSEM are not divided"),
        (np.rint(TPM), "fpkm", "whole numbers"),
        (np.log2(RSEM + 1), "log2(tpm+1)", "as counts do"),
        (_RANDOM.normal(0, 1, 8000), "tpm", "negative values"),
    ],
)
def test_a_stated_unit_that_the_values_contradict_is_refused(
    values: np.ndarray, unit: str, reason: str
) -> None:
    with pytest.raises(ExpressionError, match=reason):
        settle_unit(values, parse_unit(unit), None, "f.csv")


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (_RANDOM.normal(0.3, 1.2, 8000), Unit.ZSCORE),
        (np.clip(_RANDOM.normal(0, 1, 200), -3, 3), Unit.ZSCORE),
        (TPM, Unit.TPM),
        (TPM * 0.4, Unit.FPKM),
        (np.rint(RSEM), Unit.COUNTS),
        (RSEM, Unit.COUNTS),
        (np.log2(TPM + 1), Unit.LOG2_TPM),
        (np.log2(np.rint(RSEM) + 1), Unit.LOG2_COUNTS),
    ],
)
def test_values_of_a_unit_are_known_and_pass_when_stated(values: np.ndarray, unit: Unit) -> None:
    assert settle_unit(values, None, None, "f.csv").unit is unit
    assert settle_unit(values, unit, None, "f.csv").declared


def test_negative_values_of_no_known_unit_are_asked_about() -> None:
    with pytest.raises(ExpressionError, match=r"no z-scores.*spread by"):
        settle_unit(_RANDOM.normal(1, 5, 500), None, None, "cpm.csv")


def test_rsem_of_cbioportal_is_counts_by_name_and_by_sum(tmp_path: Path) -> None:
    genes = list(gene_table().length_of)[:8000]
    for name in ("data_mrna_seq_v2_rsem.txt", "mystery.txt"):
        frame = pd.DataFrame({"Hugo_Symbol": genes, "TCGA-AB-1234-01": RSEM})
        frame.to_csv(tmp_path / name, sep="\t", index=False)
        assert read_expression(tmp_path / name, sample="TCGA-AB-1234").unit is Unit.COUNTS


def _cohort(folder: Path, values: np.ndarray, genes: list[str], ids: list[str] | None = None) -> None:
    cases = [f"TCGA-AB-{i:04}" for i in range(len(values))]
    pd.DataFrame({"case_id": cases, "survival_months": range(1, len(cases) + 1), "event": 1}).to_csv(
        folder / "patients.csv", index=False
    )
    pd.DataFrame(values, index=pd.Index(ids or cases, name="case_id"), columns=genes).to_csv(
        folder / "expression.csv"
    )


def test_a_cohort_in_toils_unit_is_read_as_log2_tpm(tmp_path: Path) -> None:
    tpm = np.random.default_rng(1).lognormal(1, 2, (20, 30))
    tpm[:, 0] = 0
    logs = np.log2(tpm + 0.001)
    with pytest.raises(ExpressionError, match=r"log2\(x\+0.001\)"):
        table_unit(logs)
    _cohort(tmp_path, logs, list(gene_table().length_of)[:30])
    cohort = read_cohort(tmp_path)
    assert cohort.unit is Unit.LOG2_TPM
    assert cohort.expression is not None
    np.testing.assert_allclose(cohort.expression.to_numpy(), np.log2(tpm + 1), atol=1e-6)
    assert any("log2(x+0.001)" in note for note in cohort.notes)


@pytest.mark.parametrize(
    ("mean", "sd", "reason"), [(2.0, 1.0, "means of its genes lie"), (0.0, 5.0, "standard deviations")]
)
def test_a_table_whose_genes_are_not_centered_holds_no_z_scores(
    tmp_path: Path, mean: float, sd: float, reason: str
) -> None:
    values = np.random.default_rng(2).normal(mean, sd, (30, 20))
    genes = list(gene_table().length_of)[:20]
    _cohort(tmp_path, values, genes)
    with pytest.raises(CohortError, match=f"holds no z-scores of these patients: the {reason}"):
        read_cohort(tmp_path)
    _cohort(tmp_path, np.random.default_rng(2).normal(0, 1, (30, 20)), genes)
    assert read_cohort(tmp_path).unit is Unit.ZSCORE


def test_a_cohorts_genes_and_samples_are_read_by_the_rules_of_prediction(tmp_path: Path) -> None:
    genes = ["ENSG00000141510.18", "ENSG00000146648.4", "ENSG00000075624"]
    ids = [f"TCGA-AB-{i:04}-01A" for i in range(4)]
    _cohort(tmp_path, np.arange(12.0).reshape(4, 3) * 100, genes, ids)
    cohort = read_cohort(tmp_path)
    assert cohort.expression is not None
    assert list(cohort.expression.columns) == ["TP53", "EGFR", "ACTB"]
    assert "TCGA-AB-0001" in cohort.expression.index
    _cohort(tmp_path, np.arange(12.0).reshape(4, 3), ["TP53", "1. Mär", "43891"])
    dated = read_cohort(tmp_path)
    assert dated.expression is not None
    assert list(dated.expression.columns) == ["TP53"]
    assert any("2 gene names were turned into dates" in note for note in dated.notes)


def test_a_cohorts_normal_tissue_is_not_taken(tmp_path: Path) -> None:
    ids = ["TCGA-AB-0000-01A", "TCGA-AB-0001-11A", "TCGA-AB-0002-01A"]
    _cohort(tmp_path, np.arange(9.0).reshape(3, 3) * 100, ["TP53", "EGFR", "ACTB"], ids)
    cohort = read_cohort(tmp_path)
    assert cohort.profile("TCGA-AB-0001") is None
    assert any("only normal tissue of TCGA-AB-0001" in note for note in cohort.notes)
