"""TransMIL: Nystrom attention among all patches, with positions from a square arrangement of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_survpgc.core.types import Modality

from .base import GenomicInput, ModelOutput, SurvivalModel, rename


def pseudo_inverse(matrix: Tensor, iterations: int = 6) -> Tensor:
    """Return the iterated pseudo-inverse of (b, heads, m, m) softmax matrices (Xiong et al., Eq. 14).

    The published code scales the first guess by maxima over the whole batch; here each slide has its own, so that
    a slide's result does not depend on its neighbours (the same for a batch of one).
    """
    rows, columns = matrix.sum(-1).amax((1, 2)), matrix.sum(-2).amax((1, 2))
    z = matrix.transpose(-1, -2) / (rows * columns).view(-1, 1, 1, 1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(iterations):
        az = matrix @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z


class NystromAttention(nn.Module):
    """Attention through landmarks, linear in the number of tokens, plus a convolution of the values over tokens.

    Parameters
    ----------
    dim : width, a multiple of ``heads``.   landmarks : means of consecutive queries and keys.
    kernel : tokens that the convolution sees, odd.   dropout : on the output.

    References
    ----------
    Xiong et al., Nystromformer: a Nystrom-based algorithm for approximating self-attention, AAAI 2021.
    """

    def __init__(
        self, dim: int, heads: int = 8, landmarks: int = 256, kernel: int = 33, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.heads, self.landmarks = heads, landmarks
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))
        self.res_conv = nn.Conv2d(
            heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn (b, n, dim) into (b, n, dim); zero tokens in front fill up to a multiple of the landmarks."""
        n = x.shape[1]
        x = nn.functional.pad(x, (0, 0, -n % self.landmarks, 0))
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(x).chunk(3, -1)
        )  # each (b, heads, tokens, dim / heads)
        q = q * q.shape[-1] ** -0.5
        q_mean = q.unflatten(2, (self.landmarks, -1)).mean(3)
        k_mean = k.unflatten(2, (self.landmarks, -1)).mean(3)
        to_landmarks = (q @ k_mean.transpose(-1, -2)).softmax(-1)
        inverse = pseudo_inverse((q_mean @ k_mean.transpose(-1, -2)).softmax(-1))
        from_landmarks = (q_mean @ k.transpose(-1, -2)).softmax(-1)
        out = to_landmarks @ (inverse @ (from_landmarks @ v)) + self.res_conv(v)
        return self.to_out(out.transpose(1, 2).flatten(2))[:, -n:]


class AttentionLayer(nn.Module):
    """X + Nystrom(LN(X))."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = NystromAttention(dim, landmarks=dim // 2, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(self.norm(x))


class PositionLayer(nn.Module):
    """Pyramid position encoding: depthwise convolutions over the square of patches; the class token passes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim) for size in (7, 5, 3)
        )

    def forward(self, x: Tensor, side: int) -> Tensor:
        square = x[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        moved = square
        for convolution in self.convolutions:
            moved = moved + convolution(square)
        return torch.cat([x[:, :1], moved.flatten(2).transpose(1, 2)], dim=1)


class TransMIL(SurvivalModel):
    """Transformer-based correlated multiple instance learning.

    The order of the patches matters: it places them in the square.

    Parameters
    ----------
    n_bins : intervals of follow-up.   dim : width of all tokens, a multiple of 8; 8 heads, dim / 2 landmarks.
    pathology_dim : width of a patch feature.   dropout : on the output of both attentions.

    References
    ----------
    Shao et al., TransMIL: transformer based correlated multiple instance learning for whole slide image
    classification, NeurIPS 2021.
    """

    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY})
    POSITIONAL: ClassVar = True

    def __init__(
        self, n_bins: int = 4, dim: int = 512, pathology_dim: int = 1024, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.pathology_projection = nn.Sequential(nn.Linear(pathology_dim, dim), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.layer1 = AttentionLayer(dim, dropout)
        self.positions = PositionLayer(dim)
        self.layer2 = AttentionLayer(dim, dropout)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, n_bins)

    def embed(self, pathology: Tensor) -> Tensor:
        """Turn (b, n_p, d_p) into (b, dim), the class token after both layers.

        The first patches are repeated to fill a square.
        """
        patches = self.pathology_projection(pathology)
        n = patches.shape[1]
        if n == 0:
            raise ValueError("a slide needs at least one patch")
        side = math.ceil(math.sqrt(n))
        square = torch.cat([patches, patches[:, : side * side - n]], dim=1)
        x = torch.cat([self.class_token.expand(len(square), -1, -1), square], dim=1)
        x = self.layer2(self.positions(self.layer1(x), side))
        return self.norm(x[:, 0])

    def forward(
        self,
        pathology: Tensor,
        clinic: Tensor | None = None,
        genomic: GenomicInput | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        """Take (b, n_p, d_p); the other modalities are not looked at.

        With a ``patch_mask`` slides go one by one without their padding, for it would shift the square and the
        landmarks. There is no attention to return: the approximation never forms a row over the patches.
        """
        if patch_mask is None:
            embedding = self.embed(pathology)
        else:
            mask = patch_mask.to(device=pathology.device, dtype=torch.bool)
            slides = zip(pathology, mask, strict=True)
            embedding = torch.cat([self.embed(rows[counts].unsqueeze(0)) for rows, counts in slides])
        return ModelOutput(self.head(embedding), embedding)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(
            state,
            {
                "_fc1.0.": "pathology_projection.0.",
                "cls_token": "class_token",
                "pos_layer.proj.": "positions.convolutions.0.",
                "pos_layer.proj1.": "positions.convolutions.1.",
                "pos_layer.proj2.": "positions.convolutions.2.",
                "_fc2.": "head.",
            },
        )


Model = TransMIL
