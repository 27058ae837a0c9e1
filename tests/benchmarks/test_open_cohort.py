"""Opening a cohort of 400 patients with 20,000 genes, and each of its patients; on request only, on a quiet machine.

python -m tests.benchmarks.test_open_cohort
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.jobs.cohort_risks import cohort_patient

PATIENTS, GENES = 400, 20_000


def write_cohort(folder: Path) -> Path:
    """Write z-scores as TCGA's are given: four decimals, gzipped (21 MB); feature files are empty, nobody opens them."""
    rng = np.random.default_rng(0)
    cases = [f"TCGA-{number:04d}" for number in range(PATIENTS)]
    (folder / "features").mkdir()
    for case in cases:
        (folder / "features" / f"{case}.h5").touch()
    patients = pd.DataFrame(
        {"case_id": cases, "slide_ids": cases, "age": 60, "sex": "female", "stage": "Stage II"}
    )
    follow_up = {
        "survival_months": rng.uniform(1, 90, PATIENTS).round(2),
        "event": rng.integers(0, 2, PATIENTS),
    }
    patients.assign(**follow_up).to_csv(folder / "patients.csv", index=False)
    values = rng.normal(size=(PATIENTS, GENES)).round(4)
    frame = pd.DataFrame(
        values, pd.Index(cases, name="case_id"), [f"GENE{number}" for number in range(GENES)]
    )
    frame.to_csv(folder / "expression.csv.gz")
    return folder


def measure(folder: Path, repeats: int = 3) -> tuple[float, list[float]]:
    """Return the seconds to open a cohort folder (the fastest time), and the seconds of each patient after it."""
    opening, cohort = [], None
    for _ in range(repeats):
        begin = time.perf_counter()
        cohort = read_cohort(folder)
        opening.append(time.perf_counter() - begin)
    assert isinstance(cohort, Cohort)
    each = []
    for case in cohort.records:
        begin = time.perf_counter()
        cohort_patient(cohort, case)
        each.append(time.perf_counter() - begin)
    return min(opening), each


@pytest.mark.benchmark
def test_a_cohort_opens_in_time(tmp_path: Path) -> None:
    opening, each = measure(write_cohort(tmp_path))
    assert opening < 5
    assert float(np.percentile(each, 95)) < 0.05


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        seconds, patients = measure(write_cohort(Path(place)))
    print(
        f"{PATIENTS} patients x {GENES} genes open in {seconds:.2f} s; each patient p50 {1e3 * np.median(patients):.1f} ms,"
        f" p95 {1e3 * np.percentile(patients, 95):.1f} ms, worst {1e3 * max(patients):.1f} ms"
    )
