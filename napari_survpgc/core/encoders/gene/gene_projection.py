"""Fixed random projections of expression: the embedded gene encoder, for models that take genomic tokens.

Four tokens of 768 numbers, the shape of scFoundation's, each a projection of its own: distances between patients are kept
up to a few percent (Johnson and Lindenstrauss). Nothing is learned. A gene's direction depends on its symbol
alone, so that the order of the genes does not matter and another list of genes gives comparable tokens.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.types import EncoderKind, GeneValues, ProgressCallback

CARD = EncoderCard(
    id="gene-projection",
    kind=EncoderKind.GENE,
    title="Random projections of genes",
    licence="BSD-3-Clause",
    dim=768,
    n_tokens=4,
    weights_mb=0,
    embedded=True,
)


class GeneProjection:
    """See the module's docstring."""

    id, n_tokens, dim = CARD.id, CARD.n_tokens, CARD.dim
    values = GeneValues.ZSCORE

    def encode(
        self,
        values: NDArray[np.float32],
        genes: Sequence[str],
        *,
        total: float | None = None,
        progress: ProgressCallback | None = None,
    ) -> NDArray[np.float32]:
        """Encode (n_genes,) z-scores into (4, 768); a component has the z-scores' own variance."""
        directions = _directions(tuple(genes))
        tokens = np.asarray(values, np.float32) @ directions / np.float32(np.sqrt(len(genes)))
        return tokens.reshape(self.n_tokens, self.dim)


@functools.lru_cache(maxsize=2)
def _directions(genes: tuple[str, ...]) -> NDArray[np.float32]:
    """Return (n_genes, 4 * 768) signs of +-1: the bits of a hash of each symbol, the same on every machine."""
    size = GeneProjection.n_tokens * GeneProjection.dim
    bits = np.stack(
        [np.frombuffer(hashlib.shake_256(gene.encode()).digest(size // 8), np.uint8) for gene in genes]
    )
    return np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1


def load(device: str = "auto") -> GeneProjection:
    """Return the encoder; it runs on the processor, whatever ``device`` says."""
    return GeneProjection()
