"""Expression profile -> what a bundle's model was trained on: clipped z-scores of its genes, and gene-set vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.files import write_table
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit

from .genes import current_symbol, gene_table
from .unit_of_values import WHOLE

_LOG_LIMIT = 40  # 2 ** 40: no count and no TPM reaches it, so larger values are no logarithms
_LINEAR_OF = {
    ExpressionUnit.LOG2_TPM: ExpressionUnit.TPM,
    ExpressionUnit.LOG2_FPKM: ExpressionUnit.FPKM,
    ExpressionUnit.LOG2_COUNTS: ExpressionUnit.COUNTS,
}


@dataclass(frozen=True)
class ExpressionScale:
    """What a model that reads expression itself, not z-scores, was trained on.

    Attributes
    ----------
    unit : COUNTS, or TPM (FPKM are proportional to it within a sample, and samples are scaled anyway).
    total : median over the training cohort's samples of the sum over the model's genes, in ``unit``.

    Raises
    ------
    ValueError : another unit, or a total that nothing can be scaled to.
    """

    unit: ExpressionUnit
    total: float

    def __post_init__(self) -> None:
        if self.unit not in (ExpressionUnit.COUNTS, ExpressionUnit.TPM):
            raise ValueError(f"no unit of a scale: {self.unit}")
        if not 0 < self.total < np.inf:
            raise ValueError("the reference total must be a positive number")


@dataclass(frozen=True)
class FoldScale:
    """What the training patients of one fold say of the genes.

    Attributes
    ----------
    mean, sd : (n_genes,) of log2(TPM+1); empty for a model that reads expression itself.
    total : reference total of a model that reads expression itself; None for z-scores.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    total: float | None = None


@dataclass(frozen=True)
class GeneReference:
    """The genes of a model and what their values are compared with.

    Attributes
    ----------
    genes : symbols, in the order of the expression vector.
    mean, sd : (n_genes,) of log2(TPM+1) in the training cohort; None when it came as z-scores only.
    unit : what stands for TPM in them: COUNTS where the cohort had counts of too few genes to turn them into TPM.
    clip : z-scores are clipped to +- clip.   min_overlap : least share of genes that a file must have.
    scale : for a model that reads expression itself; mean and sd are then of log2(x+1) in its unit. None for z-scores.
    folds : one a fold model, where each has the scale of its own training patients; values are then z-scores of the whole
        cohort, not clipped, until :meth:`of_fold`. () where all share one scale.
    """

    genes: tuple[str, ...]
    mean: NDArray[np.float64] | None = None
    sd: NDArray[np.float64] | None = None
    clip: float = 5.0
    min_overlap: float = 0.5
    scale: ExpressionScale | None = None
    folds: tuple[FoldScale, ...] = ()
    unit: ExpressionUnit = ExpressionUnit.TPM

    def of_fold(self, values: NDArray[np.float32], fold: int) -> NDArray[np.float32]:
        """Return (n_genes,) values as a fold model reads them."""
        if not self.folds or self.scale is not None or not len(self.folds[fold].mean):
            return values
        assert self.mean is not None
        assert self.sd is not None
        own = self.folds[fold]
        z = (values.astype(np.float64) * self.sd + self.mean - own.mean) / own.sd
        return np.clip(z, -self.clip, self.clip).astype(np.float32)

    def total_of_fold(self, fold: int) -> float | None:
        """Return the reference total of a fold model that reads expression itself; None for z-scores."""
        if self.scale is None:
            return None
        own = self.folds[fold].total if self.folds else None
        return self.scale.total if own is None else own

    def at(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the model reads for (n_genes,) z-scores: themselves, or the expression that they stand for."""
        z = np.clip(z, -self.clip, self.clip)
        if self.scale is None:
            return z
        assert self.mean is not None
        assert self.sd is not None
        return np.maximum(np.exp2(self.mean + z * self.sd) - 1, 0)

    def average(self) -> NDArray[np.float32]:
        """Return (n_genes,) what the model reads for an average patient of the training cohort."""
        return self.at(np.zeros(len(self.genes))).astype(np.float32)


@dataclass(frozen=True)
class NormalizedExpression:
    """What a model reads of a profile.

    Attributes
    ----------
    values : (n_genes,) clipped z-scores, 0 (the cohort's mean) where the file lacks the gene; for a model that reads
        expression itself that, 0 where the file lacks the gene.
    """

    values: NDArray[np.float64]
    found: tuple[str, ...]
    missing: tuple[str, ...]
    overlap: float
    notes: tuple[str, ...]


def normalize_profile(profile: ExpressionProfile, reference: GeneReference) -> NormalizedExpression:
    """Bring a profile to the units of a model.

    Raises
    ------
    ExpressionError : too few of the model's genes, or a unit that cannot be compared with the reference.
    """
    if reference.scale is not None:
        return _expression_itself(profile, reference, reference.scale)
    # Both sides by current symbols: a bundle may have been trained on older names than the file has, or newer.
    current = {current_symbol(gene): value for gene, value in profile.values.items()}
    names = {gene: current_symbol(gene) for gene in reference.genes}
    profile = replace(profile, values=current)
    found = tuple(gene for gene in reference.genes if names[gene] in current)
    missing = tuple(gene for gene in reference.genes if names[gene] not in current)
    overlap = _checked_overlap(len(found), profile, reference)
    notes = [_found_note(len(found), profile, reference)]
    index = np.array([names[gene] in current for gene in reference.genes])
    z = np.zeros(len(reference.genes))
    if profile.unit is ExpressionUnit.ZSCORE:
        z[index] = [current[names[gene]] for gene in found]
    else:
        if reference.mean is None or reference.sd is None:
            raise ExpressionError(
                f"{profile.source} holds {profile.unit}, but the model was trained on z-scores and keeps no reference"
                " to compute them",
                "Give z-scores against the training cohort",
            )
        tpm = (
            _to_tpm(profile, notes)
            if reference.unit is ExpressionUnit.TPM
            else _counts_of(profile, len(reference.genes))
        )
        usable = np.array([names[gene] in tpm for gene in reference.genes])
        values = np.log2(np.array([tpm.get(names[gene], 0.0) for gene in reference.genes]) + 1)
        z[usable] = ((values - reference.mean) / reference.sd)[usable]
    beyond = int((np.abs(z) > reference.clip).sum())
    if beyond:
        notes.append(f"{beyond} values beyond +-{reference.clip:g} standard deviations were clipped.")
    return NormalizedExpression(
        z if reference.folds else np.clip(z, -reference.clip, reference.clip),
        found,
        missing,
        overlap,
        tuple(notes),
    )


def _checked_overlap(n_found: int, profile: ExpressionProfile, reference: GeneReference) -> float:
    overlap = n_found / len(reference.genes)
    if overlap < reference.min_overlap:
        raise ExpressionError(
            f"{profile.source} has {n_found} of the model's {len(reference.genes)} genes"
            f" ({100 * overlap:.0f} %); at least {100 * reference.min_overlap:.0f} % are needed",
            "Check that genes are named by HGNC symbols or Ensembl ids, or choose another bundle",
        )
    return overlap


def _found_note(n_found: int, profile: ExpressionProfile, reference: GeneReference) -> str:
    how = "stated" if profile.unit_declared else "inferred from the values"
    return f"{n_found} of the model's {len(reference.genes)} genes were found; unit {profile.unit} ({how})."


def _expression_itself(
    profile: ExpressionProfile, reference: GeneReference, scale: ExpressionScale
) -> NormalizedExpression:
    """Bring a profile to the unit of a model that reads expression, without its logarithm."""
    if profile.unit is ExpressionUnit.ZSCORE:
        raise ExpressionError(
            f"{profile.source} holds z-scores, but this model reads expression itself",
            "Give counts, TPM or FPKM of the whole transcriptome, or their log2(x+1)",
        )
    # A symbol stands for itself before it stands for a renamed gene: lists of some years have both.
    later: dict[str, str] = {}
    for gene in profile.values:
        later.setdefault(current_symbol(gene), gene)
    names = [gene if gene in profile.values else later.get(current_symbol(gene)) for gene in reference.genes]
    found = tuple(gene for gene, name in zip(reference.genes, names, strict=True) if name is not None)
    missing = tuple(gene for gene, name in zip(reference.genes, names, strict=True) if name is None)
    overlap = _checked_overlap(len(found), profile, reference)
    notes = [_found_note(len(found), profile, reference)]
    given = np.array([0.0 if name is None else profile.values[name] for name in names])
    values, unit = linear_values(given, profile.unit, profile.source)
    counts = unit is ExpressionUnit.COUNTS
    if (
        not profile.unit_declared and not counts
    ):  # as the trainer told the unit of its table, which states none
        counts = looks_like_counts(values)
    if counts != (scale.unit is ExpressionUnit.COUNTS):
        length_of = gene_table().length_of
        lengths = np.array([length_of.get(current_symbol(gene), 0) for gene in reference.genes], float)
        known = lengths > 0
        values[~known] = 0.0
        values[known] = values[known] / lengths[known] if counts else values[known] * lengths[known]
        notes.append(
            f"{'Counts' if counts else 'TPM or FPKM'} were turned into {'TPM' if counts else 'counts'}, on which the"
            " model was trained, with the gene lengths of GENCODE 48"
            + (
                f"; {int((~known).sum())} genes of unknown length count as not expressed."
                if not known.all()
                else "."
            )
        )
    if not values.sum() > 0:
        raise ExpressionError(f"{profile.source} holds zeros only", "Check the column that was chosen")
    return NormalizedExpression(values, found, missing, overlap, tuple(notes))


def linear_values(
    values: NDArray[np.floating], unit: ExpressionUnit, source: str
) -> tuple[NDArray[np.float64], ExpressionUnit]:
    """Undo a log2(x + 1).

    Parameters
    ----------
    unit : of ``values``; no z-scores.   source : file, for the message.

    Returns
    -------
    Values of the same shape, and COUNTS, TPM or FPKM.

    Raises
    ------
    ExpressionError : values too large for logarithms.
    """
    numbers: NDArray[np.float64] = np.array(values, np.float64)
    if unit is ExpressionUnit.LOG2_TPM_MILLI:
        return np.maximum(np.exp2(numbers) - 1e-3, 0), ExpressionUnit.TPM
    if unit not in _LINEAR_OF:
        return numbers, unit
    highest = np.nanmax(numbers)
    if highest > _LOG_LIMIT:
        raise ExpressionError(
            f"{source} has values up to {highest:g}, which cannot be {unit}", "State another unit"
        )
    return np.exp2(numbers) - 1, _LINEAR_OF[unit]


def tpm_of_table(
    values: NDArray[np.floating], genes: Sequence[str], unit: ExpressionUnit, source: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Turn the table of a cohort into TPM as a patient's file is.

    Parameters
    ----------
    values : (n_samples, n_genes) of whole transcriptomes.   unit : COUNTS or FPKM, or their logarithms.

    Returns
    -------
    (n_samples, n_known) TPM, and which (n_genes,) genes those are: of counts, genes with a known length.

    Raises
    ------
    ExpressionError : a sample of zeros.
    """
    linear, unit = linear_values(values, unit, source)
    known = np.ones(len(genes), bool)
    if unit is ExpressionUnit.COUNTS:
        length_of = gene_table().length_of
        lengths = np.array([length_of.get(current_symbol(gene), 0) for gene in genes], float)
        known = lengths > 0
        linear = linear[:, known] / lengths[known]
    total = np.nansum(linear, axis=1)
    if not (total > 0).all():
        raise ExpressionError(
            f"{source} holds zeros only for {int((total <= 0).sum())} patients", "Leave them out"
        )
    return 1e6 * linear / total[:, None], known


def looks_like_counts(values: NDArray[np.floating]) -> bool:
    """Return True for whole numbers, up to what rounding of their logarithm to four decimals leaves."""
    known = values[np.isfinite(values)]
    return bool((np.abs(known - np.rint(known)) <= 1e-3 + 1e-4 * known).all())


def _to_tpm(profile: ExpressionProfile, notes: list[str]) -> dict[str, float]:
    numbers, unit = linear_values(np.fromiter(profile.values.values(), float), profile.unit, profile.source)
    values = dict(zip(profile.values, numbers.tolist(), strict=True))
    if unit is ExpressionUnit.TPM:
        return values
    if len(values) < WHOLE:
        raise ExpressionError(
            f"{profile.source} holds {unit} of {len(values)} genes only, too few to know the sample's total",
            "Give the whole transcriptome, or TPM or z-scores",
        )
    if unit is ExpressionUnit.COUNTS:
        lengths = gene_table().length_of
        values = {gene: value / lengths[gene] for gene, value in values.items() if gene in lengths}
        notes.append("Counts were turned into TPM with the gene lengths of GENCODE 48.")
    else:
        notes.append("FPKM were scaled to TPM by the sample's sum.")
    total = sum(values.values())
    if not total > 0:
        raise ExpressionError(f"{profile.source} holds zeros only", "Check the column that was chosen")
    return {gene: 1e6 * value / total for gene, value in values.items()}


def _counts_of(profile: ExpressionProfile, n_genes: int) -> dict[str, float]:
    """Return counts for a model that was trained on counts of a few genes."""
    numbers, unit = linear_values(np.fromiter(profile.values.values(), float), profile.unit, profile.source)
    if unit is not ExpressionUnit.COUNTS:
        raise ExpressionError(
            f"{profile.source} holds {profile.unit}, but the model was trained on counts of {n_genes} genes, which cannot"
            " be turned into it",
            "Give counts, or z-scores against the training cohort",
        )
    return dict(zip(profile.values, numbers.tolist(), strict=True))


def write_genes(reference: GeneReference, path: Path) -> None:
    """Write the genes with their mean and sd, where known, as CSV; OutputError when the file cannot be written."""
    table = pd.DataFrame({"gene": reference.genes})
    if reference.mean is not None and reference.sd is not None:
        table["mean"], table["sd"] = reference.mean, reference.sd
    for fold, own in enumerate(reference.folds):
        if len(own.mean):  # a model that reads expression itself has a total a fold, and no mean
            table[f"mean_{fold}"], table[f"sd_{fold}"] = own.mean, own.sd
    write_table(path, table)
