"""Read a run folder that `survpgc train` wrote: predictions only, no model is loaded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from napari_survpgc.core.cells import restored_frame
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.files import read_bytes

from .record import PATIENTS_FILE, RunRecord, read_fold_record, read_run_record

_MAX_BYTES = 256 << 20
_COLUMNS = ("case_id", "split", "risk", "survival_months", "event")


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions of one fold model.

    Attributes
    ----------
    train, test : index case_id; risk, hazard_0 ... (where the system has them), survival_months, event.
    edges : (n_bins + 1,) months, from the deaths of the training fold.
    """

    number: int
    train: pd.DataFrame
    test: pd.DataFrame
    edges: tuple[float, ...]

    @property
    def has_hazards(self) -> bool:
        return all(f"hazard_{k}" in self.test.columns for k in range(len(self.edges) - 1))

    def survival_at(self, months: ArrayLike) -> NDArray[np.float64]:
        """Return (n_test, n_times) predicted P(alive).

        The model gives S at the ends of its bins (its own, not 12, 36 and 60 months, as the published evaluation reads
        them); between them S falls linearly (constant density, Kvamme & Borgan 2021, Lifetime Data Analysis 27).
        After the last bin it stays.

        Raises
        ------
        CohortError : the system gives no hazards.
        """
        times = np.atleast_1d(np.asarray(months, float))
        return np.stack([np.interp(times, self.edges, row) for row in self._at_edges()])

    def survival_at_own(self, months: ArrayLike) -> NDArray[np.float64]:
        """Return (n_test,) predicted P(alive) of each test patient at a time of their own; see :meth:`survival_at`."""
        rows = zip(np.asarray(months, float), self._at_edges(), strict=True)
        return np.array([float(np.interp(t, self.edges, row)) for t, row in rows])

    def _at_edges(self) -> NDArray[np.float64]:
        if not self.has_hazards:
            raise CohortError("The predictions have no hazards, so no survival", "Evaluate their risks only")
        hazards = self.test[[f"hazard_{k}" for k in range(len(self.edges) - 1)]].to_numpy(float)
        return np.concatenate([np.ones((len(hazards), 1)), np.cumprod(1 - hazards, 1)], 1)


@dataclass(frozen=True)
class Run:
    """A finished run: what it says of itself, and its predictions.

    Attributes
    ----------
    patients : index case_id; the six fields, site, modalities (what each patient has), as text; None for runs of
        versions up to 0.2, which did not keep them.
    """

    path: Path
    record: RunRecord
    folds: tuple[FoldPredictions, ...]
    patients: pd.DataFrame | None = None

    @property
    def model(self) -> str:
        return self.record.model

    @property
    def optimistic(self) -> bool:
        return self.record.protocol != "honest"

    @property
    def pooled(self) -> pd.DataFrame:
        """Test patients of all folds, each once (from the first fold that tests it), with the number of that fold."""
        table = pd.concat([fold.test.assign(fold=fold.number) for fold in self.folds])
        return table[~table.index.duplicated()]


def percentiles_within_folds(table: pd.DataFrame) -> pd.Series:
    """Return 100 * rank of the risk within the fold / patients, for a table with ``fold`` and ``risk``.

    The risks of two fold models are not on one scale: only their ranks can be looked at together.
    """
    return table.groupby("fold")["risk"].rank(pct=True) * 100


def read_run(folder: Path) -> Run:
    """Read the predictions of a finished run.

    Raises
    ------
    CohortError : the run is not finished, or one of its files is damaged.
    """
    record = read_run_record(folder)
    folds = tuple(_read_fold(folder / "folds" / str(number), number) for number in record.folds)
    if not folds:
        raise CohortError(f"The run {folder} has no fold", "Train the run again")
    return Run(folder, record, folds, _read_patients(folder / PATIENTS_FILE))


def _read_patients(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    content = read_bytes(path, _MAX_BYTES, CohortError, "Train the run again", "a run")
    try:
        table = restored_frame(
            pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, na_values=[""])
        )
    except ValueError as error:
        raise CohortError(f"{path} is not a readable table", "Train the run again") from error
    if "case_id" not in table.columns or table["case_id"].duplicated().any():
        raise CohortError(f"{path} has no case_id, or one twice", "Train the run again")
    return table.set_index("case_id")


def _read_fold(folder: Path, number: int) -> FoldPredictions:
    edges = read_fold_record(folder).edges
    path = folder / "predictions.csv"
    content = read_bytes(path, _MAX_BYTES, CohortError, "Train the run again", "a run")
    try:
        table = restored_frame(pd.read_csv(io.BytesIO(content), dtype={"case_id": str, "split": str}))
    except ValueError as error:
        raise CohortError(f"{path} is not a readable table", "Train the run again") from error
    missing = [c for c in _COLUMNS if c not in table.columns]
    if missing:
        raise CohortError(f"{path} lacks the column {missing[0]}", "Train the run again")
    hazards = [c for c in table.columns if c.startswith("hazard_")]
    numbers = table[["risk", "survival_months", "event", *hazards]]
    text = [c for c in numbers.columns if not pd.api.types.is_numeric_dtype(numbers[c])]
    if text:
        raise CohortError(f"{path} has values that are not numbers in {text[0]}", "Train the run again")
    if table.duplicated(["case_id", "split"]).any():
        raise CohortError(f"{path} lists a patient twice", "Train the run again")
    table = table.set_index("case_id")
    # An inner split belongs to the training fold: the test patients never touched it.
    train = table[table["split"].isin(("train", "inner"))].drop(columns="split")
    test = table[table["split"] == "test"].drop(columns="split")
    if test.empty or train.empty:
        raise CohortError(f"{path} has no train or no test patient", "Train the run again")
    return FoldPredictions(number, train, test, edges)
