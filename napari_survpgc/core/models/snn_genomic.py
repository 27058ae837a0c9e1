"""Self-normalizing network on the expression vector."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import ModelOutput, SurvivalModel, rename
from .parts.snn import snn_block

SIZES = {"small": (256, 256), "big": (1024, 1024, 1024, 256)}


def snn_stack(d_in: int, size: str, dropout: float) -> nn.Sequential:
    """Return the blocks of a size; weights N(0, 1 / fan_in), biases 0, as self-normalization asks for."""
    if size not in SIZES:
        raise ValueError(f"size must be small or big, not {size}")
    widths = (d_in, *SIZES[size])
    stack = nn.Sequential(*(snn_block(a, b, dropout) for a, b in itertools.pairwise(widths)))
    initialize(stack)
    return stack


def initialize(module: nn.Module) -> None:
    """Set linear weights to N(0, 1 / fan_in) and biases to 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)


class SNNGenomic(SurvivalModel):
    """The published SNNOmics.

    Parameters
    ----------
    genomic_dim : number of genes.   size : "small" or "big".
    """

    REQUIRES: ClassVar = frozenset({Modality.GENOMIC})
    SMALL: ClassVar = {}

    def __init__(
        self, n_bins: int = 4, genomic_dim: int = 4999, size: str = "small", dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.blocks = snn_stack(genomic_dim, size, dropout)
        self.head = nn.Linear(SIZES[size][-1], n_bins)
        initialize(self.head)

    def forward(
        self,
        genomic: Tensor,
        pathology: Tensor | None = None,
        clinic: Tensor | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_genes); the other modalities are not looked at."""
        embedding = self.blocks(genomic)
        return ModelOutput(self.head(embedding), embedding)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(state, {"fc_omic.": "blocks.", "classifier.": "head."})


Model = SNNGenomic
