"""Cox regression on the clinical record and the risk of another run: what that run adds to the record.

A network ranks the patients it was trained on far better than new ones, so that its risks of its own training patients
would get too much weight. The risks of the training patients are therefore those of the other folds, in which each of
them was tested; patients that the run never tested are left out. Those other folds' models have seen this fold's test
patients, so that the weight of the risk, one number, is not wholly independent of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_survpgc.core.cells import restored_frame
from napari_survpgc.core.clinical.encoding import fit_encoding
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.types import CLINICAL_FIELDS, InputForm, ProgressCallback

from ..data.dataset import Dataset, InputForms
from ..fitting.fold import FoldModel, FoldSplit
from ..runs.record import read_run_record
from ..settings import Settings
from .base import check_options
from .parts.cox import clinical_table, fit_fold_cox, rarest

OPTIONS = {"penalizer": 0.1, "fields": CLINICAL_FIELDS, "ordinal_stage": True, "run": ""}
"""As of cox_clinic; ``run`` is the folder of the other run, trained on the same folds."""


class CoxClinicRisk:
    """See :class:`.base.System`."""

    def __init__(self, settings: Settings) -> None:
        check_options(settings, OPTIONS)
        if not settings.model_config.get("run"):
            raise CohortError(
                "cox_clinic_risk needs the run whose risk is a covariate",
                "Give --risk-run RUN (a run folder)",
            )
        self.settings = settings
        self.run = Path(str(settings.model_config["run"]))
        self._tested = _tested(self.run)
        self.forms = InputForms(
            frozenset({"clinic"}),
            clinic=InputForm.VECTOR,
            among=frozenset(str(case) for case in self._tested.index),
        )

    def config(self, data: Dataset, n_bins: int) -> dict[str, Any]:
        options = {**OPTIONS, **self.settings.model_config}
        return {**options, "fields": list(options["fields"]), "run": self.run.name, "n_bins": n_bins}

    def fit(
        self,
        data: Dataset,
        split: FoldSplit,
        config: Mapping[str, Any],
        out: Path,
        progress: ProgressCallback | None = None,
    ) -> FoldModel:
        table = _read(self.run / "folds" / str(split.number) / "predictions.csv")
        own = table[table["split"] == "test"].set_index("case_id")["risk"]
        if not set(split.test) <= set(own.index) or set(split.train) & set(own.index):
            raise CohortError(
                f"The run {self.run} was not trained on the same folds (fold {split.number} differs)",
                "Train both on one cohort with one choice of folds",
            )
        records = [data.records[case] for case in split.train]
        encoding = fit_encoding(
            records, config["fields"], ordinal_stage=config["ordinal_stage"], rarest=rarest(len(records))
        )
        risk = self._tested

        def covariates(cases: Sequence[str]) -> NDArray[np.float64]:
            column = risk.loc[list(cases)].to_numpy(float)
            return np.column_stack([clinical_table(data, encoding, cases), column])

        cox = fit_fold_cox(data, split, covariates, config["penalizer"])
        facts = {
            "clinical_encoding": encoding,
            "coefficients": dict(zip((*encoding.columns, "risk"), cox.coefficients.tolist(), strict=True)),
        }
        return FoldModel(lambda cases: cox.hazards(covariates(cases)), facts=facts)


def _tested(run: Path) -> pd.Series:
    """Return the held-out risk of every tested patient of a finished run, by case_id."""
    if read_run_record(run).protocol != "honest":
        raise CohortError(
            f"The run {run} chose its epochs on its test patients", "Train it with the protocol honest"
        )
    return _read(run / "predictions.csv").set_index("case_id")["risk"]


def _read(path: Path) -> pd.DataFrame:
    try:
        return restored_frame(pd.read_csv(path, dtype={"case_id": str}))
    except (OSError, ValueError) as error:
        raise CohortError(f"{path} is not a table of predictions", "Train the run again") from error


def build(settings: Settings) -> CoxClinicRisk:
    """Return the system."""
    return CoxClinicRisk(settings)
