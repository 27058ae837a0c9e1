"""One cross-attention path taken apart by patches: what it gives when some patches are not there, without running it again.

A patch enters a path at two places: as one term of the softmax sums over [tokens; patches], and as one row of the mean
over the patches, which does not depend on the other patches. Both can be taken out of sums that are kept.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from napari_survpgc.core.models.base import PatchState, PathOutput

from .group_attention import CPU_NUMBERS, FeedForward, GroupAttention


class SplitPath:
    """A path whose patches can be taken out; of one patient.

    Parameters
    ----------
    attention, feed_forward : of the path.   tokens : (1, P, dim).   patches : of one patient.
    exact : compute in float64 whatever the weights are: one patch of 10,000 moves the risk by less than float32 tells.
    """

    def __init__(
        self,
        attention: GroupAttention,
        feed_forward: FeedForward,
        tokens: Tensor,
        patches: PatchState,
        exact: bool = False,
    ) -> None:
        if patches.normalized.shape[0] != 1:
            raise ValueError("patches are taken out of one patient at a time")
        if exact and patches.normalized.device.type != "mps":  # which has no float64
            attention, feed_forward = copy.deepcopy(attention).double(), copy.deepcopy(feed_forward).double()
            tokens, patches = tokens.double(), PatchState(patches.normalized.double(), patches.mask)
        self._attention, self._feed_forward = attention, feed_forward
        _, a_tt, a_tp, c, v = attention(tokens, patches)
        self._normalized, self._v, self._c = patches.normalized[0], v[0], c[0]
        self._there = (
            torch.ones_like(self._normalized[:, 0]) if patches.mask is None else patches.mask[0].to(v.dtype)
        )
        self._own = a_tt[0]
        self._scores = a_tp[0].masked_fill(self._there == 0, -torch.inf)

    @cached_property
    def _rows(self) -> Tensor:
        """(n_p, dim / 2) what each patch adds to the sum over the patches; zero for padding."""
        size = max(1, CPU_NUMBERS // self._v.shape[-1])
        rows = [
            self._feed_forward.of_mixtures(part.T.softmax(0)[None], self._v[None])[0]
            for part in self._c.split(size)
        ]
        return torch.cat(rows) * self._there[:, None]

    @cached_property
    def _values(self) -> Tensor:
        """(n_p, dim / 2) values that the tokens mix."""
        norm = self._attention.norm
        return self._projected(self._normalized * norm.weight + norm.bias)

    def _projected(self, rows: Tensor) -> Tensor:
        weight = self._attention.to_qkv.weight
        return rows @ weight[2 * weight.shape[0] // 3 :].T

    def _mixed(self, scores: Tensor) -> _Sums:
        """Return the softmax sums of the tokens over themselves: what is left when no patch is."""
        top = scores.max(-1, keepdim=True).values
        weights = (scores - top).exp()
        return _Sums(top[:, 0], weights.sum(-1), weights @ self._v)

    def without_groups(self, groups: Tensor, count: int) -> PathOutput:
        """Return the path without each of ``count`` groups of patches in turn.

        Parameters
        ----------
        groups : (n_p,) int64, the group of each patch in [0, count).

        Returns
        -------
        PathOutput of batch ``count``; not a number where no patch is left.
        """
        norm = self._attention.norm
        tops, sums, mixtures, totals, sizes = [], [], [], [], []
        for number in range(count):
            index = (groups == number).nonzero()[:, 0]
            scores = self._scores[:, index]
            # An empty group, or one of padding alone, weighs nothing.
            top = scores.max(-1).values if len(index) else scores.new_full(scores.shape[:1], -torch.inf)
            weights = (scores - top.clamp_min(-1e30)[:, None]).exp()
            weight = weights.sum(-1)
            mixed = (weights @ self._normalized[index]) * norm.weight + weight[:, None] * norm.bias
            tops.append(top)
            sums.append(weight)
            mixtures.append(self._projected(mixed))
            totals.append(self._rows[index].sum(0))
            sizes.append(self._there[index].sum())
        own = self._mixed(self._own)
        all_tops = torch.stack([*tops, own.top])  # (count + 1, P): the tokens themselves are the last group
        all_sums, all_mixtures = torch.stack([*sums, own.weight]), torch.stack([*mixtures, own.mixture])
        # Sums of the others, never the whole minus one: where that one has nearly all the weight, nothing is left of it.
        others = torch.ones(count, count + 1, dtype=torch.bool, device=groups.device)
        others[:, :count].fill_diagonal_(False)
        tops_each = torch.where(others[..., None], all_tops, -torch.inf)  # (count, count + 1, P)
        scale = (tops_each - tops_each.max(1, keepdim=True).values).exp().permute(2, 0, 1)
        mixture = (scale @ all_mixtures.transpose(0, 1)).transpose(0, 1)  # (count, P, dim / 2)
        weight = (scale @ all_sums.T[..., None]).transpose(0, 1)
        apart = others[:, :count].to(self._rows.dtype)
        pathology = (apart @ torch.stack(totals)) / (apart @ torch.stack(sizes))[:, None]
        return PathOutput(self._feed_forward(mixture / weight).mean(1), pathology)

    def without_each(self, part: slice) -> PathOutput:
        """Return the path without each single patch of ``part`` in turn, a batch of them."""
        whole = self._whole
        scores, values = self._scores[:, part], self._values[part]
        taken = (scores - whole.top[:, None]).exp().T  # (n, P)
        left = whole.weight - taken
        mixture = whole.mixture - taken[..., None] * values[:, None]
        # Without the patch that a token looks at most, the rest of its sum may be lost in rounding: that one anew.
        best, anew = self._without_best
        number = torch.arange(*part.indices(len(self._normalized)), device=best.device)
        is_best = number[:, None] == best
        left = torch.where(is_best, anew.weight, left)
        mixture = torch.where(is_best[..., None], anew.mixture, mixture)
        tokens = self._feed_forward(mixture / left[..., None]).mean(1)
        total, size = self._rows.sum(0), self._there.sum()
        return PathOutput(tokens, (total - self._rows[part]) / (size - self._there[part])[:, None])

    @cached_property
    def _whole(self) -> _Sums:
        return self._over(self._scores)

    @cached_property
    def _without_best(self) -> tuple[Tensor, _Sums]:
        """(P,) the patch that each token looks at most, and the sums without it."""
        best = self._scores.argmax(-1)
        return best, self._over(self._scores.scatter(1, best[:, None], -torch.inf))

    def _over(self, scores: Tensor) -> _Sums:
        top = torch.maximum(scores.max(-1).values, self._own.max(-1).values)
        own, patches = (self._own - top[:, None]).exp(), (scores - top[:, None]).exp()
        return _Sums(top, own.sum(-1) + patches.sum(-1), own @ self._v + patches @ self._values)


@dataclass(frozen=True)
class _Sums:
    """Softmax sums of P tokens, over exp(score - top): top (P,), weight (P,), mixture of values (P, dim / 2)."""

    top: Tensor
    weight: Tensor
    mixture: Tensor


class AbsentPath:
    """The path of a modality that the patient lacks: zero, whatever patches are there."""

    def __init__(self, zero: PathOutput, exact: bool) -> None:
        row = zero.tokens
        self._row = row.double() if exact and row.device.type != "mps" else row

    def without_groups(self, groups: Tensor, count: int) -> PathOutput:
        """See :meth:`SplitPath.without_groups`."""
        return self._zero(count)

    def without_each(self, part: slice) -> PathOutput:
        """See :meth:`SplitPath.without_each`."""
        return self._zero(part.stop - part.start)

    def _zero(self, count: int) -> PathOutput:
        zero = self._row.expand(count, -1)
        return PathOutput(zero, zero)
