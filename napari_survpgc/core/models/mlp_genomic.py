"""MLP on the expression vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import ModelOutput, SurvivalModel, rename


class MLPGenomic(SurvivalModel):
    """The published MLPOmics.

    Parameters
    ----------
    genomic_dim : number of genes.   dim : both layers are dim / 2 wide.
    """

    REQUIRES: ClassVar = frozenset({Modality.GENOMIC})

    def __init__(self, n_bins: int = 4, dim: int = 64, genomic_dim: int = 4999, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(genomic_dim, dim // 2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim // 2, dim // 2),
            nn.ReLU(),
        )
        self.head = nn.Linear(dim // 2, n_bins)

    def forward(
        self,
        genomic: Tensor,
        pathology: Tensor | None = None,
        clinic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_genes); the other modalities are not looked at."""
        embedding = self.layers(genomic)
        return ModelOutput(self.head(embedding), embedding)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(state, {"net.": "layers.", "to_logits.0.": "head."})


Model = MLPGenomic
