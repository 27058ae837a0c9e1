"""A training step, an epoch and a forward pass against the published model and loop.

``python -m tests.benchmarks.test_training_step`` prints them. All are timed in turns in one process on one thread, so
that other load hits them alike; only their ratios are meant.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from napari_survpgc.core.cohort.cohort import Fold
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.encoders.base import tune_allocator
from napari_survpgc.core.models import build_model, load_published_state_dict
from napari_survpgc.core.survival import nll_loss
from napari_survpgc.training.crossval import one_thread
from napari_survpgc.training.data import dataset
from napari_survpgc.training.fitting.feed import sample_patches
from napari_survpgc.training.fitting.fit import flatten
from napari_survpgc.training.fitting.fold import split_fold
from napari_survpgc.training.fitting.optimizer import radam
from napari_survpgc.training.settings import Settings
from napari_survpgc.training.systems import build_system

from .published import PublishedSurvPGC

BAG = 4096
BFLOAT16_GAIN = 2.0
GOALS = {"step float32": 0.65, "step bfloat16": 0.35, "forward and maps, 10,000 patches": 0.6}


def _inputs(n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"pathology": (1, n, 1024), "clinic": (1, 6, 512), "genomic": (1, 4, 768)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median processor seconds of each job, taken in turns after one for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if number:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _our_step(inputs: dict[str, Tensor], bfloat16: bool) -> Callable[[], object]:
    model = build_model("survpgc").train()
    optimizer = radam(flatten(model), 5e-4, 1e-3)
    bins, event = torch.tensor([1]), torch.tensor([1])

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(**inputs).logits
        optimizer.zero_grad(set_to_none=False)
        nll_loss(logits.float(), bins, event).backward()
        optimizer.step()

    return step


def _published_step(inputs: dict[str, Tensor]) -> Callable[[], object]:
    model: nn.Module = PublishedSurvPGC().train()
    optimizer = torch.optim.RAdam(model.parameters(), lr=5e-4, weight_decay=1e-3, decoupled_weight_decay=True)
    bins, event = torch.tensor([1]), torch.tensor([1])

    def step() -> None:
        optimizer.zero_grad()
        nll_loss(model(**inputs)[0], bins, event).backward()
        optimizer.step()

    return step


def measure_step(rounds: int) -> dict[str, float]:
    """Return our processor time of a step of 4,096 patches as a share of the published one, by precision."""
    inputs = _inputs(BAG)
    jobs = {
        "published": _published_step(inputs),
        "step float32": _our_step(inputs, False),
        "step bfloat16": _our_step(inputs, True),
    }
    with one_thread():
        seconds = _turns(jobs, rounds)
    whole = seconds.pop("published")
    return {name: value / whole for name, value in seconds.items()}


def bfloat16_gain() -> float:
    """Return how many times as fast as float32 this processor does the projection of a step in bfloat16."""
    rows, weights = torch.randn(BAG, 1024), torch.randn(1024, 256)
    half, half_weights = rows.bfloat16(), weights.bfloat16()
    with one_thread():
        seconds = _turns({"float32": lambda: rows @ weights, "bfloat16": lambda: half @ half_weights}, 20)
    return seconds["float32"] / seconds["bfloat16"]


def measure_forward(n: int, rounds: int) -> float:
    """Return our share in the time of the published forward pass with all six maps."""
    inputs = _inputs(n)
    ours, theirs = build_model("survpgc").eval(), PublishedSurvPGC().eval()
    with one_thread(), torch.inference_mode():
        seconds = _turns(
            {"theirs": lambda: theirs(**inputs), "ours": lambda: ours(**inputs, return_attention=True)},
            rounds,
        )
    return seconds["ours"] / seconds["theirs"]


def _write_cohort(folder: Path, patients: int, n: int) -> None:
    (folder / "features").mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids = [f"P{i}" for i in range(patients)]
    for case in ids:
        rows = rng.standard_normal((n, 1024), np.float32)
        torch.save(torch.from_numpy(rows), folder / f"{case}.pt")
        with h5py.File(folder / "features" / f"{case}.h5", "w") as file:
            file["features"], file["coords"] = rows.astype(np.float16), np.zeros((n, 2), np.int32)
    months = rng.uniform(1, 90, patients).round(2)
    event = np.arange(patients) % 2
    table = pd.DataFrame(
        {"case_id": ids, "slide_ids": ids, "survival_months": months, "event": event, "age": 60}
    )
    table.to_csv(folder / "patients.csv", index=False)
    genes = pd.DataFrame(rng.normal(size=(patients, 40)), ids, [f"G{i}" for i in range(40)])
    genes.to_csv(folder / "expression.csv.gz", index_label="case_id")


def measure_epoch(folder: Path, patients: int = 8, n: int = 12_000, rounds: int = 2) -> dict[str, float]:
    """Return wall-clock shares of the published loop: our epoch reading every bag, and with the bags in memory.

    The published loop loads each bag (float32, torch.save), draws 4,096 patches and takes a step. Ours reads float16
    from HDF5, the next bag behind the step.
    """
    _write_cohort(folder / "cohort", patients, n)
    cohort = read_cohort(folder / "cohort")
    settings = Settings(model="survpgc", epochs=1)
    system = build_system(settings)
    cases = tuple(map(str, cohort.patients.index))
    fold = Fold(0, cases[1:], (), cases[:1])
    shapes = _inputs(1)
    published, bins, event = PublishedSurvPGC().train(), torch.tensor([1]), torch.tensor([1])
    optimizer = torch.optim.RAdam(
        published.parameters(), lr=5e-4, weight_decay=1e-3, decoupled_weight_decay=True
    )
    rng = np.random.default_rng(0)

    def their_epoch() -> float:
        start = time.perf_counter()
        for case in fold.train:
            bag = torch.load(folder / "cohort" / f"{case}.pt", weights_only=True)
            optimizer.zero_grad()
            logits, _ = published(sample_patches(bag, BAG, rng)[None], shapes["clinic"], shapes["genomic"])
            nll_loss(logits, bins, event).backward()
            optimizer.step()
        return time.perf_counter() - start

    def our_epoch(name: str, data: dataset.Dataset) -> float:
        split = split_fold(data, fold, settings, 4)
        config = system.config(data, len(split.edges) - 1)
        start = time.perf_counter()
        system.fit(data, split, config, folder / name)
        return time.perf_counter() - start

    times: dict[str, list[float]] = {"theirs": [], "reading": [], "in memory": []}
    with one_thread():
        kept = dataset.load_dataset(cohort, settings, system.forms)
        for case in cases:
            kept.bag(case)
        for number in range(rounds):
            reading = dataset.load_dataset(cohort, settings, system.forms)
            reading._kept = 1 << 60  # memory is full: nothing more is kept
            reading.slide_means()  # the look at every file that a run takes once, before its 20 epochs
            times["theirs"].append(their_epoch())
            times["reading"].append(our_epoch(f"reading{number}", reading))
            times["in memory"].append(our_epoch(f"memory{number}", kept))
    whole = min(times["theirs"])
    return {name: min(times[name]) / whole for name in ("reading", "in memory")}


def test_the_baseline_is_the_published_model() -> None:
    torch.manual_seed(0)
    theirs, ours = PublishedSurvPGC().eval(), build_model("survpgc").eval()
    load_published_state_dict(ours, theirs.state_dict())
    inputs = _inputs(50)
    with torch.no_grad():
        logits, maps = theirs(**inputs)
        out = ours(**inputs, return_attention=True)
    torch.testing.assert_close(out.logits, logits, atol=1e-5, rtol=0)
    names = [
        f"{a}_to_{b}" for m in ("genomic", "clinic") for a, b in ((m, m), (m, "pathology"), ("pathology", m))
    ]
    for name, block in zip(names, maps, strict=True):
        torch.testing.assert_close(out.attention[name], block, atol=1e-4, rtol=0)


@pytest.mark.benchmark
def test_a_step_takes_less_than_the_published_one() -> None:
    shares = measure_step(20)
    assert shares["step float32"] <= GOALS["step float32"]
    faster = bfloat16_gain()
    if faster < BFLOAT16_GAIN:
        pytest.skip(
            f"step in bfloat16: {shares['step bfloat16']:.2f}; not judged, since this processor multiplies bfloat16"
            f" {faster:.1f} times as fast as float32, where the goal was set it was 4.6 times"
        )
    assert shares["step bfloat16"] <= GOALS["step bfloat16"]


@pytest.mark.benchmark
def test_forward_with_maps_takes_less_than_the_published_one() -> None:
    assert measure_forward(10_000, 12) <= GOALS["forward and maps, 10,000 patches"]


@pytest.mark.benchmark
def test_loading_hides_behind_the_step(tmp_path: Path) -> None:
    shares = measure_epoch(tmp_path)
    assert shares["reading"] <= 0.65
    assert shares["reading"] <= 1.25 * shares["in memory"]


if __name__ == "__main__":
    lines = [f"{name}: {share:.2f} of the published one" for name, share in measure_step(20).items()]
    lines.append(f"this processor's gain by bfloat16 in a matrix product: {bfloat16_gain():.2f}")
    tune_allocator()
    lines += [f"{name} (allocator tuned): {share:.2f}" for name, share in measure_step(20).items()]
    lines += [f"forward and maps, {n:,} patches: {measure_forward(n, 12):.2f}" for n in (1_000, 10_000)]
    with tempfile.TemporaryDirectory() as place:
        lines += [f"epoch, {name}: {share:.2f}" for name, share in measure_epoch(Path(place)).items()]
    sys.stdout.write("\n".join(lines) + "\n")
