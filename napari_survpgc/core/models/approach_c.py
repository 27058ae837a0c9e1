"""Approach (c) of the paper's Table 4: the one-hot clinical record as one token that attends over the patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import InputForm, Modality

from .base import GenomicInput, ModelOutput, rename
from .parts.one_path import PUBLISHED_ONE_PATH, OnePathModel
from .parts.snn import snn_block


class ApproachC(OnePathModel):
    """The published SurvPC: two self-normalizing blocks make the token.

    The published code needs ``dim`` 256 and batches of one; here both are free.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : width of the token and of the projected patches, even.
    pathology_dim : width of a patch feature.   clinic_dim : length of the one-hot vector.
    dropout : in the feed-forward network.   tokenizer_dropout : AlphaDropout of the token's blocks.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.CLINIC})
    CLINIC: ClassVar = InputForm.VECTOR
    ATTENTION: ClassVar = frozenset({"clinic_to_clinic", "clinic_to_pathology", "pathology_to_clinic"})

    def __init__(
        self,
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        clinic_dim: int = 24,
        dropout: float = 0.1,
        tokenizer_dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self._build(n_bins, dim, pathology_dim, dropout)
        self.tokenizer = nn.Sequential(
            snn_block(clinic_dim, dim, tokenizer_dropout), snn_block(dim, dim, tokenizer_dropout)
        )

    def forward(
        self,
        pathology: Tensor,
        clinic: Tensor,
        genomic: GenomicInput | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p) patches and a (b, d) one-hot vector of any dtype; ``genomic`` is not looked at."""
        token = self.tokenizer(clinic.to(self.pathology_projection.weight.dtype)).unsqueeze(1)
        return self.fuse("clinic", token, pathology, patch_mask, return_attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(state, {"cli_network.": "tokenizer.", **PUBLISHED_ONE_PATH})


Model = ApproachC
