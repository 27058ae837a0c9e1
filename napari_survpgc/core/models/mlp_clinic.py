"""MLP on the six clinic tokens: each row through the same two layers, all rows flattened into the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import ModelOutput, SurvivalModel, rename


class MLPClinic(SurvivalModel):
    """The published MLPSingle.

    Parameters
    ----------
    clinic_dim : width of a token.   dim : width of the projection; the layers are dim / 2 and dim / 4 wide.
    """

    REQUIRES: ClassVar = frozenset({Modality.CLINIC})

    def __init__(
        self, n_bins: int = 4, dim: int = 512, clinic_dim: int = 512, n_clinic: int = 6, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.rows = nn.Sequential(
            nn.Linear(clinic_dim, dim // 2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim // 2, dim // 4),
            nn.ReLU(),
        )
        self.head = nn.Linear(n_clinic * (dim // 4), n_bins)

    def forward(
        self,
        clinic: Tensor,
        pathology: Tensor | None = None,
        genomic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, 6, d_c) tokens; the other modalities are not looked at."""
        embedding = self.rows(clinic).flatten(1)
        return ModelOutput(self.head(embedding), embedding)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(state, {"net.0.": "rows.0.", "net.3.": "rows.3.", "to_logits.0.": "head."})


Model = MLPClinic
