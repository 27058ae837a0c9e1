"""Table 1: C-index of unimodal and multimodal systems."""

from __future__ import annotations

from ..tables.paper import paper_value
from ..tables.plan import MULTIMODAL, TWO_PATH, UNIMODAL, Plan
from ..tables.score_table import (
    Result,
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

MEASURES = ("c_index", "uno", "brier")


def make(plan: Plan) -> Product:
    """Train and evaluate all systems; every other one is compared with SurvPGC."""
    found = results(plan, (*UNIMODAL, *MULTIMODAL))
    against = next((r for r in found if r.key in TWO_PATH and r.evaluation), None)
    compared = comparisons(found, against, plan.seed) if against else {}
    heading = "C-index (optimistic)" if plan.optimistic else "C-index"
    columns = ["Modality", "System", heading, "95 % interval", "The paper", "All test patients", "Uno's C"]
    columns += ["Integrated Brier", "Patients (deaths)"]
    columns += [f"{against.label} minus this", "p (bootstrap; folds)"] if against else []
    rows = []
    for r in found:
        cells = list(_cells(r, plan))
        if against:
            c = compared.get(r.key)
            cells += ["", ""] if c is None else [
                f"{c.difference:+.3f} ({band(c.interval)})",
                f"{number(c.p_bootstrap)}; {number(c.p_folds)}",
            ]  # fmt: skip
        rows.append(tuple(cells))
    title = f"Table 1. C-index of unimodal and multimodal systems, {plan.cohort.name}"
    lines = notes(plan, found)
    lines.insert(
        1,
        "All test patients: C-index of all folds together, risks as percentiles within their fold, since the fold models"
        " are not on one scale.",
    )
    if against:
        lines.insert(
            2,
            "Differences: test patients that both systems have, resampled together; p of the bootstrap is two-sided, p over"
            " folds is the corrected resampled t-test (Nadeau & Bengio 2003), which knows that training folds overlap."
            " By fold in the CSV of the comparisons.",
        )
    return Product(
        title,
        Table(tuple(columns), tuple(rows), score_frame(found, plan, "table1", MEASURES)),
        tuple(lines),
        {"": dot_figure(found, plan, "table1", "c_index", heading, title=title)},
        {"folds": fold_frame(found), "comparisons": comparison_frame(compared)},
    )


def _cells(r: Result, plan: Plan) -> tuple[str, ...]:
    paper = paper_cell(paper_value("table1", plan.cohort.name, r.key, "c_index"))
    if r.evaluation is None:
        return (r.system.group, r.label, "not available", "", paper, "", "", "", "")
    e = r.evaluation
    n = len(e.folds)
    return (
        r.system.group,
        r.label,
        score(e.scores["c_index"], n),
        band(e.scores["c_index"].interval),
        paper,
        f"{number(e.pooled)} ({band(e.pooled_interval)})",
        score(e.scores["uno"], n),
        score(e.scores["brier"], n),
        f"{e.n_test} ({e.deaths})",
    )
