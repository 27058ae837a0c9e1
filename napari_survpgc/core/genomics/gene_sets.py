"""Gene sets: GMT files, and expression cut by sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.files import read_text, write_text
from napari_survpgc.core.types import GeneSet
from napari_survpgc.resources import resource_path

_MAX_BYTES = 64 << 20


def read_gmt(path: Path) -> tuple[GeneSet, ...]:
    """Read gene sets: a line a set, tab-separated name, description, genes; repeated and blank genes are dropped.

    Raises
    ------
    ExpressionError : no GMT file, a line without genes' columns, or a name used twice.
    """
    text = read_text(path, _MAX_BYTES, ExpressionError, "Give a GMT file", "gene sets")
    sets: dict[str, GeneSet] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) < 2 or not parts[0]:
            raise ExpressionError(
                f"Line {number} of {path.name} is no gene set",
                "Write name, description and genes, tab-separated",
            )
        if parts[0] in sets:
            raise ExpressionError(f"{path.name} has the gene set {parts[0]} twice", "Rename one of them")
        genes = tuple(dict.fromkeys(gene for gene in parts[2:] if gene))
        sets[parts[0]] = GeneSet(parts[0], parts[1], genes)
    if not sets:
        raise ExpressionError(f"{path.name} holds no gene set", "Give a GMT file")
    return tuple(sets.values())


def write_gmt(gene_sets: Sequence[GeneSet], path: Path) -> None:
    """Write gene sets as :func:`read_gmt` reads them; OutputError when the file cannot be written."""
    lines = ["\t".join((s.name, s.description, *s.genes)) for s in gene_sets]
    write_text(path, "\n".join(lines) + "\n")


def bundled_gene_sets() -> tuple[GeneSet, ...]:
    """Return the curated cancer programmes that ship with the package."""
    return read_gmt(resource_path("gene_sets", "cancer_programmes.gmt"))


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
