"""How close feature extraction comes to the model alone. ``python -m tests.benchmarks.test_feature_rate`` prints it.

Both are timed in turns in one process, so that other load hits both alike; only their ratio is meant.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from napari_survpgc.core.encoders.catalog import load_image_encoder
from napari_survpgc.core.features.compute import CPU_BATCH, compute_features
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.types import PatchGrid
from napari_survpgc.simulation.histology import Histology
from napari_survpgc.simulation.section import draw_section
from napari_survpgc.simulation.slide_file import write_slide


def measure(folder: Path, n_patches: int, rounds: int) -> tuple[float, float]:
    """Return the median rates (patches a second) of the model alone and of the whole, JPEG slide in the page cache."""
    side = 16 * int(np.ceil(n_patches**0.5))
    section = draw_section(
        Histology(0.5, 0.1, 0.1), (max(1024, side * 16), max(1024, side * 16)), np.random.default_rng(0)
    )
    write_slide(section, folder / "bench.tiff")
    encoder = load_image_encoder("efficientnet-lite0", "cpu")
    steps = np.arange(0, side * 16, 256)[: int(np.ceil(n_patches**0.5))]
    y, x = np.meshgrid(steps, steps, indexing="ij")
    coords = np.stack([x.ravel(), y.ravel()], 1)[:n_patches].astype(np.int32)
    grid = PatchGrid(coords, 256, 0.5, 256.0)
    alone, whole = [], []
    with open_slide(folder / "bench.tiff") as slide:
        patches = np.stack([slide.read_square(int(a), int(b), 256.0, encoder.input_px) for a, b in coords])
        encoder.encode(patches[:CPU_BATCH])
        for number in range(rounds):
            start = time.perf_counter()
            for first in range(0, n_patches, CPU_BATCH):
                encoder.encode(patches[first : first + CPU_BATCH])
            middle = time.perf_counter()
            compute_features(slide, grid, encoder, folder / f"{number}.h5")
            end = time.perf_counter()
            alone.append(n_patches / (middle - start))
            whole.append(n_patches / (end - middle))
    return statistics.median(alone), statistics.median(whole)


@pytest.mark.benchmark
def test_reading_hides_behind_the_model(tmp_path: Path) -> None:
    alone, whole = measure(tmp_path, 484, 3)
    assert whole >= 0.9 * alone


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp())
    try:
        model_only, end_to_end = measure(place, 484, 3)
    finally:
        shutil.rmtree(place)
    sys.stdout.write(
        f"model only {model_only:.1f} patches/s, end to end {end_to_end:.1f} patches/s: {end_to_end / model_only:.2f}\n"
    )
