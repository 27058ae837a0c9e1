"""Table 3: share of the genomic and the clinic path in the risk, by integrated gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from napari_survpgc.core.output.plots import CLINIC, GENOMIC
from napari_survpgc.core.predict.attribution import integrated_gradients
from napari_survpgc.core.predict.predictor import state_of
from napari_survpgc.core.survival import hazards, risk, survival

from ..runs.held_out import HeldOut, HeldOutPredictor
from ..tables.paper import CITATION, paper_cohort, paper_value
from ..tables.plan import MULTIMODAL, TWO_PATH, PaperSystem, Plan
from ..tables.run_store import Unavailable
from ..tables.score_table import paper_cell
from ..tables.table_writer import Product, Table

_STEPS = 256  # the head's ReLU bends the integrand; the published 50 nodes leave an error
_COLUMNS = ("system", "fold", "case_id", "genomic_share", "clinic_share", "genomic_sum", "clinic_sum")
_PATHS = (("Genomic / pathology", "genomic_share"), ("Clinic / pathology", "clinic_share"))


def make(plan: Plan) -> Product:
    """Attribute the risk of every test patient, by the model that tested them, to the two fused embeddings."""
    systems = [s for s in MULTIMODAL if s.model in TWO_PATH]
    frames, reasons = [], {}
    for system in systems:
        run = plan.run(system.model)
        if isinstance(run, Unavailable):
            reasons[system.model] = run.reason
            continue
        rows = []
        cases = list(run.pooled.index)
        with HeldOutPredictor(run, plan.cohort, plan.settings(system.model).device) as predictor:
            for number, case in enumerate(cases):
                if plan.progress:
                    plan.progress(f"{system.model}: integrated gradients", number, len(cases))
                rows.append({"system": system.model, **path_shares(predictor.predict(case))})
        frames.append(pd.DataFrame(rows))
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(_COLUMNS))
    folds = (
        frame.groupby(["system", "fold"], sort=False)[["genomic_share", "clinic_share"]].mean().reset_index()
    )
    cells, summary = [], []
    for system in systems:
        here = folds[folds["system"] == system.model]
        for label, column in _PATHS:
            paper = paper_value("table3", plan.cohort.name, system.model, column)
            ours = "not available"
            record: dict[str, object] = {
                "system": system.model, "path": column.removesuffix("_share"),
                "protocol": "published (optimistic)" if plan.optimistic else "honest",
                "reason": reasons.get(system.model, ""),
            }  # fmt: skip
            if len(here):
                ours = f"{here[column].mean():.3f} ± {here[column].std(ddof=0):.3f}"
                patients = frame[frame["system"] == system.model]
                record |= {
                    "mean": here[column].mean(), "sd": here[column].std(ddof=0), "n_folds": len(here),
                    "n_patients": len(patients),
                }  # fmt: skip
            record |= {
                "paper_mean": paper.mean if paper else np.nan,
                "paper_sd": paper.sd if paper else np.nan,
            }
            cells.append((system.label, label, ours, paper_cell(paper)))
            summary.append(record)
    named = paper_cohort(plan.cohort.name)
    lines = [
        "Share of a path: sum of the absolute integrated gradients of its half of the embedding [G, P1, C, P2] over that of"
        " both halves; of the risk, against a zero embedding, 256 nodes; mean over the test patients of a fold, then mean"
        " ± standard deviation over the folds.",
        "The published script feeds the head [C, P2, G, P1], another order than it was trained with, and attributes the"
        " patient's true bin, which no one knows beforehand: its shares are not the same quantity.",
        "genomic_sum and clinic_sum in the CSV of the patients keep their signs; they add up to risk - risk of a zero"
        " embedding.",
    ]
    lines += [f"The paper: {CITATION}, TCGA-{named}."] if named else []
    lines += [f"{s.label}: not available. {reasons[s.model]}" for s in systems if s.model in reasons]
    columns = [
        "system",
        "path",
        "protocol",
        "mean",
        "sd",
        "n_folds",
        "n_patients",
        "paper_mean",
        "paper_sd",
        "reason",
    ]
    heading = "Share (optimistic)" if plan.optimistic else "Share"
    return Product(
        f"Table 3. Attribution of the risk to the two paths, {plan.cohort.name}",
        Table(
            ("System", "Path", heading, "The paper"),
            tuple(cells),
            pd.DataFrame(summary).reindex(columns=columns),
        ),
        tuple(lines),
        {"": _figure(folds, systems)},
        {"patients": frame},
    )


def path_shares(held_out: HeldOut, n_steps: int = _STEPS) -> dict[str, object]:
    """Return case_id, fold, and the shares and signed sums of both paths in the risk of a patient."""
    kept = state_of(held_out.prediction)
    assert kept is not None
    state = kept.folds[0]
    assert state.clinic is not None
    assert state.genomic is not None
    model = held_out.model
    embedding = model.embed(state.clinic, state.genomic).detach()

    def forward(e: torch.Tensor) -> torch.Tensor:
        return risk(survival(hazards(model.head(e).double())))

    (parts,) = integrated_gradients(
        forward, (embedding,), (torch.zeros_like(embedding),), n_steps, at_once=None
    )
    half = embedding.shape[-1] // 2
    genomic, clinic = parts[0, :half].double(), parts[0, half:].double()
    size = {"genomic": float(genomic.abs().sum()), "clinic": float(clinic.abs().sum())}
    total = sum(size.values())
    return {
        "fold": held_out.fold,
        "case_id": held_out.case,
        "genomic_share": size["genomic"] / total if total > 0 else float("nan"),
        "clinic_share": size["clinic"] / total if total > 0 else float("nan"),
        "genomic_sum": float(genomic.sum()),
        "clinic_sum": float(clinic.sum()),
    }


def _figure(folds: pd.DataFrame, systems: list[PaperSystem]) -> Figure:
    """Stacked bars, one a fold."""
    figure = Figure(figsize=(6, 1.2 + 1.4 * len(systems)), layout="constrained")
    for axes, system in zip(figure.subplots(len(systems), 1, squeeze=False)[:, 0], systems, strict=True):
        here = folds[folds["system"] == system.model]
        axes.set_title(system.label, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        if here.empty:
            axes.text(0.5, 0.5, "not available", ha="center", style="italic", color="#777777")
            axes.set(xticks=[], yticks=[])
            continue
        names = [f"fold {n}" for n in here["fold"]]
        axes.barh(names, here["genomic_share"], color=GENOMIC, label="genomic / pathology")
        axes.barh(
            names, here["clinic_share"], left=here["genomic_share"], color=CLINIC, label="clinic / pathology"
        )
        axes.set(xlim=(0, 1), xlabel="Share in the risk")
        axes.invert_yaxis()
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
