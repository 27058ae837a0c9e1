"""Train all folds of a model into a run folder.

run.json          cohort, encoders, sizes of the model, C-index by fold
settings.toml     everything the run depends on
genes.csv, gene_sets.gmt, templates.toml   what a bundle copies
folds/<i>/        weights.safetensors, log.csv, predictions.csv, fold.json
predictions.csv   the test patients of all folds
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_survpgc import __version__
from napari_survpgc.core.cohort import Cohort, Fold, make_folds, read_cohort
from napari_survpgc.core.errors import CohortError, writing
from napari_survpgc.core.metrics import c_index
from napari_survpgc.core.models import model_class
from napari_survpgc.core.types import CLINICAL_FIELDS, ProgressCallback

from .dataset import Dataset, load_dataset
from .fit import FoldResult, fit_fold
from .settings import Settings, settings_toml


@dataclass(frozen=True)
class RunSummary:
    """Cross-validated results.

    Attributes
    ----------
    c_index : by fold.   pooled : C-index over the test patients of all folds together.
    left_out : patients without a wanted modality -> reason.
    """

    out: Path
    model: str
    protocol: str
    c_index: tuple[float, ...]
    pooled: float
    left_out: dict[str, str]

    def describe(self) -> str:
        """Return the result in a few lines."""
        mark = (
            ""
            if self.protocol == "honest"
            else " (protocol 'published': chosen on the test fold, optimistic)"
        )
        folds = ", ".join(f"{value:.3f}" for value in self.c_index)
        lines = [
            f"{self.model}: C-index {np.mean(self.c_index):.3f} +- {np.std(self.c_index):.3f}"
            f" over {len(self.c_index)} folds{mark}",
            f"  by fold: {folds}; all test patients together: {self.pooled:.3f}",
        ]
        if self.left_out:
            reasons = sorted(set(self.left_out.values()))
            lines.append(f"  {len(self.left_out)} patients left out ({', '.join(reasons)})")
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
    """
    model = model_class(settings.model)
    needs = {str(m) for m in model.REQUIRES}
    settings = dataclasses.replace(settings, modalities=tuple(m for m in settings.modalities if m in needs))
    text = settings_toml(settings)
    kept = out / "settings.toml"
    if kept.is_file() and kept.read_text(encoding="utf-8") != text:
        raise CohortError(f"{out} holds a run with other settings", "Choose a new --out folder")
    if not kept.is_file() and out.is_dir() and any(out.iterdir()):
        raise CohortError(f"{out} is not empty and holds no run", "Choose a new --out folder")
    folds = cohort.folds or make_folds(cohort, settings.n_folds, seed=settings.seed)
    if settings.folds is not None:
        known = {fold.number for fold in folds}
        missing = sorted(set(settings.folds) - known)
        if missing:
            raise CohortError(f"There is no fold {missing[0]}", f"Choose from {sorted(known)}")
        folds = tuple(fold for fold in folds if fold.number in settings.folds)
    by_set = "gene_set_sizes" in inspect.signature(model).parameters
    data = load_dataset(cohort, settings, by_gene_set=by_set)
    config = _model_config(model, data, settings)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        kept.write_text(text, encoding="utf-8")
        _write_facts(out, data)
    results = _fit_all(cohort, data, folds, settings, config, out, processes, by_set, progress)
    return _summarize(cohort, data, results, settings, config, out)


def _model_config(model: type, data: Dataset, settings: Settings) -> dict[str, Any]:
    """Sizes that follow from the data, then those of the settings."""
    accepted = inspect.signature(model).parameters
    config: dict[str, Any] = {}
    widths = {"pathology_dim": "pathology", "clinic_dim": "clinic", "genomic_dim": "genomic"}
    for name, modality in widths.items():
        if name in accepted and modality in data.encoders:
            config[name] = data.encoders[modality].dim
    if "gene_set_sizes" in accepted and data.gene_sets:
        config["gene_set_sizes"] = [len(s.genes) for s in data.gene_sets]
    elif "gene_set_sizes" in accepted:
        config["gene_set_sizes"] = [1]  # an ablation without genes: the tokenizer is there but never used
    unknown = sorted(set(settings.model_config) - set(accepted))
    if unknown:
        raise CohortError(
            f"The model {settings.model} has no size named {unknown[0]}", "Correct model_config"
        )
    return {**config, **settings.model_config}


def _fit_all(
    cohort: Cohort,
    data: Dataset,
    folds: Sequence[Fold],
    settings: Settings,
    config: dict[str, Any],
    out: Path,
    processes: int,
    by_set: bool,
    progress: ProgressCallback | None,
) -> list[FoldResult]:
    if processes == 1 or len(folds) == 1:
        return [fit_fold(data, f, settings, config, out / "folds" / str(f.number), progress) for f in folds]
    results = []
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its thread pool
    with ProcessPoolExecutor(min(processes, len(folds)), context) as pool:
        jobs = [
            pool.submit(_fit_alone, cohort.path, f, settings, config, out / "folds" / str(f.number), by_set)
            for f in folds
        ]
        for done, job in enumerate(as_completed(jobs), start=1):
            results.append(job.result())
            if progress:
                progress("folds", done, len(folds))
    return sorted(results, key=lambda result: result.fold)


def _fit_alone(
    cohort: Path, fold: Fold, settings: Settings, config: dict[str, Any], out: Path, by_set: bool
) -> FoldResult:
    """One fold in a process of its own, on one thread: threads that share cores cost more than they bring."""
    import torch

    torch.set_num_threads(1)
    data = load_dataset(read_cohort(cohort, endpoint=settings.endpoint), settings, by_gene_set=by_set)
    return fit_fold(data, fold, settings, config, out)


def _write_facts(out: Path, data: Dataset) -> None:
    if data.gene_reference is not None:
        genes = pd.DataFrame({"gene": data.gene_reference.genes})
        if data.gene_reference.mean is not None:
            genes["mean"], genes["sd"] = data.gene_reference.mean, data.gene_reference.sd
        genes.to_csv(out / "genes.csv", index=False, lineterminator="\n")
    if data.gene_sets:
        lines = ["\t".join((s.name, s.description, *s.genes)) for s in data.gene_sets]
        (out / "gene_sets.gmt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if data.templates is not None:
        shutil.copyfile(data.templates, out / "templates.toml")


def _summarize(
    cohort: Cohort,
    data: Dataset,
    results: Sequence[FoldResult],
    settings: Settings,
    config: dict[str, Any],
    out: Path,
) -> RunSummary:
    predictions = pd.concat([r.predictions for r in results], ignore_index=True)
    test = predictions[predictions["split"] == "test"].drop_duplicates("case_id")
    scores = tuple(r.test_c_index for r in results)
    pooled = c_index(test["survival_months"], test["event"], test["risk"])
    records = [cohort.records[case] for case in data.cases]
    vocabulary = {
        name: sorted({str(v) for r in records if (v := getattr(r, name)) is not None})
        for name in CLINICAL_FIELDS
        if name != "age"
    }
    document = {
        "version": __version__,
        "cohort": cohort.name,
        "endpoint": "overall survival" if settings.endpoint == "survival" else settings.endpoint,
        "model": settings.model,
        "model_config": {"n_bins": settings.n_bins, **config},
        "encoders": {m: dataclasses.asdict(spec) for m, spec in data.encoders.items()},
        "clip": settings.clip,
        "protocol": settings.protocol,
        "folds": [r.fold for r in results],
        "edges": [list(r.edges) for r in results],
        "epochs_kept": [r.epoch for r in results],
        "c_index": list(scores),
        "c_index_pooled": pooled,
        "n_patients": len(data.cases),
        "n_events": int(data.patients.loc[list(data.cases), "event"].sum()),
        "left_out": data.left_out,
        "vocabulary": vocabulary,
        "simulated": (cohort.path / "truth" / "settings.json").is_file(),
    }
    with writing(out):
        test.to_csv(out / "predictions.csv", index=False, lineterminator="\n")
        temporary = out / ".run.json.partial"
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        temporary.replace(out / "run.json")
    return RunSummary(out, settings.model, settings.protocol, scores, pooled, data.left_out)
