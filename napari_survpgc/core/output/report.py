"""report.html: one self-contained page that a clinician can read; images inside, no script, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord, Prediction
from napari_survpgc.resources import resource_path

from . import plots
from .gallery import Gallery

PATHS = {
    "clinic": ("Clinical record", "where the clinical record looks, A(c to p)"),
    "genomic": ("Gene expression", "where the gene expression looks, A(g to p)"),
}


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _image(content: bytes, kind: str, alt: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(alt, quote=True)}">'


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


def report_html(
    prediction: Prediction,
    heatmaps: Mapping[str, bytes],
    galleries: Mapping[str, Gallery],
    *,
    record: ClinicalRecord | None,
    sentences: Sequence[str],
    reference: pd.DataFrame | None,
    genomics_notes: Sequence[str],
) -> str:
    """Return the page.

    Parameters
    ----------
    heatmaps : path name -> PNG.   galleries : path name -> its ten best patches.
    reference : the bundle's reference patients (risk, survival_months, event).
    """
    e = html.escape
    bundle, slide = prediction.provenance["bundle"], prediction.provenance["slide"]
    count = len(reference) if reference is not None else bundle.get("n_reference", 0)
    parts = [
        '<p class="banner">Research use only: not for diagnosis or treatment decisions.</p>',
        f"<h1>Predicted survival: {e(str(slide.get('name', 'features only')))}</h1>",
    ]
    if prediction.warnings:
        items = "".join(f"<li>{e(w)}</li>" for w in prediction.warnings)
        parts.append(f'<div class="warnings" role="note"><strong>Read first</strong><ul>{items}</ul></div>')
    parts.append(
        f'<p class="answer">The risk is higher than that of <strong>{prediction.risk_percentile:.0f} %</strong> of the'
        f" {count} reference patients of {e(str(bundle['cohort']))}: group"
        f' <span class="group {e(prediction.risk_group)}">{e(prediction.risk_group)}</span></p>'
    )
    parts += [_survival(prediction, reference), _patient(record, sentences, genomics_notes)]
    if prediction.attribution is not None:
        parts.append(_attribution(prediction))
    parts.append(_maps(heatmaps, galleries))
    parts.append(_provenance(prediction))
    style = resource_path("report", "report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SurvPGC report: {e(str(slide.get('name', '')))}</title><style>{style}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _survival(prediction: Prediction, reference: pd.DataFrame | None) -> str:
    edges = prediction.bin_edges_months
    rows = "".join(
        f"<tr><td>{a:.0f} to {b:.0f} months</td><td>{100 * h:.0f} %</td><td>{100 * s:.0f} %</td>"
        f"<td>{100 * low:.0f} to {100 * high:.0f} %</td></tr>"
        for a, b, h, s, low, high in zip(
            edges,
            edges[1:],
            prediction.hazards,
            prediction.survival,
            prediction.fold_survival.min(0),
            prediction.fold_survival.max(0),
            strict=False,
        )
    )
    text = (
        "<h2>Survival</h2><table><thead><tr><th>Interval</th><th>Risk of death in it</th><th>Alive at its end</th>"
        f"<th>Range of the {len(prediction.fold_risks)} models</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    figures = [
        _image(
            figure_png(plots.survival_figure(prediction)),
            "png",
            "Predicted survival curve with the range of models",
        )
    ]
    if reference is not None:
        risks = reference["risk"].to_numpy(float)
        place = plots.reference_figure(prediction, risks, cuts=np.quantile(risks, [1 / 3, 2 / 3]).tolist())
        figures.append(_image(figure_png(place), "png", "Place of the patient among the reference patients"))
    return text + '<div class="pair">' + "".join(f"<figure>{f}</figure>" for f in figures) + "</div>"


def _patient(record: ClinicalRecord | None, sentences: Sequence[str], notes: Sequence[str]) -> str:
    if record is None:
        return ""
    rows = []
    for name, sentence in zip(CLINICAL_FIELDS, sentences or [""] * len(CLINICAL_FIELDS), strict=True):
        value = getattr(record, name)
        shown = (
            '<span class="unknown">unknown</span>'
            if value is None
            else html.escape(f"{value:g}" if isinstance(value, float) else value)
        )
        rows.append(
            f"<tr><td>{name.replace('_', ' ')}</td><td>{shown}</td><td>{html.escape(sentence)}</td></tr>"
        )
    genes = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        "<h2>What the model was told</h2><table><thead><tr><th>Field</th><th>Value</th><th>Sentence</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        + (f"<p>Gene expression:</p><ul>{genes}</ul>" if genes else "")
    )


def _attribution(prediction: Prediction) -> str:
    assert prediction.attribution is not None
    tokens = prediction.attribution.tokens
    strongest = sorted(tokens.items(), key=lambda item: -abs(item[1]))[:3]
    words = ", ".join(
        f"{html.escape(name.split(':', 1)[1].replace('_', ' '))} ({'raises' if value > 0 else 'lowers'} it)"
        for name, value in strongest
    )
    paths = prediction.attribution.paths
    total = sum(abs(v) for v in paths.values()) or 1.0
    shares = " and ".join(
        f"{100 * abs(value) / total:.0f} % through the {'clinical' if name == 'clinic' else 'genomic'} path"
        for name, value in paths.items()
    )
    error = max(prediction.attribution.completeness_error.values(), default=0.0)
    picture = _image(
        figure_png(plots.attribution_figure(prediction.attribution)),
        "png",
        "Contribution of each token to the risk",
    )
    return (
        f"<h2>What moved the risk</h2><p>Most: {words}. Overall {shares}.</p><figure>{picture}<figcaption>Integrated"
        " gradients; a clinical field is compared with 'unknown', a gene set with the average patient."
        f" The parts miss their sum by {error:.2g}.</figcaption></figure>"
    )


def _maps(heatmaps: Mapping[str, bytes], galleries: Mapping[str, Gallery]) -> str:
    parts = ["<h2>Where the model looks</h2>", '<div class="pair">']
    for name, png in heatmaps.items():
        title, caption = PATHS[name]
        parts.append(
            f"<figure>{_image(_smaller(png), 'jpeg', f'Heatmap: {caption}')}<figcaption>{title}: {caption}.</figcaption></figure>"
        )
    parts.append("</div>")
    for name, gallery in galleries.items():
        parts.append(f"<h3>{PATHS[name][0]}: the patches it looks at most</h3>" + '<div class="gallery">')
        for rank, (image, percentile) in enumerate(
            zip(gallery.images, gallery.percentiles, strict=True), start=1
        ):
            picture = _image(_jpeg(image), "jpeg", f"Patch of rank {rank}")
            parts.append(f"<figure>{picture}<figcaption>{rank}: {percentile:.1f}</figcaption></figure>")
        parts.append("</div>")
    return "".join(parts)


def _provenance(prediction: Prediction) -> str:
    rows = []
    for section in ("slide", "bundle", "encoders"):
        for key, value in prediction.provenance[section].items():
            rows.append(
                f"<tr><td>{section}</td><td>{html.escape(str(key))}</td><td>{html.escape(str(value))}</td></tr>"
            )
    version = html.escape(str(prediction.provenance["version"]))
    return f'<h2>How it was made</h2><table class="small">{"".join(rows)}</table><p class="small">napari-survpgc {version}</p>'
