"""Approach (b) of the paper's Table 4: the one-hot clinical record concatenated to the pooled slide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_survpgc.core.types import InputForm, Modality

from .base import GenomicInput, ModelOutput, SurvivalModel, rename
from .parts.group_attention import UNUSED_FEED_FORWARD, logit_head
from .parts.pooling import masked_mean


class ApproachB(SurvivalModel):
    """The published MLPPC_concat, without its unused feed-forward network.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : width of the projected patches; the head is dim / 4 wide.
    pathology_dim : width of a patch feature.   clinic_dim : length of the one-hot vector.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.CLINIC})
    CLINIC: ClassVar = InputForm.VECTOR

    def __init__(
        self, n_bins: int = 4, dim: int = 256, pathology_dim: int = 1024, clinic_dim: int = 24
    ) -> None:
        super().__init__()
        self.pathology_projection = nn.Linear(pathology_dim, dim)
        self.head = logit_head(dim + clinic_dim, dim // 4, n_bins)

    def forward(
        self,
        pathology: Tensor,
        clinic: Tensor,
        genomic: GenomicInput | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p) patches and a (b, d) one-hot vector of any dtype; ``genomic`` is not looked at."""
        pooled = masked_mean(nn.functional.relu(self.pathology_projection(pathology)), patch_mask)
        embedding = torch.cat([pooled, clinic.to(pooled.dtype)], dim=-1)
        return ModelOutput(self.head(embedding), embedding)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        used = {key: value for key, value in state.items() if key not in UNUSED_FEED_FORWARD}
        return rename(used, {"wsi_projection_net.0.": "pathology_projection.", "to_logits.": "head."})


Model = ApproachB
