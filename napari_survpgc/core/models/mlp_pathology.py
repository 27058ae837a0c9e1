"""MLP on the slide: mean over the projected patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import ModelOutput, SurvivalModel, rename
from .parts.group_attention import UNUSED_FEED_FORWARD, logit_head
from .parts.pooling import masked_mean


class MLPPathology(SurvivalModel):
    """The published MLPWSI, without its unused feed-forward network.

    Parameters
    ----------
    pathology_dim : width of a patch feature.   dim : width of the projection.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY})

    def __init__(self, n_bins: int = 4, dim: int = 256, pathology_dim: int = 1024) -> None:
        super().__init__()
        self.pathology_projection = nn.Linear(pathology_dim, dim)
        self.head = logit_head(dim, dim // 4, n_bins)

    def forward(
        self,
        pathology: Tensor,
        clinic: Tensor | None = None,
        genomic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p); masked patches do not count; the other modalities are not looked at."""
        embedding = masked_mean(nn.functional.relu(self.pathology_projection(pathology)), patch_mask)
        return ModelOutput(self.head(embedding), embedding)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        used = {key: value for key, value in state.items() if key not in UNUSED_FEED_FORWARD}
        return rename(used, {"wsi_projection_net.0.": "pathology_projection.", "to_logits.": "head."})


Model = MLPPathology
