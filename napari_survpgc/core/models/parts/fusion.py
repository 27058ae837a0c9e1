"""Two vectors into one: concatenation or gated bilinear fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConcatFusion(nn.Module):
    """[a; b] -> Linear -> ReLU -> Linear -> ReLU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.layers(torch.cat([a, b], dim=-1))


class BilinearFusion(nn.Module):
    """Gated bilinear fusion: the outer product of two reduced vectors, each with a 1 appended.

    h_a = ReLU(H_a a); z_a = Z_a [a; b]; o_a = ReLU(O_a (sigmoid(z_a) * h_a)), the same for b; then
    [o_a; 1] [o_b; 1]^T, flattened, through two layers. Without gates o_a = ReLU(O_a h_a).

    Parameters
    ----------
    dim : width of both vectors and of the result; they are reduced to dim / 8.
    gated : let both vectors gate each.   skip : show a and b to the last layer too.
    dropout : on o_a, o_b and their product.   layer_dropout : after each of the two last layers.

    References
    ----------
    Chen et al., Pathomic fusion, IEEE Transactions on Medical Imaging 2022.
    """

    def __init__(
        self,
        dim: int,
        gated: bool = True,
        skip: bool = False,
        dropout: float = 0.25,
        layer_dropout: float = 0.25,
    ) -> None:
        super().__init__()
        reduced = dim // 8
        self.skip = skip
        self.hidden = nn.ModuleList(nn.Linear(dim, reduced) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(2 * dim, reduced) for _ in range(2 if gated else 0))
        self.reduced = nn.ModuleList(nn.Linear(reduced, reduced) for _ in range(2))
        self.first = nn.Linear((reduced + 1) ** 2, dim)
        self.second = nn.Linear(3 * dim if skip else dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.layer_dropout = nn.Dropout(layer_dropout)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat([a, b], dim=-1)
        factors = []
        for i, x in enumerate((a, b)):
            h = self.hidden[i](x).relu()
            if self.gates:
                h = self.gates[i](both).sigmoid() * h
            o = self.dropout(self.reduced[i](h).relu())
            factors.append(nn.functional.pad(o, (0, 1), value=1.0))
        product = (factors[0].unsqueeze(-1) * factors[1].unsqueeze(-2)).flatten(1)
        fused = self.layer_dropout(self.first(self.dropout(product)).relu())
        if self.skip:
            fused = torch.cat([fused, both], dim=-1)
        return self.layer_dropout(self.second(fused).relu())


FUSIONS = ("concat", "bilinear")


def fusion_layer(fusion: str | None, dim: int, gated: bool) -> nn.Module:
    """Return the fusion of ABMIL and MCAT; ValueError for an unknown one."""
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion}")
    return ConcatFusion(dim) if fusion == "concat" else BilinearFusion(dim, gated)


PUBLISHED_FUSION = {
    "mm.0.": "fusion.layers.0.",
    "mm.2.": "fusion.layers.2.",
    **{
        f"mm.linear_{letter}{i + 1}.0.": f"fusion.{layer}.{i}."
        for letter, layer in (("h", "hidden"), ("z", "gates"), ("o", "reduced"))
        for i in range(2)
    },
    "mm.encoder1.0.": "fusion.first.",
    "mm.encoder2.0.": "fusion.second.",
}
"""Prefixes of the authors -> ours."""

UNUSED_GATES = frozenset(f"mm.linear_z{i}.0.{kind}" for i in (1, 2) for kind in ("weight", "bias"))
"""Keys that the authors' bilinear fusion carries without using them when it is not gated."""
