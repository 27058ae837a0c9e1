"""Baselines: what the record and the genes alone give, over seeds, and what is found where there is nothing to find.

Ask this of a new cohort before anything else: a clinical C-index far above what is usual for the cancer, or shuffled
outcomes that are ranked better than by chance, mean that the outcome leaks into the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from napari_survpgc.core.output.plots import CLINIC, GHOST

from ..evaluation.evaluation import Evaluation, evaluate
from ..tables.plan import Plan
from ..tables.run_store import Unavailable
from ..tables.score_table import band, number
from ..tables.table_writer import Product, Table

N_SEEDS = 3
CHANCE = 0.06
"""Mean C-indices of shuffled outcomes lie this near to 0.5 for some hundred patients."""
_MEASURES = ("c_index", "uno", "iauc", "brier")


@dataclass(frozen=True)
class Recipe:
    """A row. Seeds change nothing about a Cox model on the cohort's own folds: one is enough."""

    key: str
    label: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    one_seed: bool = False


_SHORT = {"fields": ["age", "sex", "stage"]}
_ALPHA = {"alpha": 0.5}
RECIPES = (
    Recipe("cox_six", "Cox, six fields, ridge 0.1", "cox_clinic", one_seed=True),
    Recipe("cox_three", "Cox, age + sex + ordinal stage", "cox_clinic", {"model_config": _SHORT}, one_seed=True),
    Recipe("mlp_clinic", "MLP on six prompts", "mlp_clinic", _ALPHA),
    Recipe("snn_clinic", "SNN on six prompts", "snn_clinic", _ALPHA),
    Recipe("mlp_genomic", "MLP on expression", "mlp_genomic", _ALPHA),
    Recipe("snn_genomic", "SNN on expression", "snn_genomic", _ALPHA),
    Recipe("cox_elastic_net", "Elastic-net Cox on expression", "cox_elastic_net"),
    Recipe("shuffled_cox", "Shuffled outcomes: Cox, six fields", "cox_clinic", {"shuffle_labels": True}),
    Recipe("shuffled_mlp", "Shuffled outcomes: MLP on six prompts", "mlp_clinic", {**_ALPHA, "shuffle_labels": True}),
    Recipe(
        "shuffled_elastic_net", "Shuffled outcomes: elastic-net Cox", "cox_elastic_net", {"shuffle_labels": True}
    ),
)  # fmt: skip


def make(plan: Plan) -> Product:
    """Train every recipe with several seeds and average."""
    rows, frame, folds, spread = [], [], [], []
    missing: list[str] = []
    for count, recipe in enumerate(RECIPES):
        if plan.progress:
            plan.progress("recipes", count, len(RECIPES))
        found, reason = _evaluations(plan, recipe)
        record: dict[str, object] = {
            "row": recipe.key, "system": recipe.model, "label": recipe.label,
            "protocol": "published (optimistic)" if plan.optimistic else "honest", "reason": reason,
        }  # fmt: skip
        spread.append([e.scores["c_index"].mean for e in found])
        if not found:
            rows.append((recipe.label, "not available", "", "", "", "", ""))
            missing.append(f"{recipe.label}: not available. {reason}")
            frame.append(record)
            continue
        means = {m: [e.scores[m].mean for e in found] for m in _MEASURES}
        sd = float(np.mean([e.scores["c_index"].sd for e in found]))
        record |= {
            "seeds": len(found), "n_patients": found[0].n_test, "n_deaths": found[0].deaths,
            **{m: float(np.mean(values)) for m, values in means.items()},
            "c_index_sd_of_folds": sd, "c_index_lowest_seed": min(means["c_index"]),
            "c_index_highest_seed": max(means["c_index"]),
        }  # fmt: skip
        frame.append(record)
        folds += [e.frame().assign(row=recipe.key, run=e.run.path.name) for e in found]
        seeds = "" if len(found) == 1 else f"{min(means['c_index']):.3f} to {max(means['c_index']):.3f}"
        rows.append(
            (
                recipe.label,
                f"{np.mean(means['c_index']):.3f} ± {sd:.3f}",
                f"{len(found)}{f' ({seeds})' if seeds else ''}",
                band(found[0].scores["c_index"].interval),
                number(float(np.mean(means["uno"]))),
                number(float(np.mean(means["iauc"]))),
                f"{found[0].n_test} ({found[0].deaths})",
            )
        )
    mark = " (optimistic)" if plan.optimistic else ""
    columns = (
        "Recipe", f"C-index{mark}", "Seeds (lowest to highest)", "95 % interval, first seed", "Uno's C", "iAUC",
        "Patients (deaths)",
    )  # fmt: skip
    first = plan.settings("mlp_clinic")
    return Product(
        f"Baselines on the record and the genes, {plan.cohort.name}",
        Table(columns, tuple(rows), pd.DataFrame(frame)),
        (
            f"Mean over the test folds and over up to {N_SEEDS} seeds ± standard deviation over the folds; networks with"
            f" alpha = 0.5 and {first.epochs} epochs, expression clipped at {first.clip:g}.",
            "Shuffled outcomes: months and event together are exchanged among the patients, by the seed. Their C-index"
            f" should lie within 0.50 ± {CHANCE:.2f}; more than that means that an outcome leaks into the inputs or the"
            " choice of the epoch.",
            *missing,
        ),
        {"": _figure(spread, mark)},
        {"folds": pd.concat(folds, ignore_index=True) if folds else pd.DataFrame(columns=["row", "fold"])},
    )


def _evaluations(plan: Plan, recipe: Recipe) -> tuple[list[Evaluation], str]:
    """Train (or find) and evaluate a recipe once a seed; the reason where it cannot be trained."""
    found = []
    for seed in range(plan.seed, plan.seed + (1 if recipe.one_seed else N_SEEDS)):
        run = plan.run(recipe.model, seed=seed, **recipe.settings)
        if isinstance(run, Unavailable):
            return [], run.reason
        found.append(evaluate(run, seed=plan.seed))
    return found, ""


def _figure(spread: list[list[float]], mark: str) -> Figure:
    """Draw a dot a seed and their mean."""
    figure = Figure(figsize=(7, 1.1 + 0.36 * len(RECIPES)), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.axvline(0.5, color="#BBBBBB", lw=1, ls=":")
    axes.axvspan(0.5 - CHANCE, 0.5 + CHANCE, color="#BBBBBB", alpha=0.15, lw=0)
    for place, values in enumerate(spread):
        if not values:
            axes.text(0.5, place, " not available", color=GHOST, fontsize=8, va="center", style="italic")
            continue
        axes.plot(values, np.full(len(values), place), "|", color=CLINIC, ms=9, alpha=0.6)
        axes.plot(np.mean(values), place, "o", color=CLINIC, ms=5)
    axes.set_yticks(range(len(RECIPES)), [r.label for r in RECIPES], fontsize=8)
    axes.set(xlabel=f"C-index{mark}: mean and seeds; shaded: chance", ylim=(len(RECIPES) - 0.5, -0.5))
    return figure
