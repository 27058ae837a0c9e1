"""Expression profile -> what a bundle's model was trained on: clipped z-scores of its genes, and gene-set vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .errors import ExpressionError
from .expression_file import parse_unit, read_expression
from .genes import bundled_gene_sets, current_symbol, gene_table, read_gmt
from .types import ExpressionProfile, ExpressionUnit, GeneSet

__all__ = [
    "GeneReference",
    "NormalizedExpression",
    "bundled_gene_sets",
    "composition",
    "gene_set_vectors",
    "normalize_profile",
    "parse_unit",
    "read_expression",
    "read_gmt",
]

WHOLE_TRANSCRIPTOME = 5000
"""From this many genes on, a file's sum stands for the sample's total."""


@dataclass(frozen=True)
class GeneReference:
    """The genes of a model and what their values are compared with.

    Attributes
    ----------
    genes : symbols, in the order of the expression vector.
    mean, sd : (n_genes,) of log2(TPM+1) in the training cohort; None when it came as z-scores only.
    clip : z-scores are clipped to +- clip.   min_overlap : least share of genes that a file must have.
    """

    genes: tuple[str, ...]
    mean: NDArray[np.float64] | None = None
    sd: NDArray[np.float64] | None = None
    clip: float = 5.0
    min_overlap: float = 0.5


@dataclass(frozen=True)
class NormalizedExpression:
    """Clipped z-scores of the model's genes, 0 (the cohort's mean) where the file lacks the gene."""

    z: NDArray[np.float64]
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
    # Both sides by current symbols: a bundle may have been trained on older names than the file has, or newer.
    current = {current_symbol(gene): value for gene, value in profile.values.items()}
    names = {gene: current_symbol(gene) for gene in reference.genes}
    profile = replace(profile, values=current)
    found = tuple(gene for gene in reference.genes if names[gene] in current)
    missing = tuple(gene for gene in reference.genes if names[gene] not in current)
    overlap = len(found) / len(reference.genes)
    if overlap < reference.min_overlap:
        raise ExpressionError(
            f"{profile.source} has {len(found)} of the model's {len(reference.genes)} genes"
            f" ({100 * overlap:.0f} %); at least {100 * reference.min_overlap:.0f} % are needed",
            "Check that genes are named by HGNC symbols or Ensembl ids, or choose another bundle",
        )
    how = "stated" if profile.unit_declared else "inferred from the values"
    notes = [
        f"{len(found)} of the model's {len(reference.genes)} genes were found; unit {profile.unit} ({how})."
    ]
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
        tpm = _to_tpm(profile, notes)
        usable = np.array([names[gene] in tpm for gene in reference.genes])
        values = np.log2(np.array([tpm.get(names[gene], 0.0) for gene in reference.genes]) + 1)
        z[usable] = ((values - reference.mean) / reference.sd)[usable]
    beyond = int((np.abs(z) > reference.clip).sum())
    if beyond:
        notes.append(f"{beyond} values beyond +-{reference.clip:g} standard deviations were clipped.")
    return NormalizedExpression(
        np.clip(z, -reference.clip, reference.clip), found, missing, overlap, tuple(notes)
    )


def _to_tpm(profile: ExpressionProfile, notes: list[str]) -> dict[str, float]:
    unit = profile.unit
    logarithmic = {
        ExpressionUnit.LOG2_TPM: ExpressionUnit.TPM,
        ExpressionUnit.LOG2_FPKM: ExpressionUnit.FPKM,
        ExpressionUnit.LOG2_COUNTS: ExpressionUnit.COUNTS,
    }
    values = dict(profile.values)
    if unit in logarithmic:
        highest = max(values.values())
        if highest > 40:
            raise ExpressionError(
                f"{profile.source} has values up to {highest:g}, which cannot be {unit}", "State another unit"
            )
        values = {gene: 2.0**value - 1 for gene, value in values.items()}
        unit = logarithmic[unit]
    if unit is ExpressionUnit.TPM:
        return values
    if len(values) < WHOLE_TRANSCRIPTOME:
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


def gene_set_vectors(
    z: NDArray[np.floating], genes: Sequence[str], gene_sets: Sequence[GeneSet]
) -> list[NDArray[np.float32]]:
    """Return one (d_i,) vector a gene set: the z-scores of those members that are among ``genes``, in its order.

    Raises
    ------
    ExpressionError : a gene set has no member among the genes; leave such sets out when training.
    """
    index = {gene: i for i, gene in enumerate(genes)}
    vectors = []
    for gene_set in gene_sets:
        rows = [index[gene] for gene in gene_set.genes if gene in index]
        if not rows:
            raise ExpressionError(
                f"The gene set {gene_set.name} has no gene in the expression data",
                "Leave it out of the gene sets",
            )
        vectors.append(np.asarray(z[rows], np.float32))
    return vectors


def composition(genes: Sequence[str], gene_sets: Sequence[GeneSet]) -> NDArray[np.float32]:
    """Return (n_genes, n_sets), 1 where the gene belongs to the set."""
    members = [set(gene_set.genes) for gene_set in gene_sets]
    return np.array([[gene in m for m in members] for gene in genes], np.float32)
