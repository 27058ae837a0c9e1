"""One fold model on one case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_survpgc.core.models.base import GenomicInput, ModelOutput, PathOutput, SurvivalModel, TwoPathModel


@dataclass(frozen=True)
class FoldState:
    """What one fold model has computed for a case: its two paths, or the whole output of a model without them."""

    patches: Any  # the model's own pathology state, or None when it was too large to keep
    clinic: PathOutput | None
    genomic: PathOutput | None
    whole: ModelOutput | None = None

    def logits(self, model: SurvivalModel) -> Tensor:
        """Return (1, n_bins)."""
        if self.whole is not None:
            return self.whole.logits
        assert isinstance(model, TwoPathModel)
        assert self.clinic is not None
        assert self.genomic is not None
        return model.head(model.embed(self.clinic, self.genomic))

    def attention(self, name: str) -> Tensor | None:
        """Return (1, rows, n_p) of "clinic" or "genomic" over the patches; None where there is none."""
        if self.whole is not None:
            return self.whole.attention.get(f"{name}_to_pathology")
        path: PathOutput | None = getattr(self, name)
        return None if path is None else path.to_pathology


def run_fold(
    model: SurvivalModel, pathology: Tensor, clinic: Tensor | None, genomic: GenomicInput | None
) -> FoldState:
    """Run one fold model on one case, keeping what a change does not touch."""
    with torch.no_grad():
        if isinstance(model, TwoPathModel):
            patches = model.encode_pathology(pathology)
            return FoldState(
                patches, model.clinic_path(patches, clinic), model.genomic_path(patches, genomic)
            )
        inputs = {"pathology": pathology, "clinic": clinic, "genomic": genomic}
        taken = {str(m): inputs[str(m)] for m in model.REQUIRES}
        return FoldState(None, None, None, model(**taken, return_attention=True))
