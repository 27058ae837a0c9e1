"""One fold model on one case with some of the patches left out, from what it has kept of all of them.

A model with two paths takes patches out of its sums (:mod:`napari_survpgc.core.models.parts.split_path`); any other is
run on the patches that are left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.models.base import GenomicInput, PatchState, SurvivalModel, TwoPathModel
from napari_survpgc.core.survival import hazards, risk, survival

from .attribution import integrated_gradients
from .fold_run import FoldState

CHUNK = 128
"""Patches left out one by one at once: 331 tokens of 128 float64 each for them are 43 MB."""
STEPS = 16
"""Nodes of the path integral: its parts miss their sum by less than 1 % on the demonstration."""


@dataclass(frozen=True)
class Groups:
    """Patches in groups, each of which is left out in turn.

    Attributes
    ----------
    of : (n_p,) the group of each patch, in [0, count).
    """

    of: NDArray[np.int64]
    count: int

    @classmethod
    def inside(cls, mask: NDArray[np.bool_]) -> Groups:
        """Return two groups: 1 those of a (n_p,) mask, 0 the others."""
        return cls(mask.astype(np.int64), 2)


@dataclass(frozen=True)
class FoldCase:
    """One fold model, its inputs of one case, and what it has computed of it.

    Attributes
    ----------
    pathology : (1, n_p, d_p).
    """

    model: SurvivalModel
    fold: FoldState
    pathology: Tensor
    clinic: Tensor | None
    genomic: GenomicInput | None

    @property
    def by_structure(self) -> bool:
        return isinstance(self.model, TwoPathModel)

    def patches(self) -> PatchState:
        assert isinstance(self.model, TwoPathModel)
        kept: PatchState | None = self.fold.patches
        return self.model.encode_pathology(self.pathology) if kept is None else kept

    def risk_of(self, pathology: Tensor) -> Tensor:
        """Return (1,) the risk for other patches than the patient's."""
        inputs = {"pathology": pathology, "clinic": self.clinic, "genomic": self.genomic}
        return _risk(self.model(**{str(m): inputs[str(m)] for m in self.model.REQUIRES}).logits)


def _risk(logits: Tensor) -> Tensor:
    # On the processor, since not every device has float64.
    return risk(survival(hazards(logits.cpu().double())))


def risks_without(case: FoldCase, groupings: Sequence[Groups]) -> list[NDArray[np.float64]]:
    """Return for each grouping the (count,) risks without each of its groups; NaN where no patch is left."""
    model, device = case.model, case.pathology.device
    found = []
    with torch.no_grad():
        if isinstance(model, TwoPathModel):
            clinic, genomic = model.split_paths(case.patches(), case.clinic, case.genomic)
            for groups in groupings:
                of = torch.from_numpy(groups.of).to(device)
                both = clinic.without_groups(of, groups.count), genomic.without_groups(of, groups.count)
                risks = _risk(model.head(model.embed(*both))).numpy()
                left = np.array([(groups.of != number).any() for number in range(groups.count)])
                found.append(np.where(left, risks, np.nan))
            return found
        for groups in groupings:
            risks = np.full(groups.count, np.nan)
            for number in range(groups.count):
                kept = torch.from_numpy(np.flatnonzero(groups.of != number)).to(device)
                if len(kept):
                    risks[number] = float(case.risk_of(case.pathology[:, kept])[0])
            found.append(risks)
    return found


def occlusion(case: FoldCase) -> NDArray[np.float64]:
    """Return (n_p,) risk minus the risk without that one patch; in float64 where the model is taken apart."""
    n, model = case.pathology.shape[1], case.model
    with torch.no_grad():
        if not isinstance(model, TwoPathModel):
            whole = float(case.risk_of(case.pathology)[0])
            every = torch.arange(n, device=case.pathology.device)
            left = [float(case.risk_of(case.pathology[:, every != i])[0]) for i in range(n)]
            return whole - np.array(left)
        clinic, genomic = model.split_paths(case.patches(), case.clinic, case.genomic, exact=True)
        head = model.head if case.pathology.device.type == "mps" else copy.deepcopy(model.head).double()
        nobody = torch.zeros(n, dtype=torch.int64, device=case.pathology.device)
        # Two groups of which the second is empty: without it, all patches are there.
        all_there = clinic.without_groups(nobody, 2), genomic.without_groups(nobody, 2)
        whole = float(_risk(head(model.embed(*all_there)))[1])
        found = []
        for start in range(0, n, CHUNK):
            part = slice(start, min(n, start + CHUNK))
            without = model.embed(clinic.without_each(part), genomic.without_each(part))
            found.append(whole - _risk(head(without)).numpy())
    return np.concatenate(found)


def gradients(case: FoldCase) -> NDArray[np.float64]:
    """Return (n_p,) integrated gradients of the risk, from a slide of average patches to the patient's.

    Their sum is the risk minus that of a slide whose patches are all the mean of these, up to the error of the rule.
    """
    model = case.model
    if isinstance(model, TwoPathModel):
        patches = case.patches()
        given = patches.normalized

        def of_normalized(normalized: Tensor) -> Tensor:
            state = PatchState(normalized, patches.mask)
            paths = model.clinic_path(state, case.clinic), model.genomic_path(state, case.genomic)
            return _risk(model.head(model.embed(*paths)))

        forward: Callable[[Tensor], Tensor] = of_normalized
    else:
        given, forward = case.pathology, case.risk_of
    baseline = given.mean(1, keepdim=True).expand_as(given).contiguous()
    (parts,) = integrated_gradients(forward, (given.detach().clone(),), (baseline,), STEPS)
    return parts[0].sum(-1).cpu().numpy().astype(np.float64)
