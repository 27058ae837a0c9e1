"""Train all folds of a system into a run folder.

run.json          cohort, encoders, sizes of the model, C-index by fold
settings.toml     everything the run depends on
genes.csv, gene_sets.gmt, templates.toml   what a bundle copies
folds/fold_<i>.csv  who was in which part, as a cohort folder has it
folds/<i>/        weights.safetensors and log.csv (networks), predictions.csv, fold.json
predictions.csv   the test patients of all folds
patients.csv      the six fields and the site of the patients, and which modalities they have
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from napari_survpgc import __version__
from napari_survpgc.core.cohort.cohort import Cohort, Fold
from napari_survpgc.core.cohort.folds import make_folds, write_folds
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import CancelledError, CohortError, writing
from napari_survpgc.core.features.drift import PROFILE_FILE, feature_profile, write_profile
from napari_survpgc.core.files import is_vacant, sweep, write_bytes, write_table, write_text
from napari_survpgc.core.genomics.gene_sets import write_gmt
from napari_survpgc.core.genomics.normalize import write_genes
from napari_survpgc.core.locks import claim
from napari_survpgc.core.metrics import c_index
from napari_survpgc.core.types import CLINICAL_FIELDS, ExpressionUnit, ProgressCallback

from .data.dataset import Dataset, load_dataset
from .fitting.fold import FoldResult, check_folds, finish_fold, read_fold, split_fold, usable_bins
from .runs.record import FOLD_FILE, PATIENTS_FILE, ExpressionFacts, RunRecord, write_run_record
from .runs.run_folder import percentiles_within_folds
from .settings import Settings, going_on, same_settings, settings_toml
from .systems import build_system
from .systems.base import System

_POLL_SECONDS = 0.5
_SHUFFLED = "The outcomes were exchanged among the patients: anything far from 0.5 is a leak"


@dataclass(frozen=True)
class RunSummary:
    """Cross-validated results.

    Attributes
    ----------
    c_index : by fold; NaN where no two test patients can be compared.   pooled : C-index of the test patients of all folds
        together, risks as percentiles within their fold, as in `survpgc evaluate`.
    left_out : patients without a wanted modality -> reason.   notes : on how the data were read.
    """

    out: Path
    model: str
    protocol: str
    c_index: tuple[float, ...]
    pooled: float
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the result in a few lines."""
        mark = (
            ""
            if self.protocol == "honest"
            else " (protocol 'published': chosen on the test fold, optimistic)"
        )
        folds = ", ".join(f"{value:.3f}" for value in self.c_index)
        lines = [
            f"{self.model}: C-index {np.nanmean(self.c_index):.3f} +- {np.nanstd(self.c_index):.3f}"
            f" over {len(self.c_index)} folds{mark}",
            f"  by fold: {folds}; all test patients together (percentiles within their fold):"
            f" {self.pooled:.3f}",
        ]
        if self.left_out:
            reasons = sorted(set(self.left_out.values()))
            lines.append(f"  {len(self.left_out)} patients left out ({', '.join(reasons)})")
        lines += [f"  {note}" for note in self.notes]
        lines.append(f"  run folder: {self.out}")
        return "\n".join(lines)


def train(
    cohort: Cohort,
    settings: Settings,
    out: Path,
    *,
    processes: int = 1,
    progress: ProgressCallback | None = None,
) -> RunSummary:
    """Cross-validate a model; a run that was stopped goes on.

    Raises
    ------
    CohortError : the folder holds a run with other settings, or the cohort cannot feed the model.
    OutputError : another process trains into it; disk full, no permission.
    """
    if settings.endpoint != "survival" and cohort.endpoint != settings.endpoint:
        cohort = read_cohort(cohort.path, endpoint=settings.endpoint, long_follow_up=cohort.long_follow_up)
    with claim(out, f"training into {out}"):
        return _train(cohort, settings, out, processes, progress)


def _train(
    cohort: Cohort, settings: Settings, out: Path, processes: int, progress: ProgressCallback | None
) -> RunSummary:
    kept = out / "settings.toml"
    if kept.is_file():
        settings = going_on(settings, kept)
    system = build_system(settings)
    text = settings_toml(settings)
    if kept.is_file() and not same_settings(kept, text):
        raise CohortError(f"{out} holds a run with other settings", "Choose a new --out folder")
    if not kept.is_file() and not is_vacant(out):
        raise CohortError(f"{out} is not empty and holds no run", "Choose a new --out folder")
    folds = choose_folds(cohort, settings)
    data = load_dataset(cohort, settings, system.forms, progress)
    check_folds(data, folds, settings)
    n_bins = usable_bins(data, folds, settings.n_bins)
    config = system.config(data, n_bins)
    if settings.folds is not None:
        known = {fold.number for fold in folds}
        missing = sorted(set(settings.folds) - known)
        if missing:
            raise CohortError(f"There is no fold {missing[0]}", f"Choose from {sorted(known)}")
        folds = tuple(fold for fold in folds if fold.number in settings.folds)
    for folder in (out, out / "folds"):
        sweep(folder)
    if not kept.is_file():
        write_text(kept, text)
    _write_facts(out, data, progress)
    write_folds(folds, out / "folds")
    with one_thread():
        results = _fit_all(cohort, system, data, folds, config, n_bins, out, processes, progress)
    return _summarize(cohort, data, results, settings, config, out)


def choose_folds(cohort: Cohort, settings: Settings) -> tuple[Fold, ...]:
    """Return the cohort's folds, or new ones as the settings ask."""
    if settings.folds_by == "cohort" and cohort.folds:
        return cohort.folds
    by = "event" if settings.folds_by == "cohort" else settings.folds_by
    val_share = 0.15 if settings.stopping == "val" else 0.0
    return make_folds(cohort, settings.n_folds, seed=settings.seed, by=by, val_share=val_share)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread on the processor, so that a run gives the same bits on every number of cores.

    Threads that share the products of one patient bring little at these sizes; folds in processes bring all of it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_fold(
    system: System,
    data: Dataset,
    fold: Fold,
    config: Mapping[str, Any],
    n_bins: int,
    out: Path,
    progress: ProgressCallback | None = None,
) -> FoldResult:
    """Fit and predict one fold into ``out``; a finished fold is read back, a stopped one goes on."""
    sweep(out)
    if (out / FOLD_FILE).is_file():
        (out / "checkpoint.pt").unlink(missing_ok=True)
        return read_fold(out, fold.number)
    split = split_fold(data, fold, system.settings, n_bins)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    data = data.scaled((*split.train, *split.inner), progress)
    model = system.fit(data, split, config, out, progress)
    result = finish_fold(data, split, model, out)
    (out / "checkpoint.pt").unlink(missing_ok=True)
    return result


def _fit_all(
    cohort: Cohort,
    system: System,
    data: Dataset,
    folds: Sequence[Fold],
    config: Mapping[str, Any],
    n_bins: int,
    out: Path,
    processes: int,
    progress: ProgressCallback | None,
) -> list[FoldResult]:
    places = [out / "folds" / str(fold.number) for fold in folds]
    if processes == 1 or len(folds) == 1:
        return [
            fit_fold(system, data, fold, config, n_bins, place, progress)
            for fold, place in zip(folds, places, strict=True)
        ]
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its thread pool
    with context.Manager() as manager, ProcessPoolExecutor(min(processes, len(folds)), context) as pool:
        news: Any = manager.Queue()
        stop = manager.Event()
        jobs = [
            pool.submit(_fit_alone, cohort.path, system.settings, fold, config, n_bins, place, news, stop)
            for fold, place in zip(folds, places, strict=True)
        ]
        try:
            _follow(jobs, news, len(folds), progress)
        except BaseException:
            stop.set()  # the folds that are running end after their epoch, which is kept
            pool.shutdown(cancel_futures=True)
            raise
        return [job.result() for job in jobs]


def _follow(jobs: Sequence[Any], news: Any, n_folds: int, progress: ProgressCallback | None) -> None:
    """Add up the epochs of all processes until every fold is done or one failed."""
    done_of: dict[str, int] = {}
    epochs = 1
    waiting = set(jobs)
    while waiting:
        finished, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when="FIRST_EXCEPTION")
        for job in finished:
            job.result()
        while True:
            try:
                stage, done, epochs = news.get_nowait()
            except queue.Empty:
                break
            done_of[stage] = done
        if progress:
            progress(f"{n_folds} folds", sum(done_of.values()), n_folds * epochs)


def _fit_alone(
    cohort: Path,
    settings: Settings,
    fold: Fold,
    config: Mapping[str, Any],
    n_bins: int,
    out: Path,
    news: Any,
    stop: Any,
) -> FoldResult:
    """One fold in a process of its own, on one thread: threads that share cores cost more than they bring."""
    system = build_system(settings)
    data = load_dataset(
        read_cohort(cohort, endpoint=settings.endpoint, long_follow_up=True), settings, system.forms
    )

    def report(stage: str, done: int, total: int) -> None:
        news.put((stage, done, total))
        if stop.is_set():
            raise CancelledError

    with one_thread():
        return fit_fold(system, data, fold, config, n_bins, out, report)


def _write_facts(out: Path, data: Dataset, progress: ProgressCallback | None) -> None:
    if data.features and not (out / PROFILE_FILE).is_file():
        profile = feature_profile(data.slide_means(progress))
        if profile is not None:
            write_profile(profile, out / PROFILE_FILE)
    if data.gene_reference is not None:
        write_genes(data.gene_reference, out / "genes.csv")
    if data.gene_sets:
        write_gmt(data.gene_sets, out / "gene_sets.gmt")
    if data.templates is not None:
        write_bytes(out / "templates.toml", data.templates.read_bytes())


def _expression_facts(data: Dataset) -> ExpressionFacts | None:
    """Return what a bundle must know of expression that is not read as z-scores of TPM."""
    reference = data.gene_reference
    if reference is not None and reference.unit is not ExpressionUnit.TPM:
        return ExpressionFacts(reference.min_overlap, reference.unit)
    if reference is None or reference.scale is None:
        return None
    return ExpressionFacts(reference.min_overlap, reference.scale.unit, reference.scale.total)


def _summarize(
    cohort: Cohort,
    data: Dataset,
    results: Sequence[FoldResult],
    settings: Settings,
    config: Mapping[str, Any],
    out: Path,
) -> RunSummary:
    predictions = pd.concat([r.predictions for r in results], ignore_index=True)
    test = predictions[predictions["split"] == "test"].drop_duplicates("case_id")
    scores = tuple(r.test_c_index for r in results)
    pooled = c_index(test["survival_months"], test["event"], percentiles_within_folds(test))
    records = [cohort.records[case] for case in data.cases]
    vocabulary = {
        name: tuple(sorted({str(v) for r in records if (v := getattr(r, name)) is not None}))
        for name in CLINICAL_FIELDS
        if name != "age"
    }
    expression = _expression_facts(data)
    record = RunRecord(
        version=__version__,
        cohort=cohort.name,
        endpoint="overall survival" if settings.endpoint == "survival" else settings.endpoint,
        model=settings.model,
        model_config=config,
        encoders=data.encoders,
        clip=settings.clip,
        protocol=settings.protocol,
        folds=tuple(r.fold for r in results),
        edges=tuple(r.edges for r in results),
        epochs_kept=tuple(r.epoch for r in results),
        c_index=tuple(score if np.isfinite(score) else None for score in scores),
        c_index_pooled=pooled if np.isfinite(pooled) else None,
        n_patients=len(data.cases),
        n_events=int(data.patients.loc[list(data.cases), "event"].sum()),
        left_out=data.left_out,
        vocabulary=vocabulary,
        optional=tuple(sorted(data.forms.optional)),
        expression=expression,
        notes=None if expression is None else tuple(data.notes),
        labels_shuffled=settings.shuffle_labels,
        simulated=(cohort.path / "truth" / "settings.json").is_file(),
    )
    write_table(out / "predictions.csv", test)
    write_table(out / PATIENTS_FILE, _patients(cohort, data))
    write_run_record(out, record)
    notes = (*data.notes, _SHUFFLED) if settings.shuffle_labels else data.notes
    return RunSummary(out, settings.model, settings.protocol, scores, pooled, data.left_out, notes)


def _patients(cohort: Cohort, data: Dataset) -> pd.DataFrame:
    """Return who the patients are: for scores in subgroups and by what is missing, and for the reference of a bundle."""
    rows = []
    for case in data.cases:
        record = cohort.records[case]
        has = {
            "pathology": bool(cohort.features.get(case)),
            "genomic": cohort.expression is not None and case in cohort.expression.index,
            "clinic": any(getattr(record, f) is not None for f in CLINICAL_FIELDS),
        }
        rows.append(
            {"case_id": case, **asdict(record)}
            | {"modalities": "+".join(m for m, there in has.items() if there) or "none"}
        )
    table = pd.DataFrame(rows)
    if "site" in cohort.patients.columns:
        table["site"] = cohort.patients.loc[list(data.cases), "site"].to_numpy()
    return table
