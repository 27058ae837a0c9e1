"""SurvPath: one token a pathway, fused with the patches by one cross-attention path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from napari_survpgc.core.types import InputForm, Modality

from .base import GenomicInput, ModelOutput, rename
from .parts.one_path import PUBLISHED_ONE_PATH, OnePathModel
from .parts.snn import GeneSetTokenizer, gene_set_vectors


class SurvPath(OnePathModel):
    """SurvPath with networks of its own for every pathway.

    Parameters
    ----------
    gene_set_sizes : number of genes of each pathway, each at least 1.
    n_bins : intervals of follow-up.   dim : width of the tokens and of the projected patches, even.
    pathology_dim : width of a patch feature.
    dropout : in the feed-forward network.   tokenizer_dropout : AlphaDropout of the pathway networks.

    References
    ----------
    Jaume et al., Modeling dense multimodal interactions between biological pathways and histology for survival
    prediction, CVPR 2024.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.GENOMIC})
    GENOMIC: ClassVar = InputForm.GENE_SETS
    ATTENTION: ClassVar = frozenset({"genomic_to_genomic", "genomic_to_pathology", "pathology_to_genomic"})

    def __init__(
        self,
        gene_set_sizes: Sequence[int],
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        dropout: float = 0.1,
        tokenizer_dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self._build(n_bins, dim, pathology_dim, dropout)
        self.tokenizer = GeneSetTokenizer(gene_set_sizes, dim, tokenizer_dropout)

    def forward(
        self,
        pathology: Tensor,
        genomic: GenomicInput,
        clinic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p) patches and a list of (b, d_i), one a pathway; ``clinic`` is not looked at."""
        tokens = self.tokenizer(gene_set_vectors(genomic))
        return self.fuse("genomic", tokens, pathology, patch_mask, return_attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(self.tokenizer.from_published(state, "sig_networks", "tokenizer"), PUBLISHED_ONE_PATH)


Model = SurvPath
