"""Run the fold models of a finished run on the patients that they were not trained on, as `survpgc predict` does.

For what the saved predictions do not hold: attention and attributions.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.models.base import TwoPathModel
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.types import PatchFeatures, Prediction

from .bundling import make_bundle
from .run_folder import Run

_TOLERANCE = 1e-4
"""Of a risk, between the machine that trained and this one; on one machine they agree to 1e-5."""


@dataclass(frozen=True)
class HeldOut:
    """A patient seen by the fold model that did not learn from them.

    Attributes
    ----------
    prediction : by that model alone.   model : with a clinic and a genomic path.
    features : of all slides of the patient, one after the other.   counts : patches of each slide.
    """

    case: str
    fold: int
    prediction: Prediction
    model: TwoPathModel
    features: PatchFeatures
    counts: tuple[int, ...]


class HeldOutPredictor:
    """Use it in a ``with`` statement: the fold models lie in a temporary bundle meanwhile."""

    def __init__(self, run: Run, cohort: Cohort, device: str = "cpu") -> None:
        self.run, self.cohort, self.device = run, cohort, device
        self._table = run.pooled
        self._predictors: dict[int, Predictor] = {}

    def __enter__(self) -> HeldOutPredictor:
        self._folder = tempfile.TemporaryDirectory(prefix="survpgc-")
        try:
            self._bundle: Bundle = make_bundle(self.run.path, Path(self._folder.name) / "bundle")
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def predict(self, case: str) -> HeldOut:
        """Return what the fold model that tested a patient makes of them.

        Raises
        ------
        CohortError : no fold tested the patient, or the model does not give the risk that the run has saved.
        """
        if case not in self._table.index:
            raise CohortError(f"No fold of {self.run.path.name} tested {case}", "Choose another patient")
        row = self._table.loc[[case]]
        fold = int(row["fold"].iloc[0])
        predictor = self._predictor(fold)
        model = predictor.models[0]
        if not isinstance(model, TwoPathModel):
            raise CohortError(
                f"The model {self.run.model} has no clinic and genomic path",
                "Choose survpgc or survpgc_gene_sets",
            )
        one = self.cohort.case(case)
        bags = [read_features(path) for path in one.features]
        bag = join_slides(bags, [path.stem for path in one.features])
        patient = predictor.prepare_patient(one.record, one.profile)
        prediction = predictor.predict(patient, bag, attribution=False, trust=False)
        saved = float(row["risk"].iloc[0])
        if not abs(prediction.risk - saved) <= _TOLERANCE:
            raise CohortError(
                f"The model of fold {fold} gives {case} the risk {prediction.risk:.5f}, not {saved:.5f} as in"
                f" {self.run.path.name}: the cohort's files have changed since",
                "Train the run again",
            )
        return HeldOut(case, fold, prediction, model, bag, tuple(len(b.grid) for b in bags))

    def _predictor(self, fold: int) -> Predictor:
        if fold not in self._predictors:
            place = self.run.record.folds.index(fold)
            alone = dataclasses.replace(self._bundle, fold_files=self._bundle.fold_files[place : place + 1])
            if alone.gene_reference is not None and alone.gene_reference.folds:
                own = alone.gene_reference.folds[place : place + 1]
                alone = dataclasses.replace(
                    alone, gene_reference=dataclasses.replace(alone.gene_reference, folds=own)
                )
            self._predictors[fold] = Predictor(alone, self.device)
        return self._predictors[fold]
