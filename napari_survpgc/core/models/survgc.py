"""SurvGC: clinic and genomic tokens fused by sparse group attention, without an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_survpgc.core.types import InputForm, Modality

from .base import ModelOutput, SurvivalModel, rename
from .parts.group_attention import (
    PUBLISHED_FEED_FORWARD,
    FeedForward,
    GroupAttention,
    logit_head,
    normalize_patches,
)


class SurvGC(SurvivalModel):
    """The published SurvGC_F: the clinic tokens see everything, the genomic tokens see only the clinic ones.

    The published code takes as many tokens for the group as there are *genomic* tokens: the first four of the six
    clinic tokens see everything, the other two and the genomic tokens see only those four. ``published=True``
    repeats that, to agree with published weights; both ways pool clinic and genomic tokens apart.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : common width of the projected tokens, even.
    clinic_dim, genomic_dim : widths of the tokens.   dropout : in the feed-forward network.
    n_clinic, n_genomic : numbers of tokens (kept with the model; the equations do not depend on them).
    published : group as the published code does.
    """

    REQUIRES: ClassVar = frozenset({Modality.CLINIC, Modality.GENOMIC})
    GENOMIC: ClassVar = InputForm.TOKENS
    ATTENTION: ClassVar = frozenset({"clinic_to_clinic", "clinic_to_genomic", "genomic_to_clinic"})

    def __init__(
        self,
        n_bins: int = 4,
        dim: int = 256,
        clinic_dim: int = 512,
        genomic_dim: int = 768,
        dropout: float = 0.1,
        n_clinic: int = 6,
        n_genomic: int = 4,
        published: bool = False,
    ) -> None:
        super().__init__()
        self.n_clinic, self.n_genomic, self.published = n_clinic, n_genomic, published
        self.clinic_projection = nn.Linear(clinic_dim, dim)
        self.genomic_projection = nn.Linear(genomic_dim, dim)
        self.attention = GroupAttention(dim)
        self.feed_forward = FeedForward(dim // 2, dropout)
        self.head = logit_head(2 * (dim // 2), dim // 4, n_bins)

    def forward(
        self,
        clinic: Tensor,
        genomic: Tensor,
        pathology: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, 6, d_c) and (b, 4, d_g) tokens; ``pathology`` is not looked at.

        Returns
        -------
        ModelOutput; attention names are clinic_to_clinic, clinic_to_genomic, genomic_to_clinic. With ``published``
        the blocks mix both modalities and are group_to_group, group_to_rest, rest_to_group.
        """
        n_clinic = clinic.shape[1]
        tokens = torch.cat([self.clinic_projection(clinic), self.genomic_projection(genomic)], dim=1)
        size = genomic.shape[1] if self.published else n_clinic
        out, a_gg, a_gr, a_rg, v = self.attention(tokens[:, :size], normalize_patches(tokens[:, size:], None))
        rows = self.feed_forward(torch.cat([out, a_rg.softmax(-1) @ v], dim=1))
        embedding = torch.cat([rows[:, :n_clinic].mean(1), rows[:, n_clinic:].mean(1)], dim=-1)
        attention: dict[str, Tensor] = {}
        if return_attention:
            group, rest = ("group", "rest") if self.published else ("clinic", "genomic")
            attention = {
                f"{group}_to_{group}": a_gg.detach(),
                f"{group}_to_{rest}": a_gr.detach(),
                f"{rest}_to_{group}": a_rg.detach(),
            }
        return ModelOutput(self.head(embedding), embedding, attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(
            state,
            {
                "clinic_projection_net.0.": "clinic_projection.",
                "gene_projection_net.0.": "genomic_projection.",
                "cross_attender.norm.": "attention.norm.",
                "cross_attender.attn.to_qkv.": "attention.to_qkv.",
                **PUBLISHED_FEED_FORWARD,
            },
        )


Model = SurvGC
