"""Cox regression on the clinical record: the classical baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_survpgc.core.clinical.encoding import fit_encoding
from napari_survpgc.core.types import CLINICAL_FIELDS, InputForm, ProgressCallback

from ..data.dataset import Dataset, InputForms
from ..fitting.fold import FoldModel, FoldSplit
from ..settings import Settings
from .base import check_options
from .parts.cox import clinical_table, fit_fold_cox, rarest

OPTIONS = {"penalizer": 0.1, "fields": CLINICAL_FIELDS, "ordinal_stage": True}
"""Ridge; the fields to use; stage as one number (I to IV) or as one column a stage."""


class CoxClinic:
    """See :class:`.base.System`."""

    def __init__(self, settings: Settings) -> None:
        check_options(settings, OPTIONS)
        self.settings = settings
        self.forms = InputForms(frozenset({"clinic"}), clinic=InputForm.VECTOR)

    def config(self, data: Dataset, n_bins: int) -> dict[str, Any]:
        options = {**OPTIONS, **self.settings.model_config}
        return {**options, "fields": list(options["fields"]), "n_bins": n_bins}

    def fit(
        self,
        data: Dataset,
        split: FoldSplit,
        config: Mapping[str, Any],
        out: Path,
        progress: ProgressCallback | None = None,
    ) -> FoldModel:
        encoding = fit_encoding(
            [data.records[case] for case in split.train],
            config["fields"],
            ordinal_stage=config["ordinal_stage"],
            rarest=rarest(len(split.train)),
        )
        cox = fit_fold_cox(
            data, split, lambda cases: clinical_table(data, encoding, cases), config["penalizer"]
        )
        facts = {
            "clinical_encoding": encoding,
            "coefficients": dict(zip(encoding.columns, cox.coefficients.tolist(), strict=True)),
        }
        return FoldModel(lambda cases: cox.hazards(clinical_table(data, encoding, cases)), facts=facts)


def build(settings: Settings) -> CoxClinic:
    """Return the system."""
    return CoxClinic(settings)
