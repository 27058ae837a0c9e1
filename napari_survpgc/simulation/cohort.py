"""``survpgc simulate``: a cohort folder with known truth, and single patients of it for the demonstration.

Besides the files of the cohort contract the folder gets ``slides/``, ``truth/`` (log hazards by modality, latents,
a region map a slide) and ``expression_reference.csv`` (what a log2(TPM+1) value of each gene is compared with).
"""

from __future__ import annotations

import dataclasses
import gzip
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from napari_survpgc.core.cells import csv_text, frame_text
from napari_survpgc.core.errors import OutputError
from napari_survpgc.core.files import (
    atomic,
    is_vacant,
    read_json,
    sweep,
    write_bytes,
    write_json,
    write_table,
    write_text,
)
from napari_survpgc.core.genomics.gene_sets import write_gmt
from napari_survpgc.core.locks import claim
from napari_survpgc.core.names import file_name
from napari_survpgc.core.types import CLINICAL_FIELDS, ProgressCallback

from .histology import Region
from .patients import GENE_SETS, GENES, SimulatedPatient, gene_baseline, patient_generator, simulate_patient
from .section import draw_section
from .slide_file import write_slide

SLIDE_PX = (2560, 2560)
DEMO_SEED, DEMO_INDEX, DEMO_SLIDE_PX = 7, 45, (6144, 5120)
N_FOLDS = 5


@dataclass(frozen=True)
class SimulatedCase:
    """The files of one simulated patient, as ``survpgc predict`` takes them."""

    slide: Path
    clinical: Path
    expression: Path
    regions: Path
    patient: SimulatedPatient


def simulate_cohort(
    out: Path,
    *,
    patients: int,
    seed: int,
    slide_px: tuple[int, int] = SLIDE_PX,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> None:
    """Write a cohort folder; slides that are there already are kept, so an interrupted run goes on.

    Parameters
    ----------
    patients : number of patients, at least 10.
    slide_px : (width, height) of each slide at 0.5 µm per px, multiples of 16.
    workers : processes that draw slides; the result does not depend on it.

    Raises
    ------
    OutputError : the folder holds another cohort, or cannot be written.
    """
    if patients < 2 * N_FOLDS:
        raise OutputError(
            f"{patients} patients are too few for {N_FOLDS} folds",
            f"Simulate at least {2 * N_FOLDS} patients",
        )
    settings = {"patients": patients, "seed": seed, "slide_px": list(slide_px)}
    marker = out / "truth" / "settings.json"
    if marker.is_file() and read_json(marker, 1 << 20, OutputError, "Choose a new folder") != settings:
        raise OutputError(f"{out} holds a cohort simulated with other settings", "Choose a new folder")
    if not marker.is_file() and not is_vacant(out):
        raise OutputError(f"{out} is not empty", "Choose a new folder")
    with claim(out, f"simulating into {out}"):
        _simulate(out, patients, seed, slide_px, settings, workers, progress)


def _simulate(
    out: Path,
    patients: int,
    seed: int,
    slide_px: tuple[int, int],
    settings: Mapping[str, Any],
    workers: int,
    progress: ProgressCallback | None,
) -> None:
    marker = out / "truth" / "settings.json"
    cohort = [simulate_patient(seed, index) for index in range(patients)]
    for folder in (out, *(out / name for name in ("slides", "folds", "truth", "truth/regions"))):
        sweep(folder)
    write_json(marker, settings, indent=None)
    _write_tables(out, cohort, seed)
    jobs = [
        (
            out / "slides" / f"{file_name(p.slide_id)}.tiff",
            out / "truth" / "regions" / f"{file_name(p.slide_id)}.png",
            seed,
            index,
        )
        for index, p in enumerate(cohort)
    ]
    jobs = [job for job in jobs if not (job[0].is_file() and job[1].is_file())]
    done = patients - len(jobs)
    if progress:
        progress("slides", done, patients)
    if workers == 1:
        for slide, regions, _, index in jobs:
            _draw(slide, regions, seed, index, slide_px)
            done += 1
            if progress:
                progress("slides", done, patients)
        return
    pool = ProcessPoolExecutor(workers)
    try:
        futures = [
            pool.submit(_draw, slide, regions, seed, index, slide_px) for slide, regions, _, index in jobs
        ]
        for future in as_completed(futures):
            future.result()
            done += 1
            if progress:
                progress("slides", done, patients)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def simulate_case(
    out: Path,
    *,
    seed: int,
    index: int,
    slide_px: tuple[int, int] = SLIDE_PX,
    progress: ProgressCallback | None = None,
) -> SimulatedCase:
    """Write the files of one patient: the slide (kept if it is there), the record and the expression.

    With ``slide_px=SLIDE_PX`` they are the same, bit for bit, as in the cohort of that seed.
    """
    patient = simulate_patient(seed, index)
    case = SimulatedCase(
        slide=out / f"{file_name(patient.slide_id)}.tiff",
        clinical=out / "clinical.json",
        expression=out / "expression.csv",
        regions=out / f"{file_name(patient.slide_id)}-regions.png",
        patient=patient,
    )
    write_json(case.clinical, dataclasses.asdict(patient.record))
    rows = [(gene, f"{value:.4f}") for gene, value in zip(GENES, patient.expression, strict=True)]
    write_text(case.expression, csv_text(("gene", "z-score"), rows))
    if not (case.slide.is_file() and case.regions.is_file()):
        _draw(case.slide, case.regions, seed, index, slide_px, progress)
    return case


def _draw(
    slide: Path,
    regions: Path,
    seed: int,
    index: int,
    slide_px: tuple[int, int],
    progress: ProgressCallback | None = None,
) -> None:
    """Draw one slide; module-level so that a process pool can call it."""
    patient = simulate_patient(seed, index)
    section = draw_section(patient.histology, slide_px, patient_generator(seed, index, "slide"), progress)
    with atomic(regions) as place:
        Image.fromarray(section.regions).save(place, format="PNG")
    write_slide(section, slide)


def _write_tables(out: Path, cohort: Sequence[SimulatedPatient], seed: int) -> None:
    patients = pd.DataFrame(
        [
            {
                "case_id": p.case_id,
                "slide_ids": p.slide_id,
                **{name: getattr(p.record, name) for name in CLINICAL_FIELDS},
                "survival_months": p.survival_months,
                "event": p.event,
                "site": p.site,
            }
            for p in cohort
        ]
    )
    patients["age"] = patients["age"].astype("Int64")
    write_table(out / "patients.csv", patients)
    expression = pd.DataFrame([p.expression for p in cohort], columns=list(GENES))
    expression.insert(0, "case_id", [p.case_id for p in cohort])
    buffer = io.BytesIO()
    with gzip.GzipFile(
        fileobj=buffer, mode="wb", mtime=0
    ) as packed:  # no time stamp: the same bytes every time
        packed.write(frame_text(expression).encode())
    write_bytes(out / "expression.csv.gz", buffer.getvalue())
    mean, sd = gene_baseline()
    reference = pd.DataFrame({"gene": GENES, "mean": mean, "sd": sd})
    write_table(out / "expression_reference.csv", reference)
    write_gmt(GENE_SETS, out / "gene_sets.gmt")
    truth = pd.DataFrame(
        [
            {
                "case_id": p.case_id,
                "log_hazard": p.log_hazard,
                **{f"log_hazard_{name}": value for name, value in p.parts.items()},
                **{f"programme_{name}": value for name, value in p.programmes.items()},
                "grade": p.histology.grade,
                "lymphocytes": p.histology.lymphocytes,
                "necrosis": p.histology.necrosis,
                "pen": p.histology.pen,
                "fold": int(p.histology.fold),
            }
            for p in cohort
        ]
    )
    write_table(out / "truth" / "patients.csv", truth)
    classes = {str(region.value): region.name.lower() for region in Region}
    write_json(out / "truth" / "classes.json", classes)
    _write_folds(out / "folds", cohort, seed)


def _write_folds(folder: Path, cohort: Sequence[SimulatedPatient], seed: int) -> None:
    """Five folds, as many deaths in each; val is a tenth of the training patients, never of the test patients."""
    rng = np.random.default_rng([seed, N_FOLDS])
    order = rng.permutation(len(cohort))
    order = order[np.argsort([cohort[i].event for i in order], kind="stable")]
    part = np.empty(len(cohort), int)
    part[order] = np.arange(len(cohort)) % N_FOLDS
    for fold in range(N_FOLDS):
        split = np.where(part == fold, "test", "train").astype(object)
        training = order[part[order] != fold]
        split[training[rng.integers(10) :: 10]] = "val"
        table = pd.DataFrame({"case_id": [p.case_id for p in cohort], "split": split})
        write_table(folder / f"fold_{fold}.csv", table)
