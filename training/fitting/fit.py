"""Train one network on one fold; repeatable bit for bit, resumable after every epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from napari_survpgc.core.clinical.encoding import ClinicalEncoding, fit_encoding
from napari_survpgc.core.encoders.base import resolve_device, tune_allocator
from napari_survpgc.core.errors import CohortError, writing
from napari_survpgc.core.models import build_model
from napari_survpgc.core.models.base import SurvivalModel
from napari_survpgc.core.streams import atomic_stream
from napari_survpgc.core.survival import cosine_loss, hazards, nll_loss
from napari_survpgc.core.types import InputForm, ProgressCallback

from ..data.dataset import Dataset
from ..seeds import seed_of
from ..settings import Settings
from .feed import Feed
from .fold import FoldModel, FoldSplit, fold_score, write_log
from .optimizer import radam


def learning_rate_factor(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate: linear from 0 over one epoch, then half a cosine to 0."""
    if step < steps_per_epoch:
        return step / steps_per_epoch
    return 0.5 * (1 + math.cos(math.pi * (step - steps_per_epoch) / max(1, steps_per_epoch * (epochs - 1))))


def flatten(model: torch.nn.Module) -> torch.nn.Parameter:
    """Lay all parameters of a model out in one tensor, which the optimizer then moves in one go.

    The parameters and their gradients become views of it. For the small networks of a single modality the optimizer's
    dozen operations a parameter cost more than forward and backward together.
    """
    parameters = list(model.parameters())
    whole = torch.nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    whole.grad = torch.zeros_like(whole)
    sizes = [p.numel() for p in parameters]
    for p, values, gradient in zip(
        parameters, whole.detach().split(sizes), whole.grad.split(sizes), strict=True
    ):
        p.data = values.view_as(p)
        p.grad = gradient.view_as(p)
    return whole


def fit_network(
    data: Dataset,
    split: FoldSplit,
    settings: Settings,
    model_config: Mapping[str, Any],
    out: Path,
    progress: ProgressCallback | None = None,
) -> FoldModel:
    """Train one network; one that was stopped goes on after its last whole epoch (``out``/checkpoint.pt).

    Parameters
    ----------
    model_config : sizes for build_model, with ``n_bins``.

    Raises
    ------
    CohortError : training diverged.
    """
    device = resolve_device(settings.device)
    if device.type == "cpu":
        tune_allocator()
    encoding: ClinicalEncoding | None = None
    config = dict(model_config)
    facts: dict[str, Any] = {}
    if data.forms.clinic is InputForm.VECTOR:
        encoding = fit_encoding([data.records[case] for case in split.train])
        config["clinic_dim"] = len(encoding.columns)
        facts["clinical_encoding"] = encoding
    torch.manual_seed(seed_of(settings.seed, split.number, "init"))
    model = build_model(settings.model, **config).to(device)
    optimizer = radam(flatten(model), settings.lr, settings.weight_decay)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    feed = Feed(data, settings, model, encoding, device)
    state = _Checkpoint(out / "checkpoint.pt", model, optimizer)
    log, best = state.load()
    published = settings.protocol == "published"
    judged = split.test if published else {"inner": split.inner, "val": split.val}.get(settings.stopping, ())
    column = "test_c_index_optimistic" if published else f"{settings.stopping}_c_index"
    board = _board(out, settings)
    for epoch in range(len(log), settings.epochs):
        if best is not None and settings.patience and epoch - int(best["epoch"]) > settings.patience:
            break
        row: dict[str, float] = {"epoch": epoch, "loss": _epoch(optimizer, feed, split, epoch)}
        if split.val and not published:
            row["val_c_index"] = fold_score(data, split.val, _hazards(feed, split.val))
        if judged and epoch >= min(settings.first_kept_epoch, settings.epochs - 1):
            if column not in row:
                row[column] = fold_score(data, judged, _hazards(feed, judged))
            if best is None or not row[column] < best["c_index"]:  # ties: the later epoch
                weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
                best = {"epoch": epoch, "c_index": row[column], "weights": weights}
        log.append(row)
        with writing(out):
            state.save(log, best)
            write_log(out / "log.csv", log)
        if board is not None:
            for name, value in row.items():
                board.add_scalar(name, value, epoch)
            board.flush()
        if progress:
            progress(f"fold {split.number}", epoch + 1, settings.epochs)
    if board is not None:
        board.close()
    kept = len(log) - 1
    if best is not None:
        model.load_state_dict(best["weights"])
        kept = int(best["epoch"])
    return FoldModel(lambda cases: _hazards(feed, cases), kept, log, facts, model.state_dict())


def _board(out: Path, settings: Settings) -> Any:
    """Return TensorBoard's writer, or None when it is not asked for."""
    if not settings.tensorboard:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise CohortError(
            "TensorBoard is not installed", "pip install tensorboard, or set tensorboard = false"
        ) from error
    return SummaryWriter(str(out / "tensorboard"))


def _epoch(optimizer: torch.optim.Optimizer, feed: Feed, split: FoldSplit, epoch: int) -> float:
    """One pass over the training patients in batches. All chance comes from (seed, fold, epoch)."""
    settings, device, cases = feed.settings, feed.device, split.train
    rng = np.random.default_rng(seed_of(settings.seed, split.number, "epoch", epoch))
    torch.manual_seed(seed_of(settings.seed, split.number, "dropout", epoch))
    patients = feed.data.patients.loc[list(cases)]
    event = patients["event"].to_numpy(int)
    bin_of = split.bins.assign(patients["survival_months"].to_numpy(float))
    order = _order(bin_of, event, settings.weighted_sampling, rng)
    # By copying: what pandas hands out may be read-only, which from_numpy warns about.
    bins, events = torch.tensor(bin_of, device=device), torch.tensor(event, device=device)
    feed.model.train()
    total = torch.zeros((), dtype=torch.float64, device=device)
    steps = -(-len(order) // settings.batch_size)
    for step in range(steps):
        batch = order[step * settings.batch_size : (step + 1) * settings.batch_size]
        factor = learning_rate_factor(epoch * steps + step, steps, settings.epochs)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * factor
        optimizer.zero_grad(set_to_none=False)  # the gradients are views of the optimizer's
        given = feed.groups([cases[i] for i in batch], rng)
        if (step + 1) * settings.batch_size < len(order):
            feed.data.prefetch(cases[order[(step + 1) * settings.batch_size]])
        for positions, inputs in given:
            here = torch.from_numpy(batch[positions]).to(device)
            out = feed.forward(inputs)
            loss = nll_loss(out.logits, bins[here], events[here], settings.alpha)
            if settings.beta:
                half = out.embedding.shape[-1] // 2  # [genomic path, clinic path]
                difference = cosine_loss(out.embedding[:, half:], out.embedding[:, :half], settings.margin)
                loss = (1 - settings.beta) * loss + settings.beta * len(positions) * difference
            (loss / len(batch)).backward()
            total += loss.detach()
        optimizer.step()
    mean = float(total) / len(order)
    if not math.isfinite(mean):
        raise CohortError(f"Training of fold {split.number} diverged in epoch {epoch}", "Set lr lower")
    return mean


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


def _hazards(feed: Feed, cases: Sequence[str]) -> NDArray[np.float64]:
    """Return (n, n_bins) of all patches of each patient, in float32 with double from the logits on, as predict does."""
    feed.model.eval()
    rows = []
    whole = dataclasses.replace(feed, settings=dataclasses.replace(feed.settings, precision="float32"))
    with torch.no_grad():  # not inference_mode: bags read here are trained on in the next fold
        for number, case in enumerate(cases):
            if number + 1 < len(cases):
                feed.data.prefetch(cases[number + 1])
            rows.append(hazards(whole.forward(whole.inputs(case)).logits.double())[0].cpu().numpy())
    return np.stack(rows)


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
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "log": log,
            "best": best,
        }
        with atomic_stream(self.path) as stream:
            torch.save(state, cast(IO[bytes], stream))
