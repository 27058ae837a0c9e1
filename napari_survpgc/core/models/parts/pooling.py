"""From patches to one vector a slide: mean and gated attention, padding left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_mean(rows: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of (b, n, d) over the rows where (b, n) ``mask`` is True; over all of them for None."""
    if mask is None:
        return rows.mean(1)
    weight = mask.to(rows).unsqueeze(-1)
    return (rows * weight).sum(1) / weight.sum(1)


class GatedAttentionPooling(nn.Module):
    """Gated attention pooling: s = w_c (tanh(W_a H) * sigmoid(W_b H)), pooled = softmax(s)^T H.

    Parameters
    ----------
    width : of the rows.   hidden : of the two gates.   dropout : after tanh and after sigmoid.

    References
    ----------
    Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018, Eq. 9.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.25) -> None:
        super().__init__()
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (b, width) pooled and the (b, n) scores before the softmax; ``mask`` is True where rows count."""
        content = self.dropout(self.content(rows).tanh())
        scores = self.score(content * self.dropout(self.gate(rows).sigmoid())).squeeze(-1)
        counted = scores
        if mask is not None:
            counted = scores.masked_fill(~mask.to(device=scores.device, dtype=torch.bool), -torch.inf)
        return (counted.softmax(-1).unsqueeze(1) @ rows).squeeze(1), scores


def published_pooling(theirs: str, ours: str) -> dict[str, str]:
    """Return the prefixes of the authors -> ours for a pooling that is named ``theirs`` there."""
    return {
        f"{theirs}.attention_a.0.": f"{ours}.content.",
        f"{theirs}.attention_b.0.": f"{ours}.gate.",
        f"{theirs}.attention_c.": f"{ours}.score.",
    }
