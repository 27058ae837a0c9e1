"""Table 4: four ways to integrate the clinical record with pathology."""

from __future__ import annotations

from ..tables.paper import paper_value
from ..tables.plan import INTEGRATION, Plan
from ..tables.score_table import (
    band,
    comparison_frame,
    comparisons,
    dot_figure,
    fold_frame,
    notes,
    number,
    paper_cell,
    results,
    score,
    score_frame,
)
from ..tables.table_writer import Product, Table

_KINDS = {
    "approach_a": ("low", "no"),
    "approach_b": ("low", "yes"),
    "approach_c": ("high", "yes"),
    "survpc": ("high", "yes"),
}
"""Coding dimensions of the clinical record; whether the modalities interact (the paper's columns)."""


def make(plan: Plan) -> Product:
    """Train and evaluate approaches a, b, c and SurvPC, which is compared with the others."""
    found = results(plan, INTEGRATION)
    compared = comparisons(found, found[-1], plan.seed)
    heading = "C-index (optimistic)" if plan.optimistic else "C-index"
    columns = (
        "Method", "Clinical coding dimensions", "Interaction between modalities", heading, "95 % interval", "The paper",
        "SurvPC minus this", "p (bootstrap; folds)", "Patients (deaths)",
    )  # fmt: skip
    rows = []
    for r in found:
        paper = paper_cell(paper_value("table4", plan.cohort.name, r.key, "c_index"))
        if r.evaluation is None:
            rows.append((r.label, *_KINDS[r.key], "not available", "", paper, "", "", ""))
            continue
        value, c = r.evaluation.scores["c_index"], compared.get(r.key)
        rows.append(
            (
                r.label,
                *_KINDS[r.key],
                score(value, len(r.evaluation.folds)),
                band(value.interval),
                paper,
                "" if c is None else f"{c.difference:+.3f} ({band(c.interval)})",
                "" if c is None else f"{number(c.p_bootstrap)}; {number(c.p_folds)}",
                f"{r.evaluation.n_test} ({r.evaluation.deaths})",
            )
        )
    title = f"Table 4. Integration of the clinical record with pathology, {plan.cohort.name}"
    return Product(
        title,
        Table(columns, tuple(rows), score_frame(found, plan, "table4", ("c_index", "uno", "brier"))),
        tuple(notes(plan, found)),
        {"": dot_figure(found, plan, "table4", "c_index", heading, title=title)},
        {"folds": fold_frame(found), "comparisons": comparison_frame(compared)},
    )
