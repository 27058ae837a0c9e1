"""MCAT: gene sets attend over the patches; two transformers and a fusion make the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_survpgc.core.types import InputForm, Modality

from .base import GenomicInput, ModelOutput, SurvivalModel, rename
from .parts.fusion import PUBLISHED_FUSION, UNUSED_GATES, fusion_layer
from .parts.pooling import GatedAttentionPooling, published_pooling
from .parts.snn import GeneSetTokenizer, gene_set_vectors


class CoAttention(nn.Module):
    """One-head attention of a few tokens over the patches.

    Keys and values of the patches are never formed: with q a query, q (W_k h + b_k) = (W_k^T q) h + q b_k, and the
    weights sum to one, so the values are W_v of the mixed patches plus b_v. The large products are with the few
    tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.in_projection = nn.Linear(dim, 3 * dim)
        self.out_projection = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, patches: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (b, P, dim) and the scaled products (b, P, n_p) before the softmax."""
        w_q, w_k, w_v = self.in_projection.weight.chunk(3)
        b_q, b_k, b_v = self.in_projection.bias.chunk(3)
        q = nn.functional.linear(tokens, w_q, b_q) * tokens.shape[-1] ** -0.5
        scores = (q @ w_k) @ patches.transpose(1, 2) + (q @ b_k).unsqueeze(-1)
        counted = scores
        if mask is not None:
            mask = mask.to(device=scores.device, dtype=torch.bool)
            counted = scores.masked_fill(~mask.unsqueeze(1), -torch.inf)
        mixed = counted.softmax(-1) @ patches
        return self.out_projection(nn.functional.linear(mixed, w_v, b_v)), scores


class TokenSummary(nn.Module):
    """Two post-norm transformer layers, gated attention pooling, Linear and ReLU: (b, P, dim) -> (b, dim)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(dim, 8, 2 * dim, dropout, batch_first=True) for _ in range(2))
        )
        self.pooling = GatedAttentionPooling(dim, dim, dropout)
        self.last = nn.Sequential(nn.Linear(dim, dim), nn.ReLU())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.pooling(self.layers(tokens))[0])


class MCAT(SurvivalModel):
    """Multimodal co-attention transformer; the published MCAT_Surv and MCATPathways.

    Parameters
    ----------
    gene_set_sizes : number of genes of each set, each at least 1; six sets as published.
    n_bins : intervals of follow-up.   dim : width of all tokens, a multiple of 8.
    pathology_dim : width of a patch feature.
    fusion : "concat" or "bilinear".   gated : gates in the bilinear fusion.   dropout : everywhere.

    References
    ----------
    Chen et al., Multimodal co-attention transformer for survival prediction in gigapixel whole slide images,
    ICCV 2021.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.GENOMIC})
    GENOMIC: ClassVar = InputForm.GENE_SETS
    ATTENTION: ClassVar = frozenset({"genomic_to_pathology"})

    def __init__(
        self,
        gene_set_sizes: Sequence[int],
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        fusion: str | None = "concat",
        gated: bool = True,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.gated = gated
        self.pathology_projection = nn.Sequential(
            nn.Linear(pathology_dim, dim), nn.ReLU(), nn.Dropout(dropout)
        )
        self.tokenizer = GeneSetTokenizer(gene_set_sizes, dim, dropout)
        self.co_attention = CoAttention(dim)
        self.pathology_summary = TokenSummary(dim, dropout)
        self.genomic_summary = TokenSummary(dim, dropout)
        self.fusion = fusion_layer(fusion, dim, gated)
        self.head = nn.Linear(dim, n_bins)

    def forward(
        self,
        pathology: Tensor,
        genomic: GenomicInput,
        clinic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p) patches and a list of (b, d_i), one a gene set; ``clinic`` is not looked at.

        Returns
        -------
        ModelOutput; attention "genomic_to_pathology" (b, P, n_p) is the co-attention before the softmax.
        """
        tokens = self.tokenizer(gene_set_vectors(genomic))
        attended, scores = self.co_attention(tokens, self.pathology_projection(pathology), patch_mask)
        embedding = self.fusion(self.pathology_summary(attended), self.genomic_summary(tokens))
        attention = {"genomic_to_pathology": scores.detach()} if return_attention else {}
        return ModelOutput(self.head(embedding), embedding, attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self.gated:
            state = {key: value for key, value in state.items() if key not in UNUSED_GATES}
        names = {
            "wsi_net.0.": "pathology_projection.0.",
            "coattn.in_proj_": "co_attention.in_projection.",
            "coattn.out_proj.": "co_attention.out_projection.",
            **PUBLISHED_FUSION,
            "classifier.": "head.",
        }
        for theirs, ours in (("path", "pathology_summary"), ("omic", "genomic_summary")):
            names |= {
                f"{theirs}_transformer.layers.": f"{ours}.layers.",
                **published_pooling(f"{theirs}_attention_head", f"{ours}.pooling"),
                f"{theirs}_rho.0.": f"{ours}.last.0.",
            }
        return rename(self.tokenizer.from_published(state, "sig_networks", "tokenizer"), names)


Model = MCAT
