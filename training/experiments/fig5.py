"""Fig. 5: t-SNE of the clinic embeddings for several numbers of template wordings, colored by survival."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_survpgc.core.clinical.sentences import clinical_tokens, load_templates
from napari_survpgc.core.encoders.catalog import load_text_encoder
from napari_survpgc.core.errors import CohortError, SurvPGCError

from ..data.wordings import draw_wordings
from ..tables.plan import Plan
from ..tables.table_writer import Product, Table
from .table5 import N_TEMPLATES, wordings

_GROUPS = (("less than 1 year", "#0072B2"), ("1 to 5 years", "#E69F00"), ("more than 5 years", "#009E73"))
"""By recorded survival time, dead or censored, as in the paper (blue, yellow, green)."""


def make(plan: Plan) -> Product:
    """Embed the six sentences of every patient for each N_t and map them to the plane."""
    months = plan.cohort.patients["survival_months"].to_numpy(float)
    group = np.digitize(months, (12, 60), right=False)
    group[months == 60] = 1
    figure = Figure(figsize=(3.0 * len(N_TEMPLATES), 3.6), layout="constrained")
    panels = figure.subplots(1, len(N_TEMPLATES))
    rows, frames = [], []
    for number, (axes, n) in enumerate(zip(panels, N_TEMPLATES, strict=True)):
        if plan.progress:
            plan.progress("wordings", number, len(N_TEMPLATES))
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"N_t = {n}, N = {len(months)}", fontsize=10)
        try:
            embeddings = _embeddings(plan, n)
        except SurvPGCError as error:
            rows.append((str(n), "not available", str(error)))
            axes.text(0.5, 0.5, "not available", ha="center", transform=axes.transAxes)
            continue
        points = tsne(embeddings, plan.seed)
        for k, (name, color) in enumerate(_GROUPS):
            here = group == k
            axes.scatter(*points[here].T, s=7, color=color, label=f"{name} (n={here.sum()})", alpha=0.8, lw=0)
        separation = silhouette(embeddings, group)
        rows.append((str(n), f"{separation:.3f}" if np.isfinite(separation) else "n/a", ""))
        frames.append(
            pd.DataFrame(
                {
                    "n_templates": n,
                    "case_id": plan.cohort.patients.index,
                    "x": points[:, 0],
                    "y": points[:, 1],
                    "survival_months": months,
                    "event": plan.cohort.patients["event"].to_numpy(),
                    "group": [_GROUPS[k][0] for k in group],
                }
            )
        )
    drawn = next((axes for axes in panels if axes.collections), None)
    if drawn is not None:
        figure.legend(*drawn.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    if plan.progress:
        plan.progress("wordings", len(N_TEMPLATES), len(N_TEMPLATES))
    columns = ["n_templates", "case_id", "x", "y", "survival_months", "event", "group"]
    return Product(
        f"Fig. 5. t-SNE of the clinic embeddings, {plan.cohort.name}",
        Table(
            ("Number of templates", "Silhouette of the survival groups", "Note"),
            tuple(rows),
            pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns),
        ),
        (
            "A point is a patient: the embeddings of the six sentences side by side. Groups by recorded survival time, dead or"
            " censored, as in the paper.",
            "Silhouette: of the groups in the embeddings themselves, from -1 to 1 (0: no separation). The picture shows"
            " neighborhoods only: distances between clusters of a t-SNE mean nothing.",
        ),
        {"": figure},
    )


def _embeddings(plan: Plan, n_templates: int) -> NDArray[np.float32]:
    """Return (n_patients, 6 d_c), what the MLP of Table 5 is given."""
    settings = plan.settings("mlp_clinic", **wordings(plan, n_templates))
    encoder = load_text_encoder(settings.text_encoder, "cpu")
    templates = load_templates(settings.templates)
    rows = []
    for case in plan.cohort.patients.index:
        variants = draw_wordings(case, templates, settings.n_templates, settings.seed)
        rows.append(
            clinical_tokens(plan.cohort.records[case], encoder, templates, variants).embeddings.ravel()
        )
    return np.stack(rows)


def tsne(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return (n, 2) points; the same ones for the same seed.

    Raises
    ------
    CohortError : scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise CohortError("t-SNE needs scikit-learn", 'pip install "napari-survpgc[train]"') from error
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(embeddings), np.float64)


def silhouette(embeddings: NDArray[np.float32], group: NDArray[np.int64]) -> float:
    """Return the mean silhouette of the groups; NaN when there is only one."""
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(group)) < len(group):
        return float("nan")
    return float(silhouette_score(embeddings, group))
