"""SurvPC: clinic and pathology tokens fused by one cross-attention path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import GenomicInput, ModelOutput, rename
from .parts.one_path import PUBLISHED_ONE_PATH, OnePathModel


class SurvPC(OnePathModel):
    """The published SurvPC_F: the clinic path of SurvPGC alone.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : common width of the projected tokens, even.
    pathology_dim, clinic_dim : widths of the tokens.   dropout : in the feed-forward network.
    n_clinic : number of tokens (kept with the model; the equations do not depend on it).
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.CLINIC})
    ATTENTION: ClassVar = frozenset({"clinic_to_clinic", "clinic_to_pathology", "pathology_to_clinic"})

    def __init__(
        self,
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        clinic_dim: int = 512,
        dropout: float = 0.1,
        n_clinic: int = 6,
    ) -> None:
        super().__init__()
        self.n_clinic = n_clinic
        self._build(n_bins, dim, pathology_dim, dropout)
        self.clinic_projection = nn.Linear(clinic_dim, dim)

    def forward(
        self,
        pathology: Tensor,
        clinic: Tensor,
        genomic: GenomicInput | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p) patches and (b, 6, d_c) tokens; ``genomic`` is not looked at."""
        return self.fuse("clinic", self.clinic_projection(clinic), pathology, patch_mask, return_attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(state, {"clinic_projection_net.0.": "clinic_projection.", **PUBLISHED_ONE_PATH})


Model = SurvPC
