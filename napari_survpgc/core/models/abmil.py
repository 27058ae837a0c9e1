"""ABMIL: gated attention pools the patches; expression may be fused with the pooled slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import ModelOutput, SurvivalModel, rename
from .parts.fusion import PUBLISHED_FUSION, UNUSED_GATES, fusion_layer
from .parts.pooling import GatedAttentionPooling, published_pooling

Composition = Tensor | NDArray[np.generic] | Sequence[Sequence[int]]
"""(genes, pathways), nonzero where the gene belongs to the pathway."""


class PathwayLayers(nn.Module):
    """Two sparse layers: genes reach only the units of their pathways, and these only their own pathway's.

    The second weights are kept as one small block a pathway instead of a masked matrix of all pathways.

    Parameters
    ----------
    composition : see Composition; kept out of the state_dict, as published.
    first, second : units a pathway in the two layers.
    """

    member: Tensor

    def __init__(self, composition: Composition, first: int = 8, second: int = 16) -> None:
        super().__init__()
        member = torch.as_tensor(composition) != 0
        if member.ndim != 2:
            raise ValueError(f"the composition is (genes, pathways), not {tuple(member.shape)}")
        self.n_genes, self.n_pathways = member.shape
        self.first, self.second = first, second
        self.register_buffer("member", member.repeat_interleave(first, dim=1), persistent=False)
        self.first_weight = nn.Parameter(torch.empty(self.n_genes, self.n_pathways * first))
        self.first_bias = nn.Parameter(torch.empty(self.n_pathways * first))
        self.second_weight = nn.Parameter(torch.empty(self.n_pathways, first, second))
        self.second_bias = nn.Parameter(torch.empty(self.n_pathways, second))
        with torch.no_grad():  # as nn.Linear does, by each pathway's own number of genes
            bound = self.member.sum(0).clamp(min=1) ** -0.5
            self.first_weight.uniform_(-1, 1).mul_(bound)
            self.first_bias.uniform_(-1, 1).mul_(bound)
            self.second_weight.uniform_(-(first**-0.5), first**-0.5)
            self.second_bias.uniform_(-(first**-0.5), first**-0.5)

    def forward(self, expression: Tensor) -> Tensor:
        """Turn (b, genes) into (b, pathways * second)."""
        hidden = (expression @ (self.first_weight * self.member) + self.first_bias).relu()
        blocks = hidden.unflatten(-1, (self.n_pathways, self.first))
        return (torch.einsum("bpi,pij->bpj", blocks, self.second_weight) + self.second_bias).flatten(1)

    def from_published(self, state: Mapping[str, Tensor], ours: str) -> dict[str, Tensor]:
        """Rename ``fc_1_*`` and take the pathways' blocks out of ``fc_2_*``; other keys stay."""
        result = dict(state)
        for kind in ("weight", "bias"):
            result[f"{ours}.first_{kind}"] = result.pop(f"fc_1_{kind}")
        size = (self.n_pathways, self.first, self.n_pathways, self.second)
        blocks = result.pop("fc_2_weight").view(size).diagonal(dim1=0, dim2=2)  # (first, second, pathways)
        result[f"{ours}.second_weight"] = blocks.permute(2, 0, 1)
        result[f"{ours}.second_bias"] = result.pop("fc_2_bias").view(self.n_pathways, self.second)
        return result


class ABMIL(SurvivalModel):
    """Attention-based multiple instance learning, alone or fused with pathway layers on expression.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : width of all layers.   pathology_dim : width of a patch feature.
    fusion : "concat" or "bilinear" to look at expression too; None for the slide alone.
    gated : gates in the bilinear fusion.
    composition : (genes, pathways), nonzero where the gene belongs to the pathway; needed for a fusion only.
    genomic_dim : number of genes; the composition's when left out.
    pathway_dims : units a pathway in the two sparse layers.
    dropout : after the projected patches and in the attention.

    References
    ----------
    Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY})
    ATTENTION: ClassVar = frozenset({"pathology"})

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> frozenset[Modality]:
        return cls.REQUIRES | {Modality.GENOMIC} if config.get("fusion") is not None else cls.REQUIRES

    def __init__(
        self,
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        fusion: str | None = None,
        gated: bool = True,
        composition: Composition | None = None,
        genomic_dim: int | None = None,
        pathway_dims: tuple[int, int] = (8, 16),
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.gated = gated
        self.pathology_projection = nn.Sequential(
            nn.Linear(pathology_dim, dim), nn.ReLU(), nn.Dropout(dropout)
        )
        self.pooling = GatedAttentionPooling(dim, dim, dropout)
        self.slide = nn.Sequential(nn.Linear(dim, dim), nn.ReLU())
        self.pathways: PathwayLayers | None = None
        if fusion is not None:
            if composition is None:
                raise ValueError("fusing expression needs the composition of the pathways")
            self.REQUIRES = frozenset({Modality.PATHOLOGY, Modality.GENOMIC})  # type: ignore[misc]  # by fusion
            self.pathways = PathwayLayers(composition, *pathway_dims)
            if genomic_dim not in (None, self.pathways.n_genes):
                raise ValueError(
                    f"{genomic_dim} genes, but the composition of the pathways has {self.pathways.n_genes}"
                )
            self.upscale = nn.Sequential(
                nn.Linear(self.pathways.n_pathways * pathway_dims[1], dim // 4),
                nn.ReLU(),
                nn.Linear(dim // 4, dim),
            )
            self.fusion = fusion_layer(fusion, dim, gated)
        self.head = nn.Linear(dim, n_bins)

    def forward(
        self,
        pathology: Tensor,
        genomic: Tensor | None = None,
        clinic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p) patches and, with a fusion, (b, n_genes); ``clinic`` is not looked at.

        Returns
        -------
        ModelOutput; attention "pathology" (b, n_p) holds the scores before the softmax.
        """
        pooled, scores = self.pooling(self.pathology_projection(pathology), patch_mask)
        embedding = self.slide(pooled)
        if self.pathways is not None:
            if genomic is None:
                raise TypeError("this model was built with a fusion: genomic is missing")
            embedding = self.fusion(embedding, self.upscale(self.pathways(genomic)))
        attention = {"pathology": scores.detach()} if return_attention else {}
        return ModelOutput(self.head(embedding), embedding, attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.pathways is not None:
            state = self.pathways.from_published(state, "pathways")
        if not self.gated:
            state = {key: value for key, value in state.items() if key not in UNUSED_GATES}
        return rename(
            state,
            {
                "attention_net.0.": "pathology_projection.0.",
                **published_pooling("attention_net.3", "pooling"),
                "rho.0.": "slide.0.",
                **PUBLISHED_FUSION,
                "classifier.": "head.",
            },
        )


Model = ABMIL
