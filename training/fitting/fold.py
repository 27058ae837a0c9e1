"""One fold, whatever the system: who is in which part, and what a finished fold leaves in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.cells import csv_text, restored_frame
from napari_survpgc.core.cohort.cohort import Fold
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.files import write_bytes, write_table, write_text
from napari_survpgc.core.genomics.normalize import write_genes
from napari_survpgc.core.metrics import c_index
from napari_survpgc.core.survival import TimeBins, cut_bins, risk, survival

from ..data.dataset import Dataset
from ..runs.record import FoldRecord, read_fold_record, write_fold_record
from ..seeds import seed_of
from ..settings import Settings

_LEAST_DEATHS = 2


@dataclass(frozen=True)
class FoldSplit:
    """The patients of a fold that have what the system needs.

    Attributes
    ----------
    train : fitted on.   inner : set aside from the training fold to choose the epoch; () unless the settings say so.
    val : () where the fold has none of its own (the published folds repeat the test patients as val), or where the
        settings train on it.
    bins : of follow-up, from the deaths of train and inner.   edges : (n_bins + 1,) months; 0 first, last follow-up last.
    """

    number: int
    train: tuple[str, ...]
    inner: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    bins: TimeBins
    edges: tuple[float, ...]


@dataclass(frozen=True)
class FoldModel:
    """A fitted system.

    Attributes
    ----------
    hazards : patients -> (n, n_bins).   epoch : whose weights were kept (0 without epochs).
    log : a row an epoch.   facts : what goes into fold.json.   state : weights, for a torch model.
    """

    hazards: Callable[[Sequence[str]], NDArray[np.float64]]
    epoch: int = 0
    log: Sequence[Mapping[str, float]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class FoldResult:
    """What one fold gave.

    Attributes
    ----------
    predictions : case_id, fold, split, risk, hazard_0 ..., survival_months, event.
    edges : (n_bins + 1,) months, from the deaths of the training fold.
    epoch : the epoch whose weights were kept.   test_c_index : held out under "honest", optimistic under "published";
        NaN where no two test patients can be compared.
    """

    fold: int
    predictions: pd.DataFrame
    edges: tuple[float, ...]
    epoch: int
    test_c_index: float


def usable_bins(data: Dataset, folds: Sequence[Fold], n_bins: int) -> int:
    """Return the largest number of bins, up to ``n_bins``, that the deaths of every training fold can fill.

    Equal times of death make quantiles fall together; all folds then take fewer bins, so that they can be averaged.

    Raises
    ------
    CohortError : a training fold without deaths or unusable times.
    """
    for count in range(n_bins, 1, -1):
        cuts = [_cut(data, _present(data, fold.train), count) for fold in folds]
        if all(len(cut.edges) - 1 == count for cut in cuts):
            return count
    return 1


def check_folds(data: Dataset, folds: Sequence[Fold], settings: Settings) -> None:
    """Look at every fold before the first is trained.

    Raises
    ------
    CohortError : all that is wrong with any of them.
    """
    errors = []
    for fold in folds:
        try:
            split_fold(data, fold, settings, settings.n_bins)
        except CohortError as error:
            errors.append(error)
    if errors:
        raise CohortError("; ".join(error.problem for error in errors), errors[0].next_step)


def split_fold(data: Dataset, fold: Fold, settings: Settings, n_bins: int) -> FoldSplit:
    """Keep the patients that can be used, set the inner split aside, and cut follow-up into bins.

    Raises
    ------
    CohortError : no train or test patient is left, the fold has no val to stop by, or no death is left to fit.
    """
    train, val, test = (_present(data, part) for part in (fold.train, fold.val, fold.test))
    if set(val) & set(test):
        val = ()
    if not train or not test:
        raise CohortError(
            f"Fold {fold.number} has no train or no test patient with all modalities", "Make other folds"
        )
    if settings.stopping == "val" and not val:
        raise CohortError(
            f"Fold {fold.number} has no val patients apart from its test patients",
            "Choose stopping inner or last, or give the folds a val part",
        )
    if settings.train_on_val:
        train, val = train + val, ()
    deaths = int(data.patients["event"].loc[list(train)].sum())
    if deaths < _LEAST_DEATHS:
        raise CohortError(
            f"Fold {fold.number} has {deaths} death{'' if deaths == 1 else 's'} among its training patients,"
            f" at least {_LEAST_DEATHS} are needed",
            "Make other folds (--folds-by event), or choose another endpoint",
        )
    bins = _cut(data, train, n_bins)
    edges = (0.0, *bins.edges[1:-1].tolist(), float(data.patients["survival_months"].loc[list(train)].max()))
    inner: tuple[str, ...] = ()
    if settings.stopping == "inner":
        inner = _inner(data, train, settings, fold.number)
        train = tuple(case for case in train if case not in set(inner))
    return FoldSplit(fold.number, train, inner, val, test, bins, edges)


def fold_score(data: Dataset, cases: Sequence[str], hazards: NDArray[np.float64]) -> float:
    """Return the C-index of (n, n_bins) hazards; NaN where no two patients can be compared."""
    patients = data.patients.loc[list(cases)]
    return c_index(patients["survival_months"], patients["event"], risks(hazards))


def risks(hazards: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) risks of (n, n_bins) hazards."""
    return risk(survival(torch.from_numpy(np.asarray(hazards, np.float64)))).numpy()


def finish_fold(data: Dataset, split: FoldSplit, model: FoldModel, out: Path) -> FoldResult:
    """Predict test, val, inner and train patients and write the fold's folder; fold.json comes last."""
    tables = []
    for name in ("test", "val", "inner", "train"):
        cases = getattr(split, name)
        if not cases:
            continue
        hazards = model.hazards(cases)
        table = pd.DataFrame({"case_id": cases, "risk": risks(hazards)})
        for k in range(hazards.shape[1]):
            table[f"hazard_{k}"] = hazards[:, k]
        tables.append(table.assign(fold=split.number, split=name))
    predictions = pd.concat(tables, ignore_index=True)
    patients = data.patients.loc[predictions["case_id"]]
    predictions["survival_months"] = patients["survival_months"].to_numpy()
    predictions["event"] = patients["event"].to_numpy()
    tested = predictions[predictions["split"] == "test"]
    score = c_index(tested["survival_months"], tested["event"], tested["risk"])
    if model.state is not None:
        tensors = {key: model.state[key].detach().cpu().contiguous() for key in sorted(model.state)}
        write_bytes(out / "weights.safetensors", safetensors.torch.save(tensors))
    if model.log:
        write_log(out / "log.csv", model.log)
    write_table(out / "predictions.csv", predictions)
    record = FoldRecord(split.edges, model.epoch, score if np.isfinite(score) else None)
    if data.scale is not None and data.gene_reference is not None:
        record = replace(record, reference_total=data.scale.total)
        if data.scale.total is None:
            own = replace(data.gene_reference, mean=data.scale.mean, sd=data.scale.sd)
            write_genes(own, out / "genes.csv")
    write_fold_record(out, record, model.facts)
    return read_fold(out, split.number)


def write_log(path: Path, log: Sequence[Mapping[str, float]]) -> None:
    """Write a row an epoch."""
    names = list(dict.fromkeys(name for row in log for name in row))
    write_text(path, csv_text(names, ([row.get(name, "") for name in names] for row in log)))


def read_fold(out: Path, number: int) -> FoldResult:
    """Read a finished fold back."""
    record = read_fold_record(out)
    predictions = restored_frame(pd.read_csv(out / "predictions.csv", dtype={"case_id": str}))
    score = float("nan") if record.test_c_index is None else record.test_c_index
    return FoldResult(number, predictions, record.edges, record.epoch, score)


def _present(data: Dataset, cases: Sequence[str]) -> tuple[str, ...]:
    here = set(data.cases)
    return tuple(case for case in cases if case in here)


def _cut(data: Dataset, train: Sequence[str], n_bins: int) -> TimeBins:
    patients = data.patients.loc[list(train)]
    return cut_bins(patients["survival_months"], patients["event"], n_bins, drop_ties=True)


def _inner(data: Dataset, train: tuple[str, ...], settings: Settings, number: int) -> tuple[str, ...]:
    """Set a share of the training patients aside, as many of the dead as of the censored."""
    rng = np.random.default_rng(seed_of(settings.seed, number, "inner"))
    event = data.patients["event"].loc[list(train)].to_numpy()
    chosen: list[str] = []
    for value in (1, 0):
        group = [case for case, e in zip(train, event, strict=True) if e == value]
        count = round(settings.inner_share * len(group))
        chosen += [group[i] for i in rng.permutation(len(group))[:count]]
    if not chosen or len(chosen) == len(train) or not data.patients["event"].loc[chosen].any():
        raise CohortError(
            f"Fold {number} is too small for an inner split of {settings.inner_share:g}",
            "Choose stopping last",
        )
    kept = set(chosen)
    return tuple(case for case in train if case in kept)
