"""report.html: one self-contained page that a clinician can read; images inside, no script, nothing fetched."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.attention.trust import measured_trust, trust_sentence
from napari_survpgc.core.bundle.answer import OUTSIDE, Answer, answer_of, place_sentence, quality_sentence
from napari_survpgc.core.groups import thirds
from napari_survpgc.core.types import CLINICAL_FIELDS, Attribution, ClinicalRecord, Prediction

from . import plots
from .gallery import Gallery
from .page import Picture, render

PATHS = {
    "clinic": ("Clinical record", "where the clinical record looks, A(c to p)"),
    "genomic": ("Gene expression", "where the gene expression looks, A(g to p)"),
}


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


REPORT_PX = 1400


def _smaller(png: bytes) -> bytes:
    """Return a picture as JPEG of at most REPORT_PX: the heatmap itself stands beside the report."""
    with Image.open(io.BytesIO(png)) as file:
        image = file.convert("RGB")
    image.thumbnail((REPORT_PX, REPORT_PX), Image.Resampling.LANCZOS)
    return _jpeg(np.asarray(image))


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


@dataclass(frozen=True)
class ReportFacts:
    """What is said beside the prediction itself.

    Attributes
    ----------
    record, sentences : what the model was told, and in which words.
    genomics_notes : how the expression was read and normalized.
    reference : the bundle's reference patients (risk, survival_months, event).
    """

    record: ClinicalRecord | None = None
    sentences: Sequence[str] = ()
    genomics_notes: Sequence[str] = ()
    reference: pd.DataFrame | None = None


def report_html(
    prediction: Prediction,
    heatmaps: Mapping[str, bytes],
    galleries: Mapping[str, Gallery],
    facts: ReportFacts,
) -> str:
    """Return the page.

    Parameters
    ----------
    heatmaps : path name -> PNG.   galleries : path name -> its ten best patches.
    """
    found = answer_of(prediction)
    provenance, record, reference = prediction.provenance, facts.record, facts.reference
    trust = measured_trust(provenance)
    reference_figure = [] if reference is None else [_place(prediction, reference["risk"].to_numpy(float))]
    return render(
        "report.html.j2",
        prediction=prediction,
        answer=found,
        outside=OUTSIDE,
        answer_lines=[] if found is None else _answer_lines(found, prediction),
        slide_name=str(provenance["slide"].get("name", "")),
        cohort=provenance["bundle"]["cohort"],
        n_reference=len(reference) if reference is not None else provenance["bundle"].get("n_reference", 0),
        n_models=len(prediction.fold_risks),
        intervals=_intervals(prediction),
        curves=[
            _figure(plots.survival_figure(prediction), "Predicted survival curve with the range of models"),
            *reference_figure,
        ],
        fields=[] if record is None else _fields(record, facts.sentences),
        notes=facts.genomics_notes,
        contributions=None if prediction.attribution is None else _contributions(prediction.attribution),
        maps=[
            {
                "title": PATHS[name][0],
                "caption": PATHS[name][1],
                "picture": Picture(_smaller(png), "jpeg", f"Heatmap: {PATHS[name][1]}"),
                "trust": trust_sentence(trust[name]) if name in trust else "",
            }
            for name, png in heatmaps.items()
        ],
        galleries=[{"title": PATHS[name][0], "patches": _patches(g)} for name, g in galleries.items()],
        regions=[_region(region) for region in provenance.get("regions") or ()],
    )


def _region(region: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = region["change_random_low"], region["change_random_high"]
    return (
        region["name"],
        region["class"] or "",
        str(region["n_patches"]),
        f"{100 * region['share']:.1f} %",
        _number(region["risk_without"], ".4f"),
        _number(region["risk_alone"], ".4f"),
        _number(region["change"], "+.4f"),
        "" if low is None or high is None else f"{low:+.4f} to {high:+.4f}",
    )


def _number(value: float | None, form: str) -> str:
    return "no patch" if value is None else format(value, form)


def _answer_lines(found: Answer, prediction: Prediction) -> list[str]:
    cohort = str(prediction.provenance["bundle"]["cohort"])
    lines = []
    if found.median_months is not None:
        lines.append(f"Half of the patients of this risk live longer than {found.median_months:.0f} months.")
    if found.outlived_months is not None:
        lines.append(f"90 % of them live longer than {found.outlived_months:.1f} months.")
    lines += [
        place_sentence(found.place, cohort, found.model.n_reference),
        quality_sentence(found.model, cohort),
    ]
    return [*lines, *(doubt for doubt in found.doubts if doubt not in prediction.warnings)]


def _figure(figure: Figure, alt: str) -> Picture:
    return Picture(figure_png(figure), "png", alt)


def _place(prediction: Prediction, risks: NDArray[np.float64]) -> Picture:
    place = plots.reference_figure(prediction, risks, cuts=thirds(risks))
    return _figure(place, "Place of the patient among the reference patients")


def _intervals(prediction: Prediction) -> list[tuple[str, str, str, str]]:
    edges = prediction.bin_edges_months
    return [
        (
            f"{a:.0f} to {b:.0f} months",
            f"{100 * h:.0f} %",
            f"{100 * s:.0f} %",
            f"{100 * low:.0f} to {100 * high:.0f} %",
        )
        for a, b, h, s, low, high in zip(
            edges,
            edges[1:],
            prediction.hazards,
            prediction.survival,
            prediction.fold_survival.min(0),
            prediction.fold_survival.max(0),
            strict=False,
        )
    ]


def _fields(record: ClinicalRecord, sentences: Sequence[str]) -> list[dict[str, str | None]]:
    shown = []
    for name, sentence in zip(CLINICAL_FIELDS, sentences or [""] * len(CLINICAL_FIELDS), strict=True):
        value = getattr(record, name)
        text = f"{value:g}" if isinstance(value, float) else value
        shown.append({"name": name.replace("_", " "), "value": text, "sentence": sentence})
    return shown


def _contributions(attribution: Attribution) -> dict[str, str | Picture]:
    strongest = sorted(attribution.tokens.items(), key=lambda item: -abs(item[1]))[:3]
    total = sum(abs(v) for v in attribution.paths.values()) or 1.0
    return {
        "strongest": ", ".join(
            f"{name.split(':', 1)[1].replace('_', ' ')} ({'raises' if value > 0 else 'lowers'} it)"
            for name, value in strongest
        ),
        "shares": " and ".join(
            f"{100 * abs(value) / total:.0f} % through the {'clinical' if name == 'clinic' else 'genomic'} path"
            for name, value in attribution.paths.items()
        ),
        "error": f"{max(attribution.completeness_error.values(), default=0.0):.2g}",
        "picture": _figure(plots.attribution_figure(attribution), "Contribution of each token to the risk"),
    }


def _patches(gallery: Gallery) -> list[dict[str, str | Picture]]:
    return [
        {"picture": Picture(_jpeg(image), "jpeg", f"Patch of rank {rank}"), "percentile": f"{percentile:.1f}"}
        for rank, (image, percentile) in enumerate(
            zip(gallery.images, gallery.percentiles, strict=True), start=1
        )
    ]
