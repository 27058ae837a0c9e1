"""SurvPGC: pathology, genomic and clinic tokens fused by two cross-attention paths (the paper's Eqs. 4-13).

Path 1 lets the genomic tokens attend over [genomic; patches], path 2 the clinic tokens over [clinic; patches]; both
share one feed-forward network. The embedding is [G, P1, C, P2], each the mean over its tokens or patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_survpgc.core.types import InputForm, Modality

from .base import GenomicInput, ModelOutput, PatchState, PathOutput, PathWithout, TwoPathModel, rename
from .parts.group_attention import (
    PUBLISHED_FEED_FORWARD,
    FeedForward,
    GroupAttention,
    attend,
    attention_blocks,
    logit_head,
    normalize_patches,
)
from .parts.split_path import AbsentPath, SplitPath


class SurvPGC(TwoPathModel):
    """SurvPGC on the tokens of foundation models.

    A modality that a patient lacks (``clinic=None`` or ``genomic=None``) leaves its path out: that path's two pooled
    vectors are zero. Train with modality dropout before relying on it.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : common width of the projected tokens, even.
    pathology_dim, clinic_dim, genomic_dim : widths of the tokens.
    dropout : in the feed-forward network.
    n_clinic, n_genomic : numbers of tokens (kept with the model; the equations do not depend on them).
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.CLINIC, Modality.GENOMIC})
    OPTIONAL: ClassVar = frozenset({Modality.CLINIC, Modality.GENOMIC})
    GENOMIC: ClassVar = InputForm.TOKENS
    ATTENTION: ClassVar = frozenset(
        {
            "clinic_to_clinic",
            "clinic_to_pathology",
            "pathology_to_clinic",
            "genomic_to_genomic",
            "genomic_to_pathology",
            "pathology_to_genomic",
        }
    )

    def __init__(
        self,
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        clinic_dim: int = 512,
        genomic_dim: int = 768,
        dropout: float = 0.1,
        n_clinic: int = 6,
        n_genomic: int = 4,
    ) -> None:
        super().__init__()
        self.n_clinic, self.n_genomic = n_clinic, n_genomic
        self._build(n_bins, dim, pathology_dim, clinic_dim, dropout)
        self.genomic_projection = nn.Linear(genomic_dim, dim)

    def _build(self, n_bins: int, dim: int, pathology_dim: int, clinic_dim: int, dropout: float) -> None:
        self.pathology_projection = nn.Linear(pathology_dim, dim)
        self.clinic_projection = nn.Linear(clinic_dim, dim)
        self.genomic_attention = GroupAttention(dim)
        self.clinic_attention = GroupAttention(dim)
        self.feed_forward = FeedForward(dim // 2, dropout)
        self.head = logit_head(4 * (dim // 2), dim // 4, n_bins)

    def genomic_tokens(self, genomic: GenomicInput) -> Tensor:
        """Return (b, n_g, dim)."""
        if not isinstance(genomic, Tensor):
            raise TypeError("SurvPGC takes genomic tokens as one (b, n_g, d) tensor")
        return self.genomic_projection(genomic)

    def encode_pathology(self, pathology: Tensor, patch_mask: Tensor | None = None) -> PatchState:
        """Project and normalize (b, n_p, d_p) patches: the part that no change of the patient touches."""
        return normalize_patches(self.pathology_projection(pathology), patch_mask)

    def genomic_path(self, patches: PatchState, genomic: GenomicInput | None) -> PathOutput:
        """Path 1; zero vectors when the patient has no genomic data."""
        if genomic is None:
            return self._empty(patches)
        return attend(self.genomic_attention, self.feed_forward, self.genomic_tokens(genomic), patches)

    def clinic_path(self, patches: PatchState, clinic: Tensor | None) -> PathOutput:
        """Path 2; zero vectors when the patient has no clinical record."""
        if clinic is None:
            return self._empty(patches)
        return attend(self.clinic_attention, self.feed_forward, self.clinic_projection(clinic), patches)

    def split_paths(
        self, patches: PatchState, clinic: Tensor | None, genomic: GenomicInput | None, exact: bool = False
    ) -> tuple[PathWithout, PathWithout]:
        absent = AbsentPath(self._empty(patches), exact)
        network = self.feed_forward
        return (
            absent
            if clinic is None
            else SplitPath(self.clinic_attention, network, self.clinic_projection(clinic), patches, exact),
            absent
            if genomic is None
            else SplitPath(self.genomic_attention, network, self.genomic_tokens(genomic), patches, exact),
        )

    def _empty(self, patches: PatchState) -> PathOutput:
        width = self.feed_forward.inner.out_features
        zero = patches.normalized.new_zeros(patches.normalized.shape[0], width)
        return PathOutput(zero, zero)

    def embed(self, clinic: PathOutput, genomic: PathOutput) -> Tensor:
        """Return e = [G, P1, C, P2], (b, 2 dim)."""
        return torch.cat([genomic.tokens, genomic.pathology, clinic.tokens, clinic.pathology], dim=-1)

    def forward(
        self,
        pathology: Tensor,
        clinic: Tensor | None = None,
        genomic: GenomicInput | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Run both paths.

        Parameters
        ----------
        pathology : (b, n_p, d_p).   clinic : (b, 6, d_c).   genomic : (b, n_g, d_g).
        patch_mask : (b, n_p), True where there is a patch; None reproduces the published code, which attends to
            zero padding too.

        Returns
        -------
        ModelOutput; attention names are <modality>_to_<modality>.
        """
        patches = self.encode_pathology(pathology, patch_mask)
        genomic_out, clinic_out = self.genomic_path(patches, genomic), self.clinic_path(patches, clinic)
        embedding = self.embed(clinic_out, genomic_out)
        attention: dict[str, Tensor] = {}
        if return_attention:
            attention = {
                **attention_blocks("clinic", clinic_out),
                **attention_blocks("genomic", genomic_out),
            }
        return ModelOutput(self.head(embedding), embedding, attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(
            state,
            {
                "gene_projection_net.0.": "genomic_projection.",
                "wsi_projection_net.0.": "pathology_projection.",
                "clinic_projection_net.0.": "clinic_projection.",
                "cross_attender1.norm.": "genomic_attention.norm.",
                "cross_attender1.attn.to_qkv.": "genomic_attention.to_qkv.",
                "cross_attender2.norm.": "clinic_attention.norm.",
                "cross_attender2.attn.to_qkv.": "clinic_attention.to_qkv.",
                **PUBLISHED_FEED_FORWARD,
            },
        )


Model = SurvPGC
