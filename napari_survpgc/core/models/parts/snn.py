"""Self-normalizing blocks (Linear, ELU, AlphaDropout) for expression, one network a gene set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def snn_block(d_in: int, d_out: int, dropout: float = 0.25) -> nn.Sequential:
    """Return Linear -> ELU -> AlphaDropout."""
    return nn.Sequential(nn.Linear(d_in, d_out), nn.ELU(), nn.AlphaDropout(dropout))


def gene_set_vectors(genomic: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the list of (b, d_i) that gene-set models take; TypeError for one tensor."""
    if isinstance(genomic, Tensor):
        raise TypeError("gene-set models take a list of (b, d_i) vectors, one a gene set")
    return genomic


class GeneSetTokenizer(nn.Module):
    """Two SNN blocks of its own for each gene set, all sets in two batched products.

    The first weights are padded to the largest set; padded inputs are zero, so padding gets no gradient and stays
    zero.
    """

    def __init__(self, sizes: Sequence[int], dim: int, dropout: float = 0.25) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError("every gene set needs at least one gene: leave empty sets out")
        self.sizes = tuple(int(s) for s in sizes)
        n, widest = len(self.sizes), max(self.sizes)
        self.first_weight = nn.Parameter(torch.zeros(n, widest, dim))
        self.first_bias = nn.Parameter(torch.zeros(n, dim))
        self.second_weight = nn.Parameter(torch.empty(n, dim, dim))
        self.second_bias = nn.Parameter(torch.empty(n, dim))
        self.dropout = nn.AlphaDropout(dropout)
        with torch.no_grad():  # as nn.Linear does, by each set's own size
            for i, size in enumerate(self.sizes):
                bound = size**-0.5
                self.first_weight[i, :size].uniform_(-bound, bound)
                self.first_bias[i].uniform_(-bound, bound)
            self.second_weight.uniform_(-(dim**-0.5), dim**-0.5)
            self.second_bias.uniform_(-(dim**-0.5), dim**-0.5)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Turn a list of (b, d_i) into (b, n_sets, dim) tokens."""
        if len(vectors) != len(self.sizes):
            raise ValueError(f"{len(vectors)} gene sets given, the model has {len(self.sizes)}")
        widest = self.first_weight.shape[1]
        padded = torch.stack(
            [nn.functional.pad(v.to(self.first_weight.dtype), (0, widest - v.shape[-1])) for v in vectors]
        )  # (n_sets, b, widest)
        hidden = torch.baddbmm(self.first_bias.unsqueeze(1), padded, self.first_weight)
        hidden = self.dropout(nn.functional.elu(hidden))
        tokens = torch.baddbmm(self.second_bias.unsqueeze(1), hidden, self.second_weight)
        return self.dropout(nn.functional.elu(tokens)).transpose(0, 1)

    def from_published(self, state: Mapping[str, Tensor], prefix: str, ours: str) -> dict[str, Tensor]:
        """Pack ``<prefix>.<i>.{0,1}.0.{weight,bias}`` of the authors into our four tensors; other keys stay."""
        result = {k: v for k, v in state.items() if not k.startswith(prefix + ".")}
        rest = {k for k in state if k.startswith(prefix + ".")}
        packed = {
            "first_weight": torch.zeros_like(self.first_weight),
            "first_bias": torch.zeros_like(self.first_bias),
            "second_weight": torch.zeros_like(self.second_weight),
            "second_bias": torch.zeros_like(self.second_bias),
        }
        for i, size in enumerate(self.sizes):
            for layer, name in ((0, "first"), (1, "second")):
                weight_key, bias_key = f"{prefix}.{i}.{layer}.0.weight", f"{prefix}.{i}.{layer}.0.bias"
                weight = state[weight_key]
                wanted = size if layer == 0 else self.second_weight.shape[1]
                if weight.shape != (self.second_weight.shape[2], wanted):
                    raise ValueError(f"{weight_key} is {tuple(weight.shape)}")
                packed[f"{name}_weight"][i, :wanted] = weight.T
                packed[f"{name}_bias"][i] = state[bias_key]
                rest -= {weight_key, bias_key}
        result.update({k: state[k] for k in rest})
        result.update({f"{ours}.{name}": value.detach() for name, value in packed.items()})
        return result
