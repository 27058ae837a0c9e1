"""Write everything of a prediction into a folder, all or nothing.

The files are made in a hidden folder inside the output folder and renamed into place at the end; whatever goes wrong
before leaves the folder as it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from napari_survpgc.core.attention.scores import patch_scores, percentiles, top_k
from napari_survpgc.core.errors import writing
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import ClinicalRecord, Prediction, ProgressCallback

from .attention_file import write_attention, write_attention_geojson
from .case_file import CASE_FILE
from .gallery import Gallery, write_gallery
from .heatmap import heatmap_figure
from .prediction_json import PREDICTION_FILE, write_prediction_json
from .report import PATHS, figure_png, report_html

HEATMAP_PX = 1800
"""Longer side of the slide in a heatmap, about 2000 px with its margins."""


def write_outputs(
    prediction: Prediction,
    slide: Slide,
    out: Path,
    *,
    k: int = 50,
    record: ClinicalRecord | None = None,
    sentences: Sequence[str] = (),
    reference: pd.DataFrame | None = None,
    genomics_notes: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> list[Path]:
    """Write prediction.json, attention.h5, both heatmaps, both galleries, attention.geojson and report.html.

    Parameters
    ----------
    k : patches a gallery, fewer when there are fewer.

    Returns
    -------
    The files written. Files of an earlier prediction in ``out`` are replaced, others are left alone.

    Raises
    ------
    OutputError : disk full, no permission; ``out`` is then as it was before.
    """
    new = not out.exists()
    done = False
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=out))
        try:
            _write_all(prediction, slide, staging, k, record, sentences, reference, genomics_notes, progress)
            written = _move(staging, out)
            done = True
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if new and not done:
                shutil.rmtree(out, ignore_errors=True)
    return written


_OF_ONE_SLIDE = (
    "heatmap_clinic.png", "heatmap_genomic.png", "top_clinic", "top_genomic", "attention.geojson", "report.html",
    "tissue.geojson", CASE_FILE,
)  # fmt: skip


def write_joint_outputs(
    prediction: Prediction, out: Path, *, record: ClinicalRecord | None = None, sentences: Sequence[str] = ()
) -> None:
    """Write what a patient's slides have in common: prediction.json, and attention.h5 over the patches of all slides.

    The results of one slide alone that an earlier prediction has left in ``out`` go.

    Raises
    ------
    OutputError : disk full, no permission.
    """
    scores = {name: patch_scores(matrix) for name, matrix in prediction.attention.items()}
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=out))
        try:
            write_attention(prediction, scores, staging / "attention.h5")
            write_prediction_json(prediction, staging / PREDICTION_FILE, record, sentences)
            for name in _OF_ONE_SLIDE:
                old = out / name
                shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            for name in ("attention.h5", PREDICTION_FILE):
                (staging / name).replace(out / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _write_all(
    prediction: Prediction,
    slide: Slide,
    folder: Path,
    k: int,
    record: ClinicalRecord | None,
    sentences: Sequence[str],
    reference: pd.DataFrame | None,
    genomics_notes: Sequence[str],
    progress: ProgressCallback | None,
) -> None:
    scores = {name: patch_scores(matrix) for name, matrix in prediction.attention.items()}
    ranks = {name: percentiles(values) for name, values in scores.items()}
    steps: list[Callable[[], None]] = []
    heatmaps: dict[str, bytes] = {}
    galleries: dict[str, Gallery] = {}
    thumbnail = slide.thumbnail(HEATMAP_PX)

    def heatmap(name: str) -> None:
        figure = heatmap_figure(
            thumbnail,
            slide.info.size,
            prediction.coords,
            ranks[name],
            prediction.patch_px_level0,
            title=f"{PATHS[name][0]}: {PATHS[name][1]}",
            mpp=slide.info.mpp,
        )
        heatmaps[name] = figure_png(figure, 100)
        (folder / f"heatmap_{name}.png").write_bytes(heatmaps[name])

    def gallery(name: str) -> None:
        galleries[name] = write_gallery(
            folder / f"top_{name}", prediction, slide, scores[name], ranks[name], top_k(scores[name], k)
        )

    def report() -> None:
        page = report_html(
            prediction,
            heatmaps,
            galleries,
            record=record,
            sentences=sentences,
            reference=reference,
            genomics_notes=genomics_notes,
        )
        (folder / "report.html").write_text(page, encoding="utf-8")

    steps.append(lambda: write_prediction_json(prediction, folder / PREDICTION_FILE, record, sentences))
    steps.append(lambda: write_attention(prediction, scores, folder / "attention.h5"))
    steps.append(lambda: write_attention_geojson(prediction, scores, ranks, folder / "attention.geojson"))
    for name in scores:
        steps += [lambda name=name: heatmap(name), lambda name=name: gallery(name)]  # type: ignore[misc]
    steps.append(report)
    for number, step in enumerate(steps):
        if progress:
            progress("results", number, len(steps))
        step()
    if progress:
        progress("results", len(steps), len(steps))


def _move(staging: Path, out: Path) -> list[Path]:
    """Put the finished files into place; an earlier gallery goes whole, so that none of its patches stay."""
    written = []
    for old in ("top_clinic", "top_genomic", "heatmap_clinic.png", "heatmap_genomic.png"):
        if not (staging / old).exists():
            # A modality of the earlier prediction that this one lacks.
            target = out / old
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    for source in sorted(staging.iterdir()):
        target = out / source.name
        if target.is_dir():
            shutil.rmtree(target)
        source.replace(target)
        written += sorted(target.rglob("*")) if target.is_dir() else [target]
    return written
