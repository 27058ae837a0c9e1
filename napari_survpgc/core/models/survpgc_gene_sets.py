"""SurvPGC with one trainable token a gene set (the tokenizer of SurvPath) in place of scFoundation's vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from napari_survpgc.core.types import InputForm

from .base import GenomicInput, SurvivalModel
from .parts.snn import GeneSetTokenizer, gene_set_vectors
from .survpgc import SurvPGC


class SurvPGCGeneSets(SurvPGC):
    """See :class:`SurvPGC`; ``genomic`` is a list of (b, d_i) expression vectors, one a gene set.

    Parameters
    ----------
    gene_set_sizes : number of genes of each set, each at least 1.
    tokenizer_dropout : AlphaDropout of the tokenizer's blocks (0.25 as published for SurvPath).
    """

    GENOMIC: ClassVar = InputForm.GENE_SETS

    def __init__(
        self,
        gene_set_sizes: Sequence[int],
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        clinic_dim: int = 512,
        dropout: float = 0.1,
        tokenizer_dropout: float = 0.25,
        n_clinic: int = 6,
    ) -> None:
        SurvivalModel.__init__(self)
        self.n_clinic, self.n_genomic = n_clinic, len(gene_set_sizes)
        self._build(n_bins, dim, pathology_dim, clinic_dim, dropout)
        self.tokenizer = GeneSetTokenizer(gene_set_sizes, dim, tokenizer_dropout)

    def genomic_tokens(self, genomic: GenomicInput) -> Tensor:
        return self.tokenizer(gene_set_vectors(genomic))

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError("the gene-set variant is ours; there are no published weights")


Model = SurvPGCGeneSets
