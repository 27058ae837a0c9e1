"""How quickly the window answers at 20,000 patches; on request only (`make benchmark`), on a quiet machine.

python -m tests.benchmarks.test_window      prints the figures
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from napari_survpgc.core.attention.maps import AttentionMaps, MapScale
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.predict.what_if import what_if
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
    ExpressionUnit,
    PatchFeatures,
    PatchGrid,
    Prediction,
)
from napari_survpgc.resources import resource_path

N_PATCHES = 20_000


def large_prediction() -> Prediction:
    """A prediction of the demonstration bundle for random features of 20,000 patches."""
    bundle = load_bundle(resource_path("demo_bundle"))
    predictor = Predictor(bundle, "cpu")
    assert bundle.gene_reference is not None
    rng = np.random.default_rng(0)
    place = np.arange(N_PATCHES)
    coords = np.stack([place % 160 * 256, place // 160 * 256], 1).astype(np.int32)
    rows = np.abs(rng.normal(size=(N_PATCHES, 1280))).astype(np.float32)
    features = PatchFeatures(
        rows, PatchGrid(coords, 256, 0.5, 256.0), "efficientnet-lite0", np.zeros((0, 2), np.int32)
    )
    profile = ExpressionProfile(
        dict.fromkeys(bundle.gene_reference.genes, 0.1), ExpressionUnit.ZSCORE, True, "s", "x"
    )
    patient = predictor.prepare_patient(ClinicalRecord(age=60.0), profile)
    return predictor.predict(patient, features, attribution=False)


def measure(repeats: int = 9) -> dict[str, float]:
    """Median milliseconds of a what-if (model, maps and ranks) and of the values and image of one repaint."""
    prediction = large_prediction()
    times: dict[str, list[float]] = {"what-if clinic": [], "what-if genomic": [], "repaint": []}
    name = prediction.token_names["genomic"][0]
    for number in range(repeats + 2):
        for kind in ("clinic", "genomic"):
            began = time.perf_counter()
            fields = {"age": 40 + number} if kind == "clinic" else {}
            shifts = {} if kind == "clinic" else {name: 0.1 * (number + 1)}
            changed = what_if(prediction, fields, gene_sets=shifts)
            maps = AttentionMaps(changed)
            for which in maps.names:
                maps.map(which)
            times[f"what-if {kind}"].append(1e3 * (time.perf_counter() - began))
        began = time.perf_counter()
        values = maps.values("clinic", number % 6, MapScale.PERCENTILE)
        maps.cells.image(values.values, -1.0)
        times["repaint"].append(1e3 * (time.perf_counter() - began))
    return {kind: statistics.median(values[2:]) for kind, values in times.items()}


@pytest.mark.benchmark
def test_what_if_and_repaint_are_quick_enough_to_follow_a_slider() -> None:
    found = measure()
    assert found["what-if clinic"] < 100
    assert found["what-if genomic"] < 100
    assert found["repaint"] < 50


if __name__ == "__main__":
    for what, milliseconds in measure().items():
        print(f"{what}: {milliseconds:.1f} ms at {N_PATCHES} patches")
