"""Write everything of a prediction into a folder, all or nothing.

The files are made in a hidden folder inside the output folder and renamed into place at the end; whatever goes wrong
before leaves the folder as it was.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from .attention import patch_scores, percentiles, top_k
from .case_file import CASE_FILE
from .errors import OutputError, writing
from .notice import RESEARCH_NOTICE
from .plots import heatmap_figure
from .report import PATHS, Gallery, figure_png, report_html
from .slide import Slide
from .types import ClinicalRecord, Prediction, ProgressCallback

PATCH_PX = 256
IN_REPORT = 10
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
            _write_attention(prediction, scores, staging / "attention.h5")
            write_prediction_json(prediction, staging / "prediction.json", record, sentences)
            for name in _OF_ONE_SLIDE:
                old = out / name
                shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            for name in ("attention.h5", "prediction.json"):
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

    steps.append(lambda: write_prediction_json(prediction, folder / "prediction.json", record, sentences))
    steps.append(lambda: _write_attention(prediction, scores, folder / "attention.h5"))
    steps.append(lambda: _write_geojson(prediction, scores, ranks, folder / "attention.geojson"))
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


def prediction_document(
    prediction: Prediction, record: ClinicalRecord | None, sentences: Sequence[str]
) -> dict[str, Any]:
    """Return what prediction.json holds; plain numbers and texts only."""
    attribution = None
    if prediction.attribution is not None:
        attribution = {key: dict(value) for key, value in dataclasses.asdict(prediction.attribution).items()}
    return {
        "risk": prediction.risk,
        "risk_percentile": prediction.risk_percentile,
        "risk_group": prediction.risk_group,
        "hazards": prediction.hazards.tolist(),
        "survival": prediction.survival.tolist(),
        "bin_edges_months": prediction.bin_edges_months.tolist(),
        "fold_risks": prediction.fold_risks.tolist(),
        "fold_survival": prediction.fold_survival.tolist(),
        "attribution": attribution,
        "bundle": dict(prediction.provenance["bundle"]),
        "encoders": dict(prediction.provenance["encoders"]),
        "slide": dict(prediction.provenance["slide"]),
        **({"slides": prediction.provenance["slides"]} if "slides" in prediction.provenance else {}),
        "device": prediction.provenance["device"],
        "clinical": dataclasses.asdict(record) if record else None,
        "sentences": list(sentences),
        "warnings": list(prediction.warnings),
        "version": prediction.provenance["version"],
        "notice": RESEARCH_NOTICE,
    }


def write_prediction_json(
    prediction: Prediction, path: Path, record: ClinicalRecord | None, sentences: Sequence[str]
) -> None:
    """Write prediction.json; strict JSON without NaN."""
    document = prediction_document(prediction, record, sentences)
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_attention(prediction: Prediction, scores: Mapping[str, NDArray[np.float64]], path: Path) -> None:
    with h5py.File(path, "w") as file:
        coords = file.create_dataset("coords", data=prediction.coords)
        coords.attrs["patch_px_level0"] = prediction.patch_px_level0
        coords.attrs["patch_size_level0"] = round(prediction.patch_px_level0)
        slides = prediction.provenance.get("slides", [])
        counts = [slide["n_patches"] for slide in slides]
        if slides and sum(counts) == len(prediction.coords):  # not of one of them alone
            numbers = file.create_dataset(
                "slide", data=np.repeat(np.arange(len(slides), dtype=np.int32), counts)
            )
            numbers.attrs["names"] = [slide["name"] for slide in slides]
            numbers.attrs["patch_px_level0"] = [slide["patch_px_level0"] for slide in slides]
        for name, matrix in prediction.attention.items():
            data = file.create_dataset(name, data=np.asarray(matrix, np.float32))
            data.attrs["rows"] = list(prediction.token_names[name])
            data.attrs["what"] = (
                "pre-softmax attention of the tokens (rows) to the patches, mean over fold models"
            )
            file.create_dataset(f"{name}_score", data=scores[name].astype(np.float32))


def write_gallery(
    folder: Path,
    prediction: Prediction,
    slide: Slide,
    scores: NDArray[np.floating],
    percentile: NDArray[np.floating],
    indices: NDArray[np.int64],
    ranks: Sequence[int] | None = None,
) -> Gallery:
    """Write patches as PNG with patches.csv into a folder that is made, or replaced when it is complete.

    Parameters
    ----------
    scores, percentile : (n_p,).   indices : patches to write.   ranks : their ranks (default: 1, 2, ...).

    Raises
    ------
    OutputError : disk full, no permission; an earlier folder is then untouched.
    """
    images, shown = [], []
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            with (staging / "patches.csv").open("w", encoding="utf-8", newline="") as stream:
                table = csv.writer(stream, lineterminator="\n")
                table.writerow(["rank", "x", "y", "score", "percentile"])
                for number, index in enumerate(indices):
                    rank = ranks[number] if ranks is not None else number + 1
                    x, y = (int(v) for v in prediction.coords[index])
                    pixels = slide.read_square(x, y, prediction.patch_px_level0, PATCH_PX)
                    Image.fromarray(pixels).save(staging / f"rank_{rank:02d}_x{x}_y{y}.png")
                    table.writerow([rank, x, y, repr(float(scores[index])), repr(float(percentile[index]))])
                    if number < IN_REPORT:
                        images.append(pixels)
                        shown.append(float(percentile[index]))
            staging.chmod(0o755)
            if folder.is_dir():
                _only_patches(folder)
                shutil.rmtree(folder)
            staging.replace(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Gallery(images, shown)


def _only_patches(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but an earlier gallery."""
    other = [p.name for p in folder.iterdir() if p.name != "patches.csv" and not p.match("rank_*.png")]
    if other:
        raise OutputError(
            f"The folder {folder} holds other files ({other[0]}) and was not replaced",
            "Choose another folder",
        )


def _write_geojson(
    prediction: Prediction,
    scores: Mapping[str, NDArray[np.float64]],
    ranks: Mapping[str, NDArray[np.float64]],
    path: Path,
) -> None:
    """Write one QuPath tile a patch, with its scores as measurements; level-0 px.

    QuPath crops slides to OpenSlide's bounds by default (qupath #1278): open such slides with ``--no-crop``.
    """
    side = prediction.patch_px_level0
    features = []
    for index, (x, y) in enumerate(prediction.coords.tolist()):
        right, bottom = round(x + side, 2), round(y + side, 2)
        measurements: dict[str, float] = {}
        for name in scores:
            measurements[f"{name} score"] = round(float(scores[name][index]), 6)
            measurements[f"{name} percentile"] = round(float(ranks[name][index]), 4)
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]],
                },
                "properties": {"objectType": "tile", "measurements": measurements},
            }
        )
    text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False)
    path.write_text(text, encoding="utf-8")
