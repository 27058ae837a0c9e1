"""Sparse group attention: a few tokens see everything, patches see only the tokens.

The patch-to-patch block never exists, so memory is linear in the number of patches. Queries, keys and values of the
patches are needed only against the tokens; with Y the normalized patches, ``q_t (Y W_k)^T = (q_t W_k^T) Y^T`` and
``S (Y W_v) = (S Y) W_v``: the large products with W are done on the few tokens instead. The affine part of the
LayerNorm is folded in the same way, so that the normalized patches can be shared by several attentions and kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_survpgc.core.models.base import PatchState, PathOutput

CHUNK = 16384
"""Patches that go through the feed-forward network at once."""
CPU_NUMBERS = 1 << 18
"""Numbers of a layer at once on a processor, without training: what one core keeps in its cache."""


class GroupAttention(nn.Module):
    """LayerNorm and one-head attention of P tokens over [tokens; patches]; no residual, no output projection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * (dim // 2), bias=False)

    def forward(self, tokens: Tensor, patches: PatchState) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Attend.

        Parameters
        ----------
        tokens : (b, P, dim).   patches : see PatchState.

        Returns
        -------
        out (b, P, dim/2) of the tokens; A_tt (b, P, P); A_tp (b, P, n_p); C (b, n_p, P), all pre-softmax;
        v (b, P, dim/2), the values that patches mix by softmax(C).
        """
        half = self.to_qkv.out_features // 3
        w_q, w_k, w_v = self.to_qkv.weight.split(half)  # each (half, dim)
        scale = half**-0.5
        q, k, v = self.to_qkv(self.norm(tokens)).split(half, dim=-1)
        q = q * scale
        normalized, gamma, beta = patches.normalized, self.norm.weight, self.norm.bias

        def against_patches(rows: Tensor) -> Tensor:  # (b, P, dim) -> (b, P, n_p)
            return (rows * gamma) @ normalized.transpose(1, 2) + (rows @ beta).unsqueeze(-1)

        a_tt = q @ k.transpose(1, 2)
        # Both directions in one pass over the patches.
        a_tp, c = against_patches(torch.cat([q @ w_k, k @ w_q * scale], dim=1)).split(tokens.shape[1], dim=1)
        c = c.transpose(1, 2)
        scores = a_tp
        if patches.mask is not None:
            scores = a_tp.masked_fill(~patches.mask.unsqueeze(1), -torch.inf)
        weights = torch.cat([a_tt, scores], dim=-1).softmax(-1)
        w_t, w_p = weights[..., : tokens.shape[1]], weights[..., tokens.shape[1] :]
        mixed = (w_p @ normalized) * gamma + w_p.sum(-1, keepdim=True) * beta
        return w_t @ v + mixed @ w_v.T, a_tt, a_tp, c, v


class FeedForward(nn.Module):
    """LN -> Linear -> GELU -> dropout -> Linear -> LN, without residual; width stays."""

    def __init__(self, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(width, width)
        self.final_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self._rest(self.inner(self.norm(x)))

    def of_mixtures(self, weights: Tensor, values: Tensor) -> Tensor:
        """Return ``forward(weights^T @ values)``: rows that mix a few values, as the patches mix those of the tokens.

        With V the values minus their means over the width, the first LayerNorm of row s V is (s V) / sd * gain + bias;
        so the inner layer needs to be applied to the few rows of V alone.

        Parameters
        ----------
        weights : (b, P, n).   values : (b, P, width).

        Returns
        -------
        (b, n, width)
        """
        centered = values - values.mean(-1, keepdim=True)
        deviation = torch.linalg.vector_norm(weights.transpose(1, 2) @ centered, dim=-1)  # (b, n)
        variance = deviation.square() / values.shape[-1] + self.norm.eps
        inner = (centered * self.norm.weight) @ self.inner.weight.T
        bias = self.inner(self.norm.bias)
        scaled = weights * variance.rsqrt().unsqueeze(1)
        return self._rest(torch.baddbmm(bias, scaled.transpose(1, 2), inner))

    def _rest(self, inner: Tensor) -> Tensor:
        return self.final_norm(self.outer(self.dropout(nn.functional.gelu(inner))))


def attend(
    attention: GroupAttention, feed_forward: FeedForward, tokens: Tensor, patches: PatchState
) -> PathOutput:
    """Run one path: attention, feed-forward, means over tokens and over patches (padding left out)."""
    out, a_tt, a_tp, c, v = attention(tokens, patches)
    total: Tensor | None = None
    in_cache = c.device.type == "cpu" and not feed_forward.training
    chunk = CPU_NUMBERS // v.shape[-1] if in_cache else CHUNK
    for start in range(0, c.shape[1], chunk):
        part = slice(start, start + chunk)
        # Over the tokens, with the patches side by side in memory: ten times faster than over short rows.
        rows = feed_forward.of_mixtures(c[:, part].transpose(1, 2).softmax(1), v)
        if patches.mask is not None:
            rows = rows * patches.mask[:, part].unsqueeze(-1)
        summed = rows.sum(1)
        total = summed if total is None else total + summed
    if total is None:
        raise ValueError("a slide needs at least one patch")
    if patches.mask is None:
        pathology = total / c.shape[1]
    else:
        pathology = total / patches.mask.sum(1, keepdim=True).to(total.dtype)
    return PathOutput(
        tokens=feed_forward(out).mean(1),
        pathology=pathology,
        to_tokens=a_tt.detach(),
        to_pathology=a_tp.detach(),
        from_pathology=c.detach(),
    )


def attention_blocks(name: str, out: PathOutput) -> dict[str, Tensor]:
    """Return the blocks of a path under their names, <modality>_to_<modality>; none for a missing modality."""
    blocks = {
        f"{name}_to_{name}": out.to_tokens,
        f"{name}_to_pathology": out.to_pathology,
        f"pathology_to_{name}": out.from_pathology,
    }
    return {key: block for key, block in blocks.items() if block is not None}


def normalize_patches(projected: Tensor, patch_mask: Tensor | None) -> PatchState:
    """Return the patches normalized over their width, without gain and bias (those belong to the attention)."""
    if projected.shape[1] == 0:
        raise ValueError("a slide needs at least one patch")
    if patch_mask is not None:
        patch_mask = patch_mask.to(device=projected.device, dtype=torch.bool)
    return PatchState(nn.functional.layer_norm(projected, projected.shape[-1:]), patch_mask)


PUBLISHED_FEED_FORWARD = {
    "feed_forward.norm.": "feed_forward.norm.",
    "feed_forward.net.0.": "feed_forward.inner.",
    "feed_forward.net.3.": "feed_forward.outer.",
    "layer_norm.": "feed_forward.final_norm.",
    "to_logits.": "head.",
}
"""Names of the authors -> ours, shared by the models of the SurvPath family."""

UNUSED_FEED_FORWARD = frozenset(
    f"{layer}.{kind}"
    for layer in ("feed_forward.norm", "feed_forward.net.0", "feed_forward.net.3", "layer_norm")
    for kind in ("weight", "bias")
)
"""Keys that the authors' pooling baselines carry and never use."""


def logit_head(width: int, hidden: int, n_bins: int) -> nn.Sequential:
    """Return Linear -> ReLU -> Linear."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, n_bins))
