"""A slide of 120,000 x 100,000 px with 100,000 patches, and many slides one after the other: memory and handles.

python -m tests.benchmarks.long_runs [many] [count]
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from napari_survpgc.core.features.feature_file import write_features
from napari_survpgc.core.jobs.one_patient import predict_case
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.slide.tiles import TileCache, tiled_levels
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.types import Case, ClinicalRecord, JobOptions, PatchFeatures, PatchGrid
from tests.benchmarks.large_slide import write_large_slide
from tests.builders import tiny_bundle, tissue_image, write_tiff

SIZE, PATCHES = (120_000, 100_000), 100_000
_ME = psutil.Process()


def synthetic(path: Path, count: int, side: int, columns: int) -> Path:
    place = np.arange(count)
    coords = np.stack([place % columns * side, place // columns * side], 1).astype(np.int32)
    rows = np.random.default_rng(0).standard_normal((count, 1280), np.float32)
    grid = PatchGrid(coords, 256, 0.5, float(side), None)
    write_features(PatchFeatures(rows, grid, "efficientnet-lite0", np.zeros((0, 2), np.int32), None), path)
    return path


def large(folder: Path) -> None:
    peak = _peak()
    path = _told("written", lambda: write_large_slide(folder / "large.tiff", *SIZE))
    bundle = tiny_bundle(folder / "bundle", dim=256)
    features = _told("synthetic features", lambda: synthetic(folder / "large.h5", PATCHES, 256, 400))
    print(f"slide file {path.stat().st_size / 1e6:.0f} MB; memory before {peak():.2f} GiB")
    slide = _told("opened", lambda: open_slide(path))
    mask = _told("tissue found", lambda: find_tissue(slide))
    print(f"{len(mask.polygons)} outlines; peak {peak():.2f} GiB")
    tiles = TileCache(slide)
    level = tiled_levels(tiles)[0]
    rng, steps = np.random.default_rng(0), []
    for _ in range(60):
        x, y = (int(rng.integers(0, side - 1200)) for side in SIZE)
        begin = time.perf_counter()
        _ = level[y : y + 900, x : x + 1200]
        steps.append(time.perf_counter() - begin)
    tiles.close()
    slide.close()
    print(
        f"60 views of 1200 x 900 px: median {1e3 * np.median(steps):.0f} ms, worst {1e3 * max(steps):.0f} ms; peak {peak():.2f} GiB"
    )
    case = Case("large", (path,), ClinicalRecord(age=60.0), None, (features,))
    prediction = _told(
        "predicted, everything written",
        lambda: predict_case(case, bundle, folder / "out", options=JobOptions("cpu", attribution=True)),
    )
    print(f"{len(prediction.coords)} patches; peak {peak():.2f} GiB")


def many(folder: Path, count: int) -> None:
    bundle = tiny_bundle(folder / "bundle")
    for number in range(count):
        slide = write_tiff(folder / "s.tiff", tissue_image(900, 900, number), levels=2)
        features = synthetic(folder / "s.h5", 9, 256, 3)
        case = Case("x", (slide,), ClinicalRecord(age=60.0), None, (features,))
        predict_case(case, bundle, folder / f"out{number % 2}", options=JobOptions("cpu", attribution=False))
        if number % 10 == 9:
            gc.collect()
            print(
                f"{number + 1:4d} slides: {_ME.memory_info().rss / 2**20:.0f} MiB, {_handles()} handles, {_ME.num_threads()} threads",
                flush=True,
            )


def _handles() -> int:
    return _ME.num_fds() if os.name == "posix" else _ME.num_handles()


def _peak():
    import resource

    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _told(what, action):
    begin = time.perf_counter()
    found = action()
    print(f"{what}: {time.perf_counter() - begin:.1f} s", flush=True)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        if "many" in sys.argv:
            many(Path(place), int(sys.argv[-1]) if sys.argv[-1].isdigit() else 100)
        else:
            large(Path(place))
