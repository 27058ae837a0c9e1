"""What the tables of scores have in common: evaluated systems, formatted cells, the dot plot, the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.output.plots import CLINIC, GHOST

from ..evaluation.bootstrap import Interval
from ..evaluation.comparison import Comparison, compare
from ..evaluation.evaluation import RESAMPLES, TAU, Evaluation, Score, evaluate
from .paper import CITATION, PaperValue, paper_cohort, paper_value
from .plan import PaperSystem, Plan
from .run_store import Unavailable

MISSING = "n/a"


@dataclass(frozen=True)
class Result:
    """A row: a system and what became of it.

    Attributes
    ----------
    key : of the row in the paper's table.   evaluation : None where ``reason`` says why there is none.
    """

    system: PaperSystem
    key: str
    label: str
    evaluation: Evaluation | None
    reason: str = ""


def result(plan: Plan, system: PaperSystem, *, key: str = "", label: str = "", **changes: Any) -> Result:
    """Train (or find) and evaluate a system."""
    key, label = key or system.model, label or system.label
    run = plan.run(system.model, **changes)
    if isinstance(run, Unavailable):
        return Result(system, key, label, None, run.reason)
    return Result(system, key, label, evaluate(run, seed=plan.seed))


def results(plan: Plan, systems: Sequence[PaperSystem]) -> list[Result]:
    """Train (or find) and evaluate systems in their order."""
    found = []
    for number, system in enumerate(systems):
        if plan.progress:
            plan.progress("systems", number, len(systems))
        found.append(result(plan, system))
    if plan.progress:
        plan.progress("systems", len(systems), len(systems))
    return found


def number(value: float) -> str:
    """Three decimals, or n/a."""
    return f"{value:.3f}" if np.isfinite(value) else MISSING


def score(value: Score, n_folds: int) -> str:
    """Mean ± sd as the paper prints it; says so when not all folds could be computed."""
    if value.n_folds == 0:
        return MISSING
    few = f" ({value.n_folds} of {n_folds} folds)" if value.n_folds < n_folds else ""
    return f"{value.mean:.3f} ± {value.sd:.3f}{few}"


def band(value: Interval) -> str:
    """The 95 % interval."""
    return f"{value.lower:.3f} to {value.upper:.3f}" if np.isfinite(value.lower) else MISSING


def paper_cell(value: PaperValue | None) -> str:
    """What the paper reports."""
    return str(value) if value is not None else ""


def score_frame(found: Sequence[Result], plan: Plan, table: str, measures: Sequence[str]) -> pd.DataFrame:
    """Return one row a system and measure: ours, the interval, the paper's value, the reason where there is none."""
    rows = []
    for r in found:
        for measure in measures:
            row: dict[str, object] = {
                "row": r.key, "system": r.system.model, "label": r.label, "measure": measure,
                "protocol": "published (optimistic)" if plan.optimistic else "honest",
            }  # fmt: skip
            if r.evaluation is not None:
                value = r.evaluation.scores[measure]
                row |= {
                    "mean": value.mean, "sd": value.sd, "lower": value.interval.lower, "upper": value.interval.upper,
                    "n_folds": value.n_folds, "n_patients": r.evaluation.n_test, "n_deaths": r.evaluation.deaths,
                    "run": r.evaluation.run.path.name,
                }  # fmt: skip
            paper = paper_value(table, plan.cohort.name, r.key, measure)
            row |= {"paper_mean": paper.mean if paper else np.nan, "paper_sd": paper.sd if paper else np.nan}
            row["reason"] = r.reason
            rows.append(row)
    columns = [
        "row", "system", "label", "measure", "protocol", "mean", "sd", "lower", "upper", "n_folds", "n_patients",
        "n_deaths", "paper_mean", "paper_sd", "run", "reason",
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=columns)


def fold_frame(found: Sequence[Result]) -> pd.DataFrame:
    """Return one row a system and fold, with every measure and its counts."""
    parts = [r.evaluation.frame().assign(row=r.key) for r in found if r.evaluation is not None]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["model", "fold"])


def comparisons(found: Sequence[Result], against: Result, seed: int) -> dict[str, Comparison]:
    """Compare ``against`` with every other system; keys are those of the rows."""
    if against.evaluation is None:
        return {}
    compared = {}
    for r in found:
        if r.evaluation is None or r.key == against.key:
            continue
        try:
            compared[r.key] = compare(against.evaluation.run, r.evaluation.run, seed=seed)
        except CohortError:
            continue  # no fold in common: nothing to compare, and the table shows an empty cell
    return compared


def comparison_frame(compared: Mapping[str, Comparison]) -> pd.DataFrame:
    """Return one row a pair, with the differences and p of the folds."""
    rows = []
    for c in compared.values():
        row: dict[str, object] = {
            "a": c.a, "b": c.b, "n_patients": c.n_patients, "difference": c.difference, "lower": c.interval.lower,
            "upper": c.interval.upper, "p_bootstrap": c.p_bootstrap, "p_folds": c.p_folds,
        }  # fmt: skip
        for k, (difference, p) in enumerate(zip(c.fold_differences, c.fold_p, strict=True)):
            row |= {f"difference_{k}": difference, f"p_{k}": p}
        rows.append(row)
    columns = ["a", "b", "n_patients", "difference", "lower", "upper", "p_bootstrap", "p_folds"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def notes(plan: Plan, found: Sequence[Result]) -> list[str]:
    """Sentences that every table of scores needs."""
    lines = [
        "Ours: mean ± standard deviation over the test folds, as the paper prints it;"
        f" intervals are 95 % bootstrap intervals over the test patients of each fold ({RESAMPLES} resamples).",
        f"Censoring weights come from the training fold only; Uno's C and the integrated Brier score end at tau ="
        f" {TAU:g} months (or at the end of the training fold's follow-up, see the CSV of the folds).",
    ]
    named = paper_cohort(plan.cohort.name)
    if named:
        lines.append(
            f"The paper: {CITATION}, TCGA-{named}; other encoders, and the epoch was chosen on the fold that is reported"
            " (optimistic). Empty where it (or our copy of its text) has no value."
        )
    else:
        lines.append(
            f"The paper has no cohort named {plan.cohort.name}, so there is nothing beside our values."
        )
    lines += [f"{r.label}: not available. {r.reason}" for r in found if r.evaluation is None and r.reason]
    for r in found:
        left_out = r.evaluation.run.record.left_out if r.evaluation else {}
        if left_out:
            reasons = ", ".join(sorted(set(left_out.values())))
            lines.append(f"{r.label}: {len(left_out)} patients left out ({reasons}).")
    return lines


def dot_figure(
    found: Sequence[Result], plan: Plan, table: str, measure: str, xlabel: str, *, title: str
) -> Figure:
    """Draw our mean with its 95 % interval and the folds as dots, and the paper's mean ± sd below it."""
    figure = Figure(figsize=(7, 1.3 + 0.42 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.axvline(0.5, color="#BBBBBB", lw=1, ls=":")
    for place, r in enumerate(found):
        paper = paper_value(table, plan.cohort.name, r.key, measure)
        if paper is not None:
            axes.errorbar(
                paper.mean, place + 0.18, xerr=paper.sd, fmt="D", ms=4, color=GHOST, lw=1, capsize=2
            )
        if r.evaluation is None:
            axes.text(0.5, place, " not available", color=GHOST, fontsize=8, va="center", style="italic")
            continue
        value = r.evaluation.scores[measure]
        folds = r.evaluation.frame()[_COLUMN.get(measure, measure)].to_numpy(float)
        axes.plot(folds, np.full(len(folds), place - 0.12), "|", color=CLINIC, ms=7, alpha=0.6)
        if np.isfinite(value.interval.lower):
            axes.plot([value.interval.lower, value.interval.upper], [place - 0.12] * 2, color=CLINIC, lw=1.5)
        axes.plot(value.mean, place - 0.12, "o", color=CLINIC, ms=5)
    axes.set_yticks(range(len(found)), [r.label for r in found], fontsize=8)
    axes.set(xlabel=xlabel, ylim=(len(found) - 0.5, -0.7))
    axes.set_title(title, fontsize=10, loc="left")
    axes.plot([], [], "o-", color=CLINIC, ms=5, label="ours: mean, 95 % interval, folds as ticks")
    if paper_cohort(plan.cohort.name):
        axes.plot([], [], "D-", color=GHOST, ms=4, label="the paper: mean ± sd (optimistic)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


_COLUMN = {"uno": "uno_c", "brier": "integrated_brier"}
