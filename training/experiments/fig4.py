"""Fig. 4: thumbnail, both attention maps and the top patches of high- and low-risk patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_survpgc.core.attention.scores import patch_scores, percentiles, top_k
from napari_survpgc.core.errors import CohortError, SlideError
from napari_survpgc.core.output.heatmap import heatmap_image
from napari_survpgc.core.output.plots import HEATMAP_COLORS
from napari_survpgc.core.slide.slide import open_slide

from ..evaluation.evaluation import fold_percentiles
from ..runs.held_out import HeldOut, HeldOutPredictor
from ..runs.run_folder import Run
from ..tables.plan import TWO_PATH, Plan
from ..tables.run_store import Unavailable
from ..tables.table_writer import Product, Table

PATIENTS_A_GROUP = 2
TOP = 50
_SHOWN = 10
_PATCH_PX = 112
_THUMBNAIL_PX = 1024
COLORS = {"cividis": HEATMAP_COLORS, "red-blue": "RdBu_r"}
"""Name -> matplotlib's: ours, read by everyone, and the paper's, red where the model looks."""
_MAPS = (("clinic", "A(c to p)"), ("genomic", "A(g to p)"))
_TABLE = (
    "group",
    "case_id",
    "slide_id",
    "survival_months",
    "event",
    "risk_percentile",
    "fold",
    "n_patches",
    "note",
)


@dataclass(frozen=True)
class _Panel:
    """What is drawn of a patient: images (h, w, 3), montages of patches (None without a slide file)."""

    title: str
    thumbnail: NDArray[np.uint8]
    maps: dict[str, NDArray[np.uint8]]
    patches: dict[str, NDArray[np.uint8]]


def make(plan: Plan) -> Product:
    """Draw the patients by the fold model that tested them."""
    title = f"Fig. 4. Where the clinical record and the genes look, {plan.cohort.name}"
    run: Run | None = None
    notes = [
        "Patients by survival time, as in the paper, and by prediction: high risk are those with the highest predicted risk"
        " among the quarter that died first, low risk those with the lowest among the quarter followed longest.",
        "Each map is drawn by the fold model that tested the patient: rows of the pre-softmax attention standardized over"
        " the patches, averaged, as percentiles; the patches below are its first ten of fifty, all in the CSV.",
        "Attention shows where the model looks, not why.",
    ]
    for model in TWO_PATH:
        found = plan.run(model)
        if isinstance(found, Unavailable):
            notes.append(f"{model}: not available. {found.reason}")
            continue
        run = found
        notes.append(f"Drawn with {model}.")
        break
    if run is None:
        figure = Figure(figsize=(6, 1.2))
        figure.text(0.02, 0.5, "Not available: see the reasons in the table's notes", fontsize=10)
        empty = Table(("Group", "Patient"), (("not available", ""),), pd.DataFrame(columns=list(_TABLE)))
        return Product(title, empty, tuple(notes), {"": figure})
    chosen = choose_patients(run)
    panels, rows, frames = [], [], []
    with HeldOutPredictor(run, plan.cohort, plan.settings(run.model).device) as predictor:
        for number, (case, group) in enumerate(chosen.items()):
            if plan.progress:
                plan.progress("patients", number, len(chosen))
            facts = fold_percentiles(run).loc[[case]].iloc[0]
            panel, row, frame = _patient(predictor.predict(case), plan, group, facts)
            if panel is not None:
                panels.append(panel)
            rows.append(row)
            frames.append(frame)
    if plan.progress:
        plan.progress("patients", len(chosen), len(chosen))
    patients = pd.DataFrame(rows).reindex(columns=list(_TABLE))
    cells = tuple(
        (
            str(r["group"]), str(r["case_id"]), str(r["slide_id"]),
            f"{r['survival_months']:.1f}, {'died' if r['event'] else 'alive then'}", f"{r['risk_percentile']:.0f}",
            str(r["n_patches"]), str(r["note"]),
        )
        for r in rows
    )  # fmt: skip
    columns = ("Group", "Patient", "Slide", "Months", "Percentile of risk in the fold", "Patches", "Note")
    return Product(
        title,
        Table(columns, cells, patients),
        tuple(notes),
        {"": _figure(panels, COLORS[plan.colors])},
        {"patches": pd.concat(frames, ignore_index=True)},
    )


def choose_patients(run: Run, count: int = PATIENTS_A_GROUP) -> dict[str, str]:
    """Return case_id -> "high risk" or "low risk", ``count`` of each (fewer in a small cohort)."""
    table = fold_percentiles(run).sort_index()
    dead = table[table["event"] == 1]
    early = dead[dead["survival_months"] <= dead["survival_months"].quantile(0.25)]
    late = table[table["survival_months"] >= table["survival_months"].quantile(0.75)]
    high = early.sort_values("percentile", ascending=False, kind="stable").index[:count]
    low = late.drop(index=high, errors="ignore").sort_values("percentile", kind="stable").index[:count]
    return {**{str(c): "high risk" for c in high}, **{str(c): "low risk" for c in low}}


def _patient(
    seen: HeldOut, plan: Plan, group: str, facts: pd.Series
) -> tuple[_Panel | None, dict[str, object], pd.DataFrame]:
    """Draw one patient: the slide with the most patches."""
    files = plan.cohort.features[seen.case]
    shown = int(np.argmax(seen.counts))
    start = sum(seen.counts[:shown])
    here = slice(start, start + seen.counts[shown])
    slide_id = files[shown].stem
    coords = seen.prediction.coords[here]
    side = seen.prediction.patch_px_level0
    colors = COLORS[plan.colors]
    row: dict[str, object] = {
        "group": group, "case_id": seen.case, "slide_id": slide_id, "survival_months": float(facts["survival_months"]),
        "event": int(facts["event"]), "risk_percentile": float(facts["percentile"]), "fold": seen.fold,
        "n_patches": len(coords), "note": "",
    }  # fmt: skip
    names = [name for name, _ in _MAPS if name in seen.prediction.attention]
    scores = {name: patch_scores(seen.prediction.attention[name])[here] for name in names}
    ranks = {name: percentiles(scores[name]) for name in names}
    best = {name: top_k(scores[name], TOP) for name in names}
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    "case_id": seen.case, "slide_id": slide_id, "map": name, "rank": np.arange(len(best[name])) + 1,
                    "x": coords[best[name], 0], "y": coords[best[name], 1], "score": scores[name][best[name]],
                    "percentile": ranks[name][best[name]],
                }
            )
            for name in names
        ],
        ignore_index=True,
    )  # fmt: skip
    if not np.isfinite(side):
        row["note"] = "The feature file does not say how large a patch is, so there is no map."
        return None, row, frame
    title = (
        f"{group.capitalize()}: {seen.case}, {row['survival_months']:.1f} months,"
        f" {'died' if row['event'] else 'alive then'}; predicted risk higher than {row['risk_percentile']:.0f} % of its fold"
    )
    path = find_slide(plan.slides, slide_id)
    if path is None:
        row["note"] = f"There is no slide {slide_id} in {_named(plan.slides)}: maps on white, no patches."
        corner = coords.max(0) + side
        size = (int(np.ceil(corner[0])), int(np.ceil(corner[1])))
        scale = min(1.0, _THUMBNAIL_PX / max(size))
        canvas = np.full((max(1, round(size[1] * scale)), max(1, round(size[0] * scale)), 3), 255, np.uint8)
        maps = {n: heatmap_image(canvas, size, coords, ranks[n], side, 1.0, colors) for n in names}
        return _Panel(title, canvas, maps, {}), row, frame
    try:
        with open_slide(path) as slide:
            thumbnail = slide.thumbnail(_THUMBNAIL_PX)
            maps = {
                n: heatmap_image(thumbnail, slide.info.size, coords, ranks[n], side, colors=colors)
                for n in names
            }
            patches = {}
            for name in names:
                corners = coords[best[name][:_SHOWN]].tolist()
                patches[name] = _montage([slide.read_square(x, y, side, _PATCH_PX) for x, y in corners])
    except SlideError as error:
        row["note"] = str(error)
        return None, row, frame
    return _Panel(title, thumbnail, maps, patches), row, frame


def find_slide(folder: Path | None, slide_id: str) -> Path | None:
    """Return the slide file (or DICOM folder) of an id, whatever its kind; None where there is none.

    Raises
    ------
    CohortError : several files have that name.
    """
    if folder is None or not folder.is_dir():
        return None
    found = sorted(
        p for p in folder.iterdir() if slide_id in (p.name, p.stem) and p.suffix.lower() != ".geojson"
    )
    # A MIRAX slide is a file and a folder of the same name.
    files = [p for p in found if p.is_file()] or found
    if len(files) > 1:
        raise CohortError(
            f"{folder} has several slides named {slide_id} ({', '.join(p.name for p in files[:3])})",
            "Keep one of them",
        )
    return files[0] if files else None


def _named(folder: Path | None) -> str:
    return "the cohort" if folder is None else folder.name


def _montage(images: list[NDArray[np.uint8]], columns: int = 5, gap: int = 4) -> NDArray[np.uint8]:
    """Lay square images out in rows on white."""
    side = images[0].shape[0]
    n_rows = -(-len(images) // columns)
    sheet = np.full((n_rows * (side + gap) - gap, columns * (side + gap) - gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        y, x = (number // columns) * (side + gap), (number % columns) * (side + gap)
        sheet[y : y + side, x : x + side] = image
    return sheet


def _figure(panels: list[_Panel], colors: str) -> Figure:
    if not panels:
        figure = Figure(figsize=(6, 1.2))
        figure.text(0.02, 0.5, "No patient can be drawn: see the notes in the table", fontsize=10)
        return figure
    figure = Figure(figsize=(11, 5.2 * len(panels)), layout="constrained")
    parts = figure.subfigures(len(panels), 1, squeeze=False)[:, 0]
    for part, panel in zip(parts, panels, strict=True):
        part.suptitle(panel.title, fontsize=10, x=0.01, ha="left")
        # No cell stays empty: a column for each map there is, a row of patches only where there are some.
        shown = [(name, symbol) for name, symbol in _MAPS if name in panel.maps]
        rows = [["slide", *(name for name, _ in shown)]]
        if panel.patches:
            rows.append(["slide", *(f"{n} patches" if n in panel.patches else n for n, _ in shown)])
        ratios = [3, 1.3][: len(rows)]
        axes = part.subplot_mosaic(rows, height_ratios=ratios)
        for ax in axes.values():
            ax.set_axis_off()
        axes["slide"].imshow(panel.thumbnail)
        axes["slide"].set_title("Slide", fontsize=9)
        for name, symbol in shown:
            axes[name].imshow(panel.maps[name], interpolation="nearest")
            axes[name].set_title(
                f"{'Clinical record' if name == 'clinic' else 'Genes'}, {symbol}", fontsize=9
            )
            if name in panel.patches:
                axes[f"{name} patches"].imshow(panel.patches[name])
        scale = ScalarMappable(Normalize(0, 100), colormaps[colors])
        bar = part.colorbar(scale, ax=axes["slide"], orientation="horizontal", fraction=0.06, pad=0.02)
        bar.set_label("Percentile of attention in this slide", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure
