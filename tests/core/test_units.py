"""Units of expression cannot lie: what the values contradict is refused, what they show is said, in files and in cohorts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort import Cohort, read_cohort
from napari_survpgc.core.errors import CohortError, ExpressionError
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.genomics.genes import gene_table
from napari_survpgc.core.genomics.normalize import GeneReference, linear_values, normalize_profile
from napari_survpgc.core.genomics.unit_of_values import settle_unit, table_unit, why_no_zscores
from napari_survpgc.core.genomics.units import parse_unit, unit_in
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit
from napari_survpgc.training.crossval import train
from napari_survpgc.training.data.expression import cohort_expression
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.settings import Settings
from tests.training.test_train import make_cohort

TPM, COUNTS, FPKM = ExpressionUnit.TPM, ExpressionUnit.COUNTS, ExpressionUnit.FPKM
LOG2_TPM, LOG2_COUNTS = ExpressionUnit.LOG2_TPM, ExpressionUnit.LOG2_COUNTS
N_PATIENTS = 10
GENES = list(gene_table().length_of)[:6000]
_LENGTHS = np.array([gene_table().length_of[gene] for gene in GENES], float)
_RNG = np.random.default_rng(0)
_DRAWN = _RNG.gamma(0.3, 1, (N_PATIENTS, len(GENES)))
_DRAWN[_DRAWN < 0.01] = 0  # a third of the genes have no read
TPMS = 1e6 * _DRAWN / _DRAWN.sum(1)[:, None]
_READS = TPMS * _LENGTHS
RSEM = 2e7 * _READS / _READS.sum(1)[:, None]
"""Expected counts: fractions that add up to 20 million."""
Z = _RNG.normal(size=(N_PATIENTS, 40))


def _settled(
    values: np.ndarray, unit: ExpressionUnit | None = None, *, by_user: bool = False
) -> ExpressionUnit:
    return settle_unit(values, unit, "f.csv", by_user=by_user).unit


# --- one sample --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (TPMS[0], TPM),
        (0.3 * TPMS[0], FPKM),
        (np.rint(RSEM[0]), COUNTS),
        (RSEM[0], COUNTS),
        (np.log2(TPMS[0] + 1), LOG2_TPM),
        (np.log2(RSEM[0] + 1), LOG2_COUNTS),
        (np.log2(TPMS[0] + 0.001), LOG2_TPM),
        (np.log2(TPMS[0] + 0.001).round(2), LOG2_TPM),
        (Z.ravel(), ExpressionUnit.ZSCORE),
    ],
    ids=["tpm", "fpkm", "counts", "rsem", "log2-tpm", "log2-rsem", "toil", "toil-rounded", "z"],
)
def test_a_unit_that_nobody_states_is_inferred_by_what_the_values_add_up_to(
    values: np.ndarray, unit: ExpressionUnit
) -> None:
    assert _settled(values) is unit


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        (np.rint(RSEM[0]), TPM, "add up to 2e\\+07, more than tpm can .whole numbers: counts"),
        (RSEM[0], FPKM, "add up to 2e\\+07, more than fpkm can .expected or normalised counts do"),
        (TPMS[0], COUNTS, "add up to a million, as TPM do"),
        (np.log2(RSEM[0] + 1), LOG2_TPM, "more than tpm can"),
        (TPMS[0], LOG2_TPM, r"values up to .*, which cannot be log2\(tpm\+1\)"),
        (np.log2(TPMS[0] + 1), ExpressionUnit.ZSCORE, "said to hold z-scores, but"),
        (np.log2(TPMS[0] + 0.001), ExpressionUnit.ZSCORE, r"is log2\(0\.001\): the values are log2\(x \+ 0\.001\)"),
        (np.log2(TPMS[0] + 0.001), LOG2_TPM, r"State log2\(tpm\+0\.001\) if x is TPM"),
        (np.rint(TPMS[0]), FPKM, "whole numbers, as counts are"),
        (Z.ravel(), TPM, "negative values down to"),
        (Z.ravel() + 9, ExpressionUnit.ZSCORE, "not around 0 with a spread of 1"),
        (np.log2(TPMS[0] + 1), ExpressionUnit.LOG2_TPM_MILLI, "a gene without reads is -9.97"),
    ],
)  # fmt: skip
def test_a_stated_unit_that_the_values_contradict_is_refused(
    values: np.ndarray, unit: ExpressionUnit, message: str
) -> None:
    with pytest.raises(ExpressionError, match=message):
        _settled(values, unit, by_user=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.log2(TPMS[0] + 0.01), "negative values and is no list of z-scores"),
        (np.log2(TPMS[0] + 0.5), "negative values and is no list of z-scores"),
        (_RNG.uniform(3, 14, 6000), "no gene without reads .* array or a variance-stabilised table"),
    ],
    ids=["log2(x+0.01)", "log2(x+0.5)", "array"],
)
def test_values_without_a_unit_that_can_be_compared_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        _settled(values)


def test_logarithms_with_the_offset_of_toil_are_those_of_the_tpm() -> None:
    settled = settle_unit(np.log2(TPMS[0] + 0.001), None, "f.csv")
    np.testing.assert_allclose(settled.values, np.log2(TPMS[0] + 1), atol=1e-9)
    assert settled.notes[0].startswith("The lowest value is log2(0.001)")
    stated = settle_unit(np.array([-1.5, 3.0]), parse_unit("log2(TPM+0.001)"), "f.csv", by_user=True)
    np.testing.assert_allclose(stated.values, np.log2(np.exp2([-1.5, 3.0]) - 0.001 + 1))
    linear, unit = linear_values(np.array([-9.9658, 3.0]), ExpressionUnit.LOG2_TPM_MILLI, "f.csv")
    np.testing.assert_allclose(linear, [0, 7.999], atol=1e-6)
    assert unit is TPM


def test_a_single_lowest_value_near_the_floor_leaves_z_scores_what_they_are() -> None:
    z = np.append(_RNG.normal(size=500), -9.9658)
    assert _settled(z) is ExpressionUnit.ZSCORE


@pytest.mark.parametrize(("middle", "spread"), [(-0.45, 0.29), (0.22, 1.44), (0.0, 1.0)])
def test_z_scores_of_a_patient_are_judged_by_quartiles(middle: float, spread: float) -> None:
    """Of 1,278 patients of TCGA-LIHC and -BRCA the medians and robust standard deviations lie between these."""
    z = middle + spread * np.random.default_rng(1).normal(size=1500)
    z[:20] = 60  # outliers, which a mean or standard deviation would be lost to
    assert why_no_zscores(z) is None


@pytest.mark.parametrize(
    ("words", "unit"),
    [
        ("tpm", TPM), ("HiSeqV2", LOG2_COUNTS), ("rsem.genes", COUNTS), ("log2(tpm+0.001)", ExpressionUnit.LOG2_TPM_MILLI),
        ("rsem_tpm", TPM), ("fpkm_uq", FPKM), ("LN_03", None), ("sample", None), ("mRNA Z-scores", ExpressionUnit.ZSCORE),
    ],
)  # fmt: skip
def test_words_state_a_unit(words: str, unit: ExpressionUnit | None) -> None:
    assert unit_in(words) is unit


@pytest.mark.parametrize("words", ["log10(tpm+1)", "log1p_counts", "ln(tpm)", "vst.csv", "rma"])
def test_words_for_what_cannot_be_compared_are_refused(words: str) -> None:
    with pytest.raises(ExpressionError, match="cannot be compared with the model's reference"):
        unit_in(words)


def test_the_name_of_a_file_states_the_unit_unless_its_values_are_logarithms(tmp_path: Path) -> None:
    for name, values, unit in (
        ("a_tpm.csv", np.log2(TPMS[0] + 1), LOG2_TPM),
        ("a_counts.csv", np.rint(RSEM[0]), COUNTS),
    ):
        pd.Series(values, GENES, name="value").to_csv(tmp_path / name, index_label="gene")
        assert read_expression(tmp_path / name).unit is unit


# --- a cohort ----------------------------------------------------------------------------------------------------


def _cohort(folder: Path, table: pd.DataFrame | str, ids: list[str] | None = None) -> Cohort:
    ids = ids or [f"P{i}" for i in range(N_PATIENTS)]
    months = [round(3.5 * (i + 1), 1) for i in range(len(ids))]
    patients = {"case_id": ids, "survival_months": months, "event": 1, "age": 50}
    pd.DataFrame(patients).to_csv(folder / "patients.csv", index=False)
    if isinstance(table, str):
        (folder / "expression.csv").write_text(table)
    else:
        table.to_csv(folder / "expression.csv", index_label=table.index.name or "case_id")
    return read_cohort(folder)


def _frame(values: np.ndarray, genes: list[str] | None = None, ids: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        values, ids or [f"P{i}" for i in range(len(values))], genes or GENES[: values.shape[1]]
    )


def _trained(cohort: Cohort) -> tuple[pd.DataFrame, GeneReference, tuple[str, ...]]:
    z, reference, _, _, notes = cohort_expression(cohort, Settings(model="mlp_genomic"), False)
    return z, reference, notes


def _as_predicted(cohort: Cohort, reference: GeneReference, case: str) -> np.ndarray:
    profile = cohort.profile(case)
    assert profile is not None
    return normalize_profile(profile, reference).values


@pytest.mark.parametrize(
    ("values", "unit"),
    [(np.rint(RSEM), COUNTS), (RSEM, COUNTS), (np.log2(RSEM + 1), LOG2_COUNTS), (0.3 * TPMS, FPKM)],
    ids=["counts", "rsem", "log2-rsem", "fpkm"],
)
def test_whole_transcriptomes_become_tpm_in_training_as_in_prediction(
    values: np.ndarray, unit: ExpressionUnit
) -> None:
    cohort = Cohort(
        Path("c"), pd.DataFrame(index=[f"P{i}" for i in range(N_PATIENTS)]), {}, {}, _frame(values), None, (), ()
    )  # fmt: skip
    z, reference, notes = _trained(cohort)
    assert cohort.unit is unit
    assert reference.unit is TPM
    assert f"holds {unit}; it was turned into TPM" in notes[0]
    np.testing.assert_allclose(_as_predicted(cohort, reference, "P3"), z.loc["P3"], atol=1e-6)
    # A patient's TPM are compared with what they are.
    tpm = ExpressionProfile(dict(zip(GENES, TPMS[3].tolist(), strict=True)), TPM, True, "P3", "p3.csv")
    np.testing.assert_allclose(normalize_profile(tpm, reference).values, z.loc["P3"], atol=0.1)


@pytest.mark.parametrize("logs", [False, True])
def test_counts_of_a_panel_are_never_compared_with_tpm(tmp_path: Path, logs: bool) -> None:
    counts = np.rint(RSEM[:, :200])
    cohort = _cohort(tmp_path, _frame(np.log2(counts + 1).round(4) if logs else counts))
    z, reference, notes = _trained(cohort)
    assert reference.unit is COUNTS
    assert "refuses TPM and FPKM" in notes[0]
    np.testing.assert_allclose(_as_predicted(cohort, reference, "P3"), z.loc["P3"], atol=1e-6)
    tpm = ExpressionProfile(dict(zip(GENES, TPMS[3].tolist(), strict=True)), TPM, True, "P3", "p3.csv")
    with pytest.raises(ExpressionError, match=r"p3\.csv holds tpm, but the model was trained on counts of"):
        normalize_profile(tpm, reference)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.vstack([TPMS[:9], np.rint(RSEM[9:])]),
            "in several units: 1 of 10 samples .such as P9. look like counts",
        ),
        (
            np.vstack([np.log2(TPMS[:1] + 1), TPMS[1:]]),
            "in several units: 1 of 10 samples .such as P0. look like log2",
        ),
        (_RNG.uniform(3, 14, (10, 5000)), "no gene without reads"),
        (Z + 2, "no z-scores: the median gene has a mean of 2"),
        (Z / 20, "no z-scores: .* a standard deviation of 0.0"),
        (np.log2(TPMS + 0.01), "no z-scores"),
    ],
    ids=["counts-among-tpm", "logs-among-tpm", "array", "mean-2", "sd-0.05", "log2(x+0.01)"],
)
def test_a_cohort_in_no_unit_or_in_several_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        table_unit(values, [f"P{i}" for i in range(N_PATIENTS)])


def test_a_cohort_with_the_offset_of_toil_is_read_as_log2_tpm(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, _frame(np.log2(np.rint(TPMS[:, :50]) + 0.001)))
    assert cohort.unit is not ExpressionUnit.ZSCORE
    assert cohort.expression is not None
    np.testing.assert_allclose(cohort.expression, np.log2(np.rint(TPMS[:, :50]) + 1), atol=1e-9)
    assert any("lowest value of expression.csv is log2(0.001)" in note for note in cohort.notes)


def test_an_outcome_in_the_expression_table_never_becomes_a_gene(tmp_path: Path) -> None:
    frame = _frame(Z)
    months = [round(3.5 * (i + 1), 1) for i in range(N_PATIENTS)]
    for name in ("age", "survival_months", "OS.time", "days_to_recurrence", "censorship_dss", "follow_up"):
        frame.insert(0, name, months)
    frame["renamed"] = months
    frame["slide_id"] = "x.svs"
    frame["EFS"] = Z[:, 0]  # a gene, though event-free survival is written like that
    cohort = _cohort(tmp_path, frame)
    assert cohort.expression is not None
    assert list(cohort.expression.columns) == [*GENES[:40], "EFS"]
    said = " ".join(cohort.notes)
    assert "7 columns of expression.csv are not the expression of a gene" in said
    assert (
        "The column renamed of expression.csv equals survival_months of patients.csv and was left out."
        in said
    )


BARCODES = [f"TCGA-AA-00{i:02d}" for i in range(N_PATIENTS)]


@pytest.mark.parametrize(
    "rows", [[f"{case}-01A" for case in BARCODES], [f"{case}.01A.11R".replace("-", ".") for case in BARCODES]]
)
def test_rows_named_by_samples_are_their_patients_in_training_too(tmp_path: Path, rows: list[str]) -> None:
    cohort = _cohort(tmp_path, _frame(Z, ids=rows), BARCODES)
    assert cohort.expression is not None
    assert list(cohort.expression.index) == BARCODES
    assert any(f"{BARCODES[0]} from {rows[0]}" in note for note in cohort.notes)


def test_normal_tissue_is_no_patient_and_two_tumors_are_asked_about(tmp_path: Path) -> None:
    rows = [f"{case}-01A" for case in BARCODES[:-1]] + [f"{BARCODES[-1]}-11A"]
    cohort = _cohort(tmp_path, _frame(Z, ids=rows), BARCODES)
    assert cohort.profile(BARCODES[-1]) is None
    assert any("only normal tissue of TCGA-AA-0009" in note for note in cohort.notes)
    twice = pd.concat([_frame(Z, ids=rows), _frame(Z[:1], ids=[f"{BARCODES[0]}-01B"])])
    with pytest.raises(CohortError, match="2 samples of TCGA-AA-0000"):
        _cohort(tmp_path, twice, BARCODES)


def test_a_cohort_with_genes_in_its_rows_is_read_and_said(tmp_path: Path) -> None:
    turned = _frame(Z).T
    turned.index.name = "gene"
    cohort = _cohort(tmp_path, turned)
    assert cohort.expression is not None
    np.testing.assert_allclose(cohort.expression.to_numpy(float), Z)
    assert any("a column a patient and a row a gene" in note for note in cohort.notes)


def test_genes_of_a_cohort_pass_the_checks_of_a_patients_file(tmp_path: Path) -> None:
    names = ["TP53", "1-Sep", "2001-03-01 00:00:00", "ENSG00000146648.18", "KRAS"]
    cohort = _cohort(tmp_path, _frame(Z[:, :5], names))
    assert cohort.expression is not None
    assert list(cohort.expression.columns) == ["TP53", "EGFR", "KRAS"]
    assert any("2 gene names were turned into dates" in note for note in cohort.notes)
    for wrong, message in (
        (["7157", "1956"], "by numbers such as 7157"),
        (["ENST00000269305.9", "ENST00000445888.6"], "holds transcripts"),
        (["TP53|7157", "TP53|1"], "has the gene TP53 twice"),
    ):
        with pytest.raises(CohortError, match=message):
            _cohort(tmp_path, _frame(Z[:, :2], wrong))


@pytest.mark.parametrize(
    ("content", "genes"),
    [
        ('"TP53"\t"EGFR"\n"P0"\t0.5\t1\n"P1"\t0.25\t2\n', ["TP53", "EGFR"]),
        ("TP53,case_id,EGFR\n0.5,P0,1\n0.25,P1,2\n", ["TP53", "EGFR"]),
        ("case_id,TP53_rnaseq,EGFR_rnaseq,TP53_mut\nP0,0.5,1,0\nP1,0.25,2,1\n", ["TP53", "EGFR"]),
        ("case_id,TP53,EGFR\nP0,0.5,1,\n\nP1,0.25,2,\n,,\n", ["TP53", "EGFR"]),
    ],
    ids=["R", "ids-not-first", "porpoise", "trailing"],
)
def test_a_cohorts_table_is_read_as_a_patients_file_is(
    tmp_path: Path, content: str, genes: list[str]
) -> None:
    cohort = _cohort(tmp_path, content, ["P0", "P1"])
    assert cohort.expression is not None
    assert list(cohort.expression.columns) == genes
    assert cohort.expression.loc["P1"].tolist() == [0.25, 2.0]


def test_a_bundle_of_a_panel_of_counts_keeps_their_unit(tmp_path: Path) -> None:
    folder = make_cohort(tmp_path / "cohort", n=24)
    counts = pd.DataFrame(np.random.default_rng(2).poisson(200, (24, 12)), columns=GENES[:12])
    counts.insert(0, "case_id", [f"P{i:02d}" for i in range(24)])
    counts.to_csv(folder / "expression.csv.gz", index=False)
    settings = Settings(model="mlp_genomic", epochs=1, n_folds=2, device="cpu")
    cohort = read_cohort(folder)
    result = train(cohort, settings, tmp_path / "run")
    assert "refuses TPM and FPKM" in result.describe()
    make_bundle(tmp_path / "run", tmp_path / "bundle")
    reference = load_bundle(tmp_path / "bundle").gene_reference
    assert reference is not None
    assert reference.unit is COUNTS
    _as_predicted(cohort, reference, "P03")
    tpm = ExpressionProfile(dict.fromkeys(GENES[:12], 5.0), TPM, True, "P3", "p3.csv")
    with pytest.raises(
        ExpressionError, match=r"p3\.csv holds tpm, but the model was trained on counts of 12 genes"
    ):
        normalize_profile(tpm, reference)
