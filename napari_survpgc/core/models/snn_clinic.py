"""Self-normalizing network on each clinic token, mean over the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import ModelOutput, SurvivalModel, rename
from .snn_genomic import SIZES, initialize, snn_stack


class SNNClinic(SurvivalModel):
    """The published SNNSingle; ``clinic_dim`` is the width of a token."""

    REQUIRES: ClassVar = frozenset({Modality.CLINIC})
    SMALL: ClassVar = {}

    def __init__(
        self, n_bins: int = 4, clinic_dim: int = 512, size: str = "small", dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.blocks = snn_stack(clinic_dim, size, dropout)
        self.head = nn.Linear(SIZES[size][-1], n_bins)
        initialize(self.head)

    def forward(
        self,
        clinic: Tensor,
        pathology: Tensor | None = None,
        genomic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, 6, d_c) tokens; the other modalities are not looked at."""
        embedding = self.blocks(clinic).mean(1)
        return ModelOutput(self.head(embedding), embedding)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(state, {"fc_omic.": "blocks.", "classifier.": "head."})


Model = SNNClinic
