"""The published SurvPGC written out as its equations stand, to measure against: every product in full."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Attention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(dim, 3 * (dim // 2), bias=False)

    def forward(self, y: Tensor, n_tokens: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v = self.to_qkv(y).chunk(3, dim=-1)
        q = q * q.shape[-1] ** -0.5
        group = q[:, :n_tokens] @ k.transpose(1, 2)
        others = q[:, n_tokens:] @ k[:, :n_tokens].transpose(1, 2)
        out = torch.cat([group.softmax(-1) @ v, others.softmax(-1) @ v[:, :n_tokens]], dim=1)
        return out, group[:, :, :n_tokens], group[:, :, n_tokens:], others


class _Layer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = _Attention(dim)


class _FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.net = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.norm(x))


class PublishedSurvPGC(nn.Module):
    """Under the authors' names of the weights; see ``core.models.survpgc`` for what it computes."""

    def __init__(
        self, dim: int = 256, pathology_dim: int = 1024, clinic_dim: int = 512, genomic_dim: int = 768
    ) -> None:
        super().__init__()
        self.gene_projection_net = nn.Sequential(nn.Linear(genomic_dim, dim))
        self.wsi_projection_net = nn.Sequential(nn.Linear(pathology_dim, dim))
        self.clinic_projection_net = nn.Sequential(nn.Linear(clinic_dim, dim))
        self.cross_attender1, self.cross_attender2 = _Layer(dim), _Layer(dim)
        self.feed_forward = _FeedForward(dim // 2)
        self.layer_norm = nn.LayerNorm(dim // 2)
        self.to_logits = nn.Sequential(nn.Linear(2 * dim, dim // 4), nn.ReLU(), nn.Linear(dim // 4, 4))

    def forward(self, pathology: Tensor, clinic: Tensor, genomic: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits and the six attention blocks."""
        patches = self.wsi_projection_net(pathology)
        pooled: list[Tensor] = []
        maps: list[Tensor] = []
        for tokens, layer in (
            (self.gene_projection_net(genomic), self.cross_attender1),
            (self.clinic_projection_net(clinic), self.cross_attender2),
        ):
            n = tokens.shape[1]
            out, *blocks = layer.attn(layer.norm(torch.cat([tokens, patches], dim=1)), n)
            out = self.layer_norm(self.feed_forward(out))
            pooled += [out[:, :n].mean(1), out[:, n:].mean(1)]
            maps += [block.detach() for block in blocks]
        return self.to_logits(torch.cat(pooled, dim=1)), maps
