"""The network of scFoundation: values of genes to cell tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_survpgc.core.types import ProgressCallback

_SCORE_BYTES = 1 << 30


_FF_MULT = 4


_SLOPE = 0.1


@dataclass(frozen=True)
class CellConfig:
    """Sizes of the network, as the checkpoint states them.

    Attributes
    ----------
    seq_len : genes and the two totals.   hidden, depth, heads : of the encoder.
    bins : between which the embedding of a value is interpolated.   bin_alpha : weight of the first layer's output.
    mask_id, pad_id : values that stand for "masked" and "padding".
    """

    seq_len: int
    hidden: int
    depth: int
    heads: int
    bins: int
    bin_alpha: float
    mask_id: int
    pad_id: int


class ValueEmbedding(nn.Module):
    """A value as a mixture of learned bins; keys ``token_emb.*``."""

    def __init__(self, config: CellConfig) -> None:
        super().__init__()
        self.mlp = nn.Linear(1, config.bins)
        self.mlp2 = nn.Linear(config.bins, config.bins)
        self.emb = nn.Embedding(config.bins, config.hidden)
        self.emb_mask = nn.Embedding(1, config.hidden)
        self.emb_pad = nn.Embedding(1, config.hidden)
        self._alpha, self._mask_id, self._pad_id = config.bin_alpha, config.mask_id, config.pad_id

    def bin_weights(self, values: Tensor) -> Tensor:
        """Return (..., R) weights that sum to 1 for (...) values."""
        z = F.leaky_relu(self.mlp(values.unsqueeze(-1)), _SLOPE)
        return torch.softmax(self._alpha * z + self.mlp2(z), -1)

    def forward(self, values: Tensor) -> Tensor:
        """Embed (...) values into (..., H); the ids of mask and padding have vectors of their own."""
        rows = self.bin_weights(values) @ self.emb.weight
        # As published, also for a measured value that happens to equal an id.
        for number, vector in ((self._mask_id, self.emb_mask), (self._pad_id, self.emb_pad)):
            rows = torch.where((values == number).unsqueeze(-1), vector.weight[0], rows)
        return rows


class SelfAttention(nn.Module):
    """Multi-head attention of one sequence with itself, no mask; keys as of torch's own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self._heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """(L, H) -> (L, H)."""
        length, width = x.shape
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        # (1, heads, L, width / heads) each: the layout for which torch has kernels without an L x L matrix.
        q, k, v = packed.view(length, 3, self._heads, -1).permute(1, 2, 0, 3).unsqueeze(1)
        # Not every device has such a kernel: a bounded number of queries at once keeps the matrix small there.
        rows = max(1, _SCORE_BYTES // (self._heads * length * x.element_size()))
        parts = [
            F.scaled_dot_product_attention(q[:, :, start : start + rows], k, v)
            for start in range(0, length, rows)
        ]
        return self.out_proj(torch.cat(parts, 2)[0].transpose(0, 1).reshape(length, width))


class Layer(nn.Module):
    """Post-norm transformer layer with ReLU (torch's default); keys ``encoder.transformer_encoder.<i>.*``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.linear1 = nn.Linear(width, _FF_MULT * width)
        self.linear2 = nn.Linear(_FF_MULT * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(L, H) -> (L, H)."""
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x), inplace=True)))


class _Encoder(nn.Module):
    """The layers and the last normalization, under the checkpoint's names."""

    def __init__(self, config: CellConfig) -> None:
        super().__init__()
        self.transformer_encoder = nn.ModuleList(
            Layer(config.hidden, config.heads) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.hidden)


class CellNetwork(nn.Module):
    """The encoder half of scFoundation, under the checkpoint's key names."""

    def __init__(self, config: CellConfig) -> None:
        super().__init__()
        self.token_emb = ValueEmbedding(config)
        self.pos_emb = nn.Embedding(config.seq_len + 1, config.hidden)
        self.encoder = _Encoder(config)

    def forward(self, values: Tensor, places: Tensor, progress: ProgressCallback | None = None) -> Tensor:
        """Encode one sample.

        Parameters
        ----------
        values : (L,) float32, above 0.   places : (L,) int64, which gene (or T, S) each belongs to.
        progress : called after every layer.

        Returns
        -------
        (L, H) float32.
        """
        x = self.token_emb(values) + self.pos_emb(places)
        layers = self.encoder.transformer_encoder
        for done, layer in enumerate(layers, start=1):
            x = layer(x)
            if progress:
                progress("genes", done, len(layers))
        return self.encoder.norm(x)
