"""Supplementary Fig. 1: how the patients of the cohort were selected, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.output.plots import CLINIC, GENOMIC
from napari_survpgc.core.types import CLINICAL_FIELDS

from ..tables.plan import Plan
from ..tables.table_writer import Product, Table


@dataclass(frozen=True)
class Step:
    """A step of the selection.

    Attributes
    ----------
    left_out : patients who fail it, "" as reason at the start.   deaths : among those kept.
    """

    name: str
    kept: int
    deaths: int
    left_out: int = 0
    reason: str = ""


def make(plan: Plan) -> Product:
    """Count who is left after each step, as a system on all three modalities takes them."""
    cohort = plan.cohort
    steps, notes = selection(cohort)
    rows = tuple(
        (s.name, str(s.kept), str(s.deaths), f"{s.left_out} ({s.reason})" if s.left_out else "")
        for s in steps
    )
    frame = pd.DataFrame(
        {"step": s.name, "n": s.kept, "n_events": s.deaths, "left_out": s.left_out, "reason": s.reason}
        for s in steps
    )
    return Product(
        f"Supplementary Fig. 1. Selection of the patients, {cohort.name}",
        Table(("Step", "Patients", "Deaths", "Left out"), rows, frame),
        notes,
        {"": _figure(steps)},
    )


def selection(cohort: Cohort) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Return the steps from patients.csv to the tested patients, and what the folder cannot say.

    A modality of which the folder has nothing at all is no step: nobody is left out for it.
    """
    patients = cohort.patients
    notes = [
        "From the files of the cohort folder, in the order in which a system on all three modalities asks for them; who was"
        " left out before patients.csv was written is not known from it.",
        *cohort.notes,
    ]
    steps: list[Step] = []
    kept = [str(case) for case in patients.index]

    def add(name: str, here: Sequence[str], reason: str = "") -> None:
        nonlocal kept
        deaths = int(patients.loc[list(here), "event"].sum())
        steps.append(Step(name, len(here), deaths, len(kept) - len(here), reason))
        kept = list(here)

    add("In patients.csv, follow-up known", kept)
    if any(cohort.features.values()):
        add("Slide features", [c for c in kept if cohort.features[c]], "no features of a slide")
    else:
        notes.append("The folder has no slide features, so that slides are no step.")
    expression = cohort.expression
    if expression is not None:
        measured = {str(case) for case in expression.index[expression.notna().any(axis=1)]}
        add("Gene expression", [c for c in kept if c in measured], "no expression")
    else:
        notes.append("The folder has no expression.csv.gz, so that genes are no step.")
    known = [c for c in kept if any(getattr(cohort.records[c], f) is not None for f in CLINICAL_FIELDS)]
    add("A clinical field known", known, "none of the six fields")
    if cohort.folds:
        tested = {case for fold in cohort.folds for case in fold.test}
        add(
            f"Tested in one of {len(cohort.folds)} folds", [c for c in kept if c in tested], "in no test fold"
        )
    else:
        notes.append("The folder has no folds yet; training makes them of all patients above.")
    unknown = {f: sum(getattr(cohort.records[c], f) is None for c in kept) for f in CLINICAL_FIELDS}
    said = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in unknown.items() if n)
    notes.append(f"Unknown fields among the {len(kept)} at the end: {said or 'none'}.")
    return tuple(steps), tuple(notes)


def _figure(steps: Sequence[Step]) -> Figure:
    figure = Figure(figsize=(6.6, 0.6 + 1.0 * len(steps)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(0, 10), ylim=(-len(steps) + 0.5, 0.5))
    for row, step in enumerate(steps):
        _box(axes, 2.6, -row, f"{step.name}\nn = {step.kept:,} ({step.deaths:,} died)", CLINIC)
        if row:
            axes.annotate(
                "",
                (2.6, -row + 0.27),
                (2.6, -row + 0.73),
                arrowprops={"arrowstyle": "->", "color": "#666666"},
            )
        if step.left_out:
            _box(axes, 7.8, -row + 0.5, f"left out: {step.left_out:,}\n{step.reason}", GENOMIC)
            axes.annotate(
                "", (6.2, -row + 0.5), (2.6, -row + 0.5), arrowprops={"arrowstyle": "->", "color": "#666666"}
            )
    return figure


def _box(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    axes.text(
        x, y, text, ha="center", va="center", fontsize=8.5,
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": color},
    )  # fmt: skip
