"""Elastic-net Cox regression on the expression of all genes; an inner cross-validation chooses the penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.types import ProgressCallback

from ..data.dataset import Dataset, InputForms
from ..fitting.fold import FoldModel, FoldSplit
from ..seeds import seed_of
from ..settings import Settings
from .base import check_options
from .parts.cox import follow_up, with_baseline
from .parts.elastic_net import fit_cross_validated, inner_parts

OPTIONS = {"l1_ratio": 0.1, "inner_folds": 5, "n_penalties": 30}
"""Share of the lasso in the penalty (little: genes come in correlated groups); inner cross-validation; penalties tried."""


class CoxElasticNet:
    """See :class:`.base.System`."""

    def __init__(self, settings: Settings) -> None:
        check_options(settings, OPTIONS)
        options = {**OPTIONS, **settings.model_config}
        if not 0 < options["l1_ratio"] <= 1 or not options["inner_folds"] >= 2:
            raise CohortError(
                "l1_ratio must lie in (0, 1] and inner_folds be at least 2", "Correct model_config"
            )
        self.settings = settings
        self.forms = InputForms(frozenset({"genomic"}))

    def config(self, data: Dataset, n_bins: int) -> dict[str, Any]:
        return {**OPTIONS, **self.settings.model_config, "n_bins": n_bins}

    def fit(
        self,
        data: Dataset,
        split: FoldSplit,
        config: Mapping[str, Any],
        out: Path,
        progress: ProgressCallback | None = None,
    ) -> FoldModel:
        def covariates(cases: Sequence[str]) -> NDArray[np.float64]:
            return np.stack([data.genomic[case] for case in cases]).astype(np.float64)

        x = covariates(split.train)
        months, event = follow_up(data, split.train)
        mean, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        parts = inner_parts(event, config["inner_folds"], seed_of(self.settings.seed, split.number, "inner"))
        net = fit_cross_validated(
            (x - mean) / scale, months, event, parts, config["l1_ratio"], config["n_penalties"]
        )
        cox = with_baseline(mean, scale, net.coefficients, x, months, event, split.edges)
        assert data.gene_reference is not None
        chosen = np.flatnonzero(net.coefficients)
        facts = {
            "penalty": net.penalty,
            "coefficients": {data.gene_reference.genes[i]: float(net.coefficients[i]) for i in chosen},
        }
        return FoldModel(lambda cases: cox.hazards(covariates(cases)), facts=facts)


def build(settings: Settings) -> CoxElasticNet:
    """Return the system."""
    return CoxElasticNet(settings)
