"""One cross-attention path: the tokens of one modality over the patches, as SurvPC and SurvPath have it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_survpgc.core.models.base import ModelOutput, SurvivalModel

from .group_attention import (
    PUBLISHED_FEED_FORWARD,
    FeedForward,
    GroupAttention,
    attend,
    attention_blocks,
    logit_head,
    normalize_patches,
)


class OnePathModel(SurvivalModel):
    """Half of SurvPGC (Eqs. 4-13 with one path): embedding e = [T, P], the means over tokens and over patches."""

    def _build(self, n_bins: int, dim: int, pathology_dim: int, dropout: float) -> None:
        self.pathology_projection = nn.Linear(pathology_dim, dim)
        self.attention = GroupAttention(dim)
        self.feed_forward = FeedForward(dim // 2, dropout)
        self.head = logit_head(2 * (dim // 2), dim // 4, n_bins)

    def fuse(
        self, name: str, tokens: Tensor, pathology: Tensor, patch_mask: Tensor | None, return_attention: bool
    ) -> ModelOutput:
        """Let (b, P, dim) tokens of the modality ``name`` attend over (b, n_p, d_p) patches."""
        patches = normalize_patches(self.pathology_projection(pathology), patch_mask)
        out = attend(self.attention, self.feed_forward, tokens, patches)
        embedding = torch.cat([out.tokens, out.pathology], dim=-1)
        return ModelOutput(
            self.head(embedding), embedding, attention_blocks(name, out) if return_attention else {}
        )


PUBLISHED_ONE_PATH = {
    "wsi_projection_net.0.": "pathology_projection.",
    "cross_attender.norm.": "attention.norm.",
    "cross_attender.attn.to_qkv.": "attention.to_qkv.",
    **PUBLISHED_FEED_FORWARD,
}
"""Names of the authors -> ours, shared by the models with one path."""
