"""PORPOISE: a slide pooled by gated attention and an expression vector, fused bilinearly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import ModelOutput, SurvivalModel, rename
from .parts.fusion import PUBLISHED_FUSION, UNUSED_GATES, BilinearFusion
from .parts.pooling import GatedAttentionPooling, published_pooling
from .parts.snn import snn_block


class Porpoise(SurvivalModel):
    """The published PorpoiseMMF with its bilinear fusion, the only one that runs there.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : width of the fused vectors; patches are projected to 2 dim.
    pathology_dim : width of a patch feature.   genomic_dim : number of genes.
    fusion : "bilinear"; nothing else is published.
    gated : let both modalities gate each other.
    skip : show both modalities to the last layer of the fusion. None: as ``gated``, so that ``gated=False`` is
        the plain variant, without gates, skip and self-normalization.
    self_normalizing : ELU and AlphaDropout on expression instead of ReLU and dropout. None: as ``gated``.
    dropout : everywhere but on the patch features, which have ``input_dropout``.

    References
    ----------
    Chen et al., Pan-cancer integrative histology-genomic analysis via multimodal deep learning, Cancer Cell 2022.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.GENOMIC})
    ATTENTION: ClassVar = frozenset({"pathology"})

    def __init__(
        self,
        n_bins: int = 4,
        dim: int = 256,
        pathology_dim: int = 1024,
        genomic_dim: int = 4999,
        fusion: str | None = "bilinear",
        gated: bool = True,
        skip: bool | None = None,
        self_normalizing: bool | None = None,
        dropout: float = 0.25,
        input_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if fusion != "bilinear":
            raise ValueError(f"PORPOISE fuses by bilinear only, not {fusion}")
        self.gated = gated
        skip = gated if skip is None else skip
        self_normalizing = gated if self_normalizing is None else self_normalizing

        def block(d_in: int) -> nn.Sequential:
            if self_normalizing:
                return snn_block(d_in, dim, dropout)
            return nn.Sequential(nn.Linear(d_in, dim), nn.ReLU(), nn.Dropout(dropout))

        self.pathology_projection = nn.Sequential(
            nn.Dropout(input_dropout), nn.Linear(pathology_dim, 2 * dim), nn.ReLU(), nn.Dropout(dropout)
        )
        self.pooling = GatedAttentionPooling(2 * dim, dim, dropout)
        self.slide = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU())
        self.expression = nn.Sequential(block(genomic_dim), block(dim))
        self.fusion = BilinearFusion(dim, gated, skip, dropout, layer_dropout=0.0)
        self.head = nn.Linear(dim, n_bins)

    def forward(
        self,
        pathology: Tensor,
        genomic: Tensor,
        clinic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p) patches and (b, n_genes); ``clinic`` is not looked at.

        Returns
        -------
        ModelOutput; attention "pathology" (b, n_p) holds the scores before the softmax.
        """
        pooled, scores = self.pooling(self.pathology_projection(pathology), patch_mask)
        embedding = self.fusion(self.slide(pooled), self.expression(genomic))
        attention = {"pathology": scores.detach()} if return_attention else {}
        return ModelOutput(self.head(embedding), embedding, attention)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their ``attention_net`` counts the dropout of the input, where there is one, as its first layer."""
        if not self.gated:
            state = {key: value for key, value in state.items() if key not in UNUSED_GATES}
        first = 1 if "attention_net.1.weight" in state else 0
        return rename(
            state,
            {
                f"attention_net.{first}.": "pathology_projection.1.",
                **published_pooling(f"attention_net.{first + 3}", "pooling"),
                "rho.0.": "slide.0.",
                "fc_omic.": "expression.",
                **PUBLISHED_FUSION,
                "classifier_mm.": "head.",
            },
        )


Model = Porpoise
