"""Train and evaluate one fold model; repeatable bit for bit, resumable after every epoch."""

from __future__ import annotations

import csv
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.cohort import Fold
from napari_survpgc.core.encoders.base import resolve_device
from napari_survpgc.core.errors import CohortError, writing
from napari_survpgc.core.metrics import c_index
from napari_survpgc.core.models import build_model
from napari_survpgc.core.models.base import SurvivalModel
from napari_survpgc.core.survival import TimeBins, cosine_loss, cut_bins, hazards, nll_loss, risk, survival
from napari_survpgc.core.types import Modality, ProgressCallback

from .dataset import Dataset
from .settings import Settings


@dataclass(frozen=True)
class FoldResult:
    """What one fold gave.

    Attributes
    ----------
    predictions : case_id, fold, split, risk, hazard_0 ..., survival_months, event.
    edges : (n_bins + 1,) months, from the deaths of the training fold.
    epoch : the epoch whose weights were kept.   test_c_index : held out under "honest", optimistic under "published".
    """

    fold: int
    predictions: pd.DataFrame
    edges: tuple[float, ...]
    epoch: int
    test_c_index: float


def learning_rate_factor(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate: linear from 0 over one epoch, then half a cosine to 0."""
    if step < steps_per_epoch:
        return step / steps_per_epoch
    return 0.5 * (1 + math.cos(math.pi * (step - steps_per_epoch) / max(1, steps_per_epoch * (epochs - 1))))


def sample_patches(bag: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Return ``count`` patches of a bag in their order, drawn without replacement; a smaller bag as it is."""
    if len(bag) <= count:
        return bag
    return bag[np.sort(rng.choice(len(bag), count, replace=False))]


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts and nothing else."""
    text = "|".join(map(str, parts)).encode()
    return zlib.crc32(text) << 31 | zlib.crc32(text[::-1])


def fit_fold(
    data: Dataset,
    fold: Fold,
    settings: Settings,
    model_config: Mapping[str, Any],
    out: Path,
    progress: ProgressCallback | None = None,
) -> FoldResult:
    """Train one fold into ``out`` (weights.safetensors, log.csv, predictions.csv, fold.json).

    A finished fold is read back; one that was stopped goes on after its last whole epoch.

    Raises
    ------
    CohortError : the training fold cannot be cut into bins, or has no test patient left.
    """
    if (out / "fold.json").is_file():
        return _read(out, fold.number)
    here = set(data.cases)
    train, val, test = (tuple(c for c in part if c in here) for part in (fold.train, fold.val, fold.test))
    if settings.protocol == "published" or set(val) & set(test):
        val = ()  # the published splits repeat the test patients as val
    if not train or not test:
        raise CohortError(
            f"Fold {fold.number} has no train or no test patient with all modalities", "Make other folds"
        )
    months, event = data.patients["survival_months"], data.patients["event"]
    bins = cut_bins(
        months.loc[list(train)],
        event.loc[list(train)],
        settings.n_bins,
        drop_ties=settings.protocol == "honest",
    )
    if len(bins.edges) - 1 != settings.n_bins:
        raise CohortError(
            f"The deaths of training fold {fold.number} fill only {len(bins.edges) - 1} of {settings.n_bins} bins",
            "Set n_bins lower",
        )
    device = resolve_device(settings.device)
    torch.manual_seed(seed_of(settings.seed, fold.number, "init"))
    model = build_model(settings.model, n_bins=settings.n_bins, **model_config).to(device)
    optimizer = torch.optim.RAdam(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, decoupled_weight_decay=True
    )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    state = _Checkpoint(out / "checkpoint.pt", model, optimizer)
    log, best = state.load()
    for epoch in range(len(log), settings.epochs):
        loss = _epoch(model, optimizer, data, train, bins, settings, fold.number, epoch, device)
        row: dict[str, float] = {"epoch": epoch, "loss": loss}
        if val:
            row["val_c_index"] = _c_index(_evaluate(model, data, val, settings, device), data)
        if settings.protocol == "published" and epoch >= settings.first_kept_epoch:
            row["test_c_index_optimistic"] = _c_index(_evaluate(model, data, test, settings, device), data)
            if best is None or row["test_c_index_optimistic"] >= best["c_index"]:  # ties: the later epoch
                weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
                best = {"epoch": epoch, "c_index": row["test_c_index_optimistic"], "weights": weights}
        log.append(row)
        with writing(out):
            state.save(log, best)
        if progress:
            progress(f"fold {fold.number}", epoch + 1, settings.epochs)
    kept = settings.epochs - 1
    if best is not None:
        model.load_state_dict(best["weights"])
        kept = int(best["epoch"])
    tables = [
        _evaluate(model, data, cases, settings, device).assign(fold=fold.number, split=split)
        for split, cases in (("test", test), ("val", val), ("train", train))
        if cases
    ]
    predictions = pd.concat(tables, ignore_index=True)
    predictions["survival_months"] = months.loc[predictions["case_id"]].to_numpy()
    predictions["event"] = event.loc[predictions["case_id"]].to_numpy()
    edges = (0.0, *bins.edges[1:-1].tolist(), float(months.loc[list(train)].max()))
    score = _c_index(predictions[predictions["split"] == "test"], data)
    with writing(out):
        _write(out, model, log, predictions, {"edges": edges, "epoch": kept, "test_c_index": score})
        (out / "checkpoint.pt").unlink(missing_ok=True)
    return _read(out, fold.number)


def model_inputs(
    data: Dataset,
    case: str,
    model: SurvivalModel,
    settings: Settings,
    device: torch.device,
    rng: np.random.Generator | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of the model's forward for one patient.

    With ``rng`` (training) patches are drawn, and whole modalities dropped as the settings say.
    """
    inputs: dict[str, Any] = {}
    needs = {str(m) for m in model.REQUIRES} & set(settings.modalities)
    if Modality.PATHOLOGY in needs:
        bag = data.bag(case)
        inputs["pathology"] = (sample_patches(bag, settings.max_patches, rng) if rng else bag)[None].to(
            device
        )
    if Modality.CLINIC in needs and not (rng and rng.random() < settings.clinic_dropout):
        inputs["clinic"] = data.clinic[case][None].to(device)
    if Modality.GENOMIC in needs and not (rng and rng.random() < settings.genomic_dropout):
        genomic = data.genomic_input(case, by_set=bool(data.gene_sets))
        inputs["genomic"] = (
            [g.to(device) for g in genomic] if isinstance(genomic, list) else genomic.to(device)
        )
    return inputs


def _epoch(
    model: SurvivalModel,
    optimizer: torch.optim.Optimizer,
    data: Dataset,
    cases: Sequence[str],
    bins: TimeBins,
    settings: Settings,
    fold: int,
    epoch: int,
    device: torch.device,
) -> float:
    """One pass over the training patients, one patient a step. All chance comes from (seed, fold, epoch)."""
    rng = np.random.default_rng(seed_of(settings.seed, fold, "epoch", epoch))
    torch.manual_seed(seed_of(settings.seed, fold, "dropout", epoch))
    months = data.patients["survival_months"].loc[list(cases)].to_numpy(float)
    event = data.patients["event"].loc[list(cases)].to_numpy(int)
    bin_of = bins.assign(months)
    order = _order(bin_of, event, settings.weighted_sampling, rng)
    model.train()
    total = 0.0
    for number, index in enumerate(order):
        factor = learning_rate_factor(epoch * len(order) + number, len(order), settings.epochs)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * factor
        out = model(**model_inputs(data, cases[index], model, settings, device, rng))
        loss = nll_loss(
            out.logits,
            torch.tensor([bin_of[index]], device=device),
            torch.tensor([event[index]], device=device),
            settings.alpha,
        )
        if settings.beta:
            half = out.embedding.shape[-1] // 2  # [genomic path, clinic path]
            difference = cosine_loss(out.embedding[:, half:], out.embedding[:, :half], settings.margin)
            loss = (1 - settings.beta) * loss + settings.beta * difference
        if not torch.isfinite(loss):
            raise CohortError(f"Training diverged at patient {cases[index]} in epoch {epoch}", "Set lr lower")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += float(loss.detach())
    return total / len(order)


def _order(
    bin_of: NDArray[np.int64], event: NDArray[np.int64], weighted: bool, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the order of patients of an epoch; weighted: by how rare their (bin, censoring) label is."""
    n = len(bin_of)
    if not weighted:
        return rng.permutation(n)
    label = 2 * bin_of + (1 - event)
    weight = n / np.bincount(label)[label]
    return rng.choice(n, n, replace=True, p=weight / weight.sum())


def _evaluate(
    model: SurvivalModel, data: Dataset, cases: Sequence[str], settings: Settings, device: torch.device
) -> pd.DataFrame:
    model.eval()
    rows = []
    with torch.no_grad():  # not inference_mode: bags read here are trained on in the next fold
        for case in cases:
            # In double from the logits on, as predict does, so that both give the same risk.
            hazard = hazards(model(**model_inputs(data, case, model, settings, device)).logits.double())
            value = float(risk(survival(hazard))[0])
            columns = {f"hazard_{k}": float(h) for k, h in enumerate(hazard[0])}
            rows.append({"case_id": case, "risk": value, **columns})
    return pd.DataFrame(rows)


def _c_index(table: pd.DataFrame, data: Dataset) -> float:
    patients = data.patients.loc[table["case_id"]]
    return c_index(patients["survival_months"], patients["event"], table["risk"])


class _Checkpoint:
    """The state after the last whole epoch."""

    def __init__(self, path: Path, model: SurvivalModel, optimizer: torch.optim.Optimizer) -> None:
        self.path, self.model, self.optimizer = path, model, optimizer

    def load(self) -> tuple[list[dict[str, float]], dict[str, Any] | None]:
        if not self.path.is_file():
            return [], None
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        return saved["log"], saved["best"]

    def save(self, log: list[dict[str, float]], best: dict[str, Any] | None) -> None:
        temporary = self.path.with_suffix(".partial")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "log": log,
                "best": best,
            },
            temporary,
        )
        temporary.replace(self.path)


def _write(
    out: Path,
    model: SurvivalModel,
    log: Sequence[Mapping[str, float]],
    predictions: pd.DataFrame,
    summary: Mapping[str, Any],
) -> None:
    state = model.state_dict()
    safetensors.torch.save_file(
        {key: state[key].detach().cpu().contiguous() for key in sorted(state)},
        str(out / "weights.safetensors"),
    )
    names = list(dict.fromkeys(name for row in log for name in row))
    with (out / "log.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(log)
    predictions.to_csv(out / "predictions.csv", index=False, lineterminator="\n")
    # Last: its presence says that the fold is whole.
    temporary = out / ".fold.json.partial"
    temporary.write_text(json.dumps(summary) + "\n", encoding="utf-8")
    temporary.replace(out / "fold.json")


def _read(out: Path, fold: int) -> FoldResult:
    summary = json.loads((out / "fold.json").read_text(encoding="utf-8"))
    predictions = pd.read_csv(out / "predictions.csv", dtype={"case_id": str})
    return FoldResult(fold, predictions, tuple(summary["edges"]), summary["epoch"], summary["test_c_index"])
