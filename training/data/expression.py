"""The expression of a cohort, as the models of a run take it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.encoders.base import ExpressionEncoder
from napari_survpgc.core.errors import CohortError, ExpressionError
from napari_survpgc.core.genomics.gene_sets import bundled_gene_sets
from napari_survpgc.core.genomics.normalize import (
    ExpressionScale,
    FoldScale,
    GeneReference,
    linear_values,
    looks_like_counts,
    tpm_of_table,
)
from napari_survpgc.core.genomics.unit_of_values import WHOLE, table_unit
from napari_survpgc.core.types import (
    ExpressionUnit,
    GeneSet,
)

from ..settings import Settings

_LEAST_SD = 1e-6  # of a gene that does not vary, which a change in standard deviations then leaves alone


def cohort_expression(
    cohort: Cohort, settings: Settings, by_gene_set: bool
) -> tuple[pd.DataFrame, GeneReference, tuple[GeneSet, ...], pd.DataFrame | None, tuple[str, ...]]:
    """Return clipped z-scores against the whole cohort, their reference, the gene sets, log2(TPM+1) of the same genes, notes.

    The logarithms are None where the expression came as z-scores, or is to be compared with the whole cohort. Counts and
    FPKM of whole transcriptomes become TPM, as a patient's file does; counts of fewer genes stay counts, with which no
    later patient's TPM are compared.
    """
    by_fold = settings.scaling == "fold"
    logs: pd.DataFrame | None = None
    assert cohort.expression is not None
    frame = cohort.expression
    values = frame.to_numpy(float)
    stated = cohort.expression_reference
    unit = table_unit(values, [str(case) for case in frame.index])
    notes: tuple[str, ...] = ()
    of = ExpressionUnit.TPM
    if unit is ExpressionUnit.ZSCORE:
        z = frame  # z-scores as they come
        mean = sd = None
        if stated is not None and set(frame.columns) <= set(stated.index):
            mean = stated.loc[list(frame.columns), "mean"].to_numpy(float)
            sd = stated.loc[list(frame.columns), "sd"].to_numpy(float)
    else:
        counts = unit in (ExpressionUnit.COUNTS, ExpressionUnit.LOG2_COUNTS)
        if unit not in (ExpressionUnit.TPM, ExpressionUnit.LOG2_TPM) and frame.shape[1] >= WHOLE:
            tpm, known = tpm_of_table(
                values, [str(gene) for gene in frame.columns], unit, f"The expression of {cohort.name}"
            )
            logs = pd.DataFrame(np.log2(tpm + 1), frame.index, frame.columns[known])
            lengths = " with the gene lengths of GENCODE 48" if counts else ""
            notes = (
                f"The expression table holds {unit}; it was turned into TPM{lengths}, as that of a patient is.",
            )
        else:
            logs = (
                frame
                if unit in (ExpressionUnit.LOG2_TPM, ExpressionUnit.LOG2_COUNTS)
                else pd.DataFrame(np.log2(values + 1), frame.index, frame.columns)
            )
            if counts:
                of = ExpressionUnit.COUNTS
                notes = (
                    f"The expression table holds {unit} of {frame.shape[1]} genes, too few to turn them into TPM: a bundle of"
                    " this run takes counts, or z-scores against this cohort, and refuses TPM and FPKM.",
                )
        mean, sd = logs.mean().to_numpy(float), logs.std(ddof=0).to_numpy(float)
        # With a scale a fold all genes stay: which of them vary is not for the test patients to say.
        varies = np.isfinite(mean) if by_fold else sd > _LEAST_SD
        sd = np.where(sd > _LEAST_SD, sd, 1.0)
        logs, mean, sd = logs.loc[:, varies], mean[varies], sd[varies]
        z = pd.DataFrame((logs.to_numpy(float) - mean) / sd, logs.index, logs.columns)
    z = z.clip(-settings.clip, settings.clip).fillna(0.0)
    genes = list(z.columns)
    gene_sets: tuple[GeneSet, ...] = ()
    if by_gene_set:
        present = set(genes)
        candidates = [
            GeneSet(s.name, s.description, tuple(g for g in s.genes if g in present))
            for s in (cohort.gene_sets or bundled_gene_sets())
        ]
        gene_sets = tuple(
            s for s in candidates if s.genes
        )  # empty sets carry nothing: masked by leaving them out
        if not gene_sets:
            raise CohortError(
                "No gene set has a gene in the expression table", "Give gene sets of the same symbols"
            )
        used = {g for s in gene_sets for g in s.genes}
        keep = [i for i, g in enumerate(genes) if g in used]
    else:
        keep = sorted(range(len(genes)), key=lambda i: genes[i])
    reference = GeneReference(
        tuple(genes[i] for i in keep),
        None if mean is None else mean[keep],
        None if sd is None else sd[keep],
        clip=settings.clip,
        unit=of,
    )
    own = logs.iloc[:, keep] if by_fold and logs is not None else None
    return z.iloc[:, keep], reference, gene_sets, own, notes


def fold_scale(logs: pd.DataFrame, cases: Sequence[str]) -> FoldScale:
    """Return mean and sd of log2(TPM+1) among some patients; 1 for a gene that does not vary among them."""
    values = logs.loc[[case for case in cases if case in logs.index]].to_numpy(float)
    if len(values) == 0:
        raise CohortError("No training patient of a fold has expression", "Make other folds")
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    sd = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(0) / count)
    return FoldScale(mean, np.where(sd > _LEAST_SD, sd, 1.0))


def expression_itself(
    cohort: Cohort, settings: Settings, encoder: ExpressionEncoder
) -> tuple[pd.DataFrame, GeneReference, str]:
    """Return expression without its logarithm, of the genes that an encoder knows, and how many those are.

    The reference total is the median over all patients of the table, as the authors of scFoundation take it over all
    samples of a file; like the mean and sd of z-scores it is computed without looking at any outcome.
    """
    assert cohort.expression is not None
    frame = cohort.expression
    unit = table_unit(frame.to_numpy(float), [str(case) for case in frame.index])
    if unit is ExpressionUnit.ZSCORE:
        raise ExpressionError(
            f"The expression of the cohort {cohort.name} holds z-scores, but the gene encoder {encoder.id} reads"
            " expression itself",
            "Give counts, TPM or FPKM of the whole transcriptome, or their log2(x+1), in expression.csv.gz, or choose"
            " another gene encoder",
        )
    genes = [str(gene) for gene in frame.columns]
    source = f"The expression of {cohort.name}"
    match = encoder.match(genes, source)
    keep = sorted(match.source.tolist(), key=lambda i: genes[i])
    linear, unit = linear_values(frame.iloc[:, keep].to_numpy(float), unit, source)
    counts = unit is ExpressionUnit.COUNTS or looks_like_counts(linear)
    linear = np.nan_to_num(linear)  # a gene without a value is absent
    totals = linear.sum(1)
    empty = [str(case) for case, total in zip(frame.index, totals, strict=True) if not total > 0]
    if empty:
        raise ExpressionError(
            f"{len(empty)} patients of the cohort {cohort.name} have no expression at all, e.g. {empty[0]}",
            "Leave their rows out of expression.csv.gz",
        )
    logs = np.log2(linear + 1)
    reference = GeneReference(
        tuple(genes[i] for i in keep),
        logs.mean(0),
        np.maximum(logs.std(0), _LEAST_SD),
        clip=settings.clip,
        min_overlap=encoder.min_overlap,
        scale=ExpressionScale(
            ExpressionUnit.COUNTS if counts else ExpressionUnit.TPM, float(np.median(totals))
        ),
    )
    values = pd.DataFrame(linear, frame.index, list(reference.genes))
    return (
        values,
        reference,
        f"Expression read as {'counts' if counts else 'TPM or FPKM'}; {match.describe()}",
    )
