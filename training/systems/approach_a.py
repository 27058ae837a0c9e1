"""Approach (a) of the paper's Table 4: Cox on the record and a network on the slide, fused by their risks.

Each risk is standardized by its own training patients and both are averaged: a weight that were fitted to the training
patients would trust the network too much, since it has learned them by heart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.clinical.encoding import fit_encoding
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.types import CLINICAL_FIELDS, InputForm, ProgressCallback

from ..data.dataset import Dataset, InputForms
from ..fitting.fold import FoldModel, FoldSplit, risks
from ..settings import Settings
from .network import as_part
from .parts.cox import clinical_table, fit_fold_cox, follow_up, rarest, with_baseline

OPTIONS = {
    "pathology_model": "mlp_pathology",
    "pathology_weight": 0.5,
    "penalizer": 0.1,
    "fields": CLINICAL_FIELDS,
    "ordinal_stage": True,
}
"""The network on the slide and its share in the risk; the rest as of cox_clinic. What else there is goes to the network."""
SMALL = {"dim": 16}


class ApproachA:
    """See :class:`.base.System`."""

    def __init__(self, settings: Settings) -> None:
        self.options = {**OPTIONS, **{k: v for k, v in settings.model_config.items() if k in OPTIONS}}
        if not 0 <= self.options["pathology_weight"] <= 1:
            raise CohortError("pathology_weight must lie between 0 and 1", "Correct model_config")
        rest = {k: v for k, v in settings.model_config.items() if k not in OPTIONS}
        self.settings = settings
        self.network = as_part(settings, str(self.options["pathology_model"]), rest)
        if self.network.forms.modalities != {"pathology"}:
            raise CohortError(
                f"{self.options['pathology_model']} does not look at the slide alone",
                "Choose mlp_pathology, abmil or transmil as pathology_model",
            )
        self.forms = InputForms(frozenset({"clinic", "pathology"}), clinic=InputForm.VECTOR)

    def config(self, data: Dataset, n_bins: int) -> dict[str, Any]:
        return {**self.network.config(data, n_bins), **self.options, "fields": list(self.options["fields"])}

    def fit(
        self,
        data: Dataset,
        split: FoldSplit,
        config: Mapping[str, Any],
        out: Path,
        progress: ProgressCallback | None = None,
    ) -> FoldModel:
        sizes = {key: value for key, value in config.items() if key not in OPTIONS}
        slide_data = dataclasses.replace(data, forms=self.network.forms)
        slide = self.network.fit(slide_data, split, sizes, out, progress)
        encoding = fit_encoding(
            [data.records[case] for case in split.train],
            config["fields"],
            ordinal_stage=config["ordinal_stage"],
            rarest=rarest(len(split.train)),
        )
        record = fit_fold_cox(
            data, split, lambda cases: clinical_table(data, encoding, cases), config["penalizer"]
        )

        def both(cases: Sequence[str]) -> NDArray[np.float64]:
            clinic = record.linear_predictor(clinical_table(data, encoding, cases))
            return np.column_stack([clinic, risks(slide.hazards(cases))])

        x = both(split.train)
        mean, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
        weight = float(config["pathology_weight"])
        months, event = follow_up(data, split.train)
        fused = with_baseline(mean, scale, np.array([1 - weight, weight]), x, months, event, split.edges)
        facts = {
            "clinical_encoding": encoding,
            "coefficients": dict(zip(encoding.columns, record.coefficients.tolist(), strict=True)),
            "fusion": {"mean": mean.tolist(), "sd": scale.tolist()},
        }
        return FoldModel(lambda cases: fused.hazards(both(cases)), slide.epoch, slide.log, facts, slide.state)


def build(settings: Settings) -> ApproachA:
    """Return the system."""
    return ApproachA(settings)
