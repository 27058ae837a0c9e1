"""What finding tissue costs on large slides. ``python -m tests.benchmarks.test_tissue_rate`` prints it.

Beside it stands the plain read of the level that it is found on, in turns in one process; processor time is counted, so
that other load does not matter, and only ratios are meant. On a quiet 2-core machine that read takes 130 ms of 40,000 x
30,000 px; CLAM's segmentation took three times as long, TRIDENT's seven times (2026-11).
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from napari_survpgc.core.slide.slide import Slide, open_slide
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.tissue.patches import patch_grid

from .large_slide import write_large_slide

SIZES = ((40_000, 30_000), (120_000, 100_000))


@dataclass(frozen=True)
class TissueCost:
    """Seconds: of tissue and grid, processor and clock; processor of reading the stored level alone; patches."""

    tissue: float
    clock: float
    read: float
    patches: int


def measure(path: Path, rounds: int = 3) -> TissueCost:
    """Return the medians."""

    def everything(slide: Slide) -> int:
        return len(patch_grid(find_tissue(slide), slide.info))

    def level(slide: Slide) -> int:
        levels = slide.info.levels
        number = max(i for i, each in enumerate(levels) if each.stored and each.downsample * 0.25 < 8)
        width, height = levels[number].size
        step = 512
        for top in range(0, height, step):
            y = round(top * levels[number].downsample)
            slide.read_region(0, y, number, (width, min(step, height - top)))
        return 0

    def timed(work: Callable[[Slide], int]) -> tuple[float, float, int]:
        # A slide opened anew has nothing decoded yet.
        with open_slide(path) as slide:
            cpu, clock = time.process_time(), time.perf_counter()
            found = work(slide)
            return time.process_time() - cpu, time.perf_counter() - clock, found

    runs = [(timed(everything), timed(level)) for _ in range(rounds)]
    return TissueCost(
        statistics.median(ours[0] for ours, _ in runs),
        statistics.median(ours[1] for ours, _ in runs),
        statistics.median(read[0] for _, read in runs),
        runs[0][0][2],
    )


def peak_mb(path: Path) -> float:
    """Return the memory of a process that finds the tissue of a slide and does nothing else; NaN but on Linux."""
    if sys.platform != "linux":
        return math.nan
    # Of the system's own count: getrusage has the parent's peak in it, from before the program was replaced.
    code = (
        "import re, sys; from pathlib import Path; from napari_survpgc.core.slide.slide import open_slide;"
        "from napari_survpgc.core.tissue.find import find_tissue;"
        "slide = open_slide(sys.argv[1]); find_tissue(slide);"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def exponent(small: TissueCost, large: TissueCost) -> float:
    """Return by which power of the pixels the cost grows."""
    (a, b), (c, d) = SIZES
    return math.log(large.tissue / small.tissue) / math.log(c * d / (a * b))


@pytest.mark.benchmark
@pytest.mark.parametrize("noisy", [False, True])
def test_tissue_costs_no_more_than_reading_the_level_and_grows_with_its_pixels(
    tmp_path: Path, *, noisy: bool
) -> None:
    paths = [write_large_slide(tmp_path / f"{size[0]}.tiff", *size, noisy=noisy) for size in SIZES]
    small, large = (measure(path) for path in paths)
    assert small.tissue <= 2.2 * small.read
    assert exponent(small, large) <= 1.05
    assert not peak_mb(paths[1]) > 500


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for crumbs in (False, True):
            costs = []
            for width, height in SIZES:
                slide = write_large_slide(Path(folder) / "slide.tiff", width, height, noisy=crumbs)
                cost = measure(slide)
                costs.append(cost)
                sys.stdout.write(
                    f"{width} x {height}{', crumbs' if crumbs else ''}: tissue and grid {cost.tissue * 1e3:.0f} ms of"
                    f" processor time ({cost.clock * 1e3:.0f} ms by the clock), {cost.tissue / cost.read:.2f} times the"
                    f" read of the level; {cost.patches} patches; {peak_mb(slide):.0f} MB\n"
                )
            sys.stdout.write(f"grows as pixels^{exponent(*costs):.2f}\n")
