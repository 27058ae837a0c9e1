"""Table 2: AUC at 1, 3 and 5 years and its integral, multimodal systems; with their calibration."""

from __future__ import annotations

import numpy as np

from ..evaluation.calibration import calibration_figure, run_calibration
from ..evaluation.evaluation import HORIZONS
from ..tables.paper import paper_value
from ..tables.plan import MULTIMODAL, Plan
from ..tables.score_table import (
    Result,
    band,
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

MEASURES = ("iauc", *(f"auc_{h:g}" for h in HORIZONS), "brier")


def make(plan: Plan) -> Product:
    """Evaluate the multimodal systems at the horizons."""
    found = results(plan, MULTIMODAL)
    mark = " (optimistic)" if plan.optimistic else ""
    columns = ["System", f"iAUC{mark}", "95 % interval", "The paper"]
    for horizon in HORIZONS:
        columns += [f"AUC {horizon / 12:g} y{mark}", "The paper", "Dead / followed longer"]
    columns += [f"Integrated Brier{mark}", "of Kaplan-Meier"]
    title = f"Table 2. AUC(t) and integrated AUC of multimodal systems, {plan.cohort.name}"
    lines = [
        "AUC(t): patients dead by t against those followed longer, weighted for censoring; the system's own predicted"
        " P(dead by t) ranks them (1 - S(t), read at t on its own bins). n/a, not 0, where a fold has none of either.",
        "iAUC: mean of the AUCs, weighted by the drop of the Kaplan-Meier curve of the test fold (as scikit-survival"
        " does); n/a in a fold that lacks one of them.",
        "Dead / followed longer: how many test patients an AUC rests on, all folds (the fewest of a fold in brackets).",
        "Integrated Brier: smaller is better; 'of Kaplan-Meier' is that of the training fold's curve, which knows nothing"
        " of the patient. Calibration: fifths of the test patients by predicted survival.",
        *notes(plan, found),
    ]
    figures = {"": dot_figure(found, plan, "table2", "iauc", f"iAUC{mark}", title=title)}
    named = [
        (r.label.split(" (")[0], run_calibration(r.evaluation.run, HORIZONS)) for r in found if r.evaluation
    ]
    calibrated = calibration_figure([(label, c) for label, c in named if c is not None], HORIZONS)
    if calibrated is not None:
        figures["calibration"] = calibrated
    rows = tuple(_cells(r, plan) for r in found)
    frame = score_frame(found, plan, "table2", MEASURES)
    return Product(
        title, Table(tuple(columns), rows, frame), tuple(lines), figures, {"folds": fold_frame(found)}
    )


def _cells(r: Result, plan: Plan) -> tuple[str, ...]:
    def paper(measure: str) -> str:
        return paper_cell(paper_value("table2", plan.cohort.name, r.key, measure))

    if r.evaluation is None:
        cells = [r.label, "not available", "", paper("iauc")]
        for horizon in HORIZONS:
            cells += ["", paper(f"auc_{horizon:g}"), ""]
        return (*cells, "", "")
    e = r.evaluation
    n = len(e.folds)
    cells = [r.label, score(e.scores["iauc"], n), band(e.scores["iauc"].interval), paper("iauc")]
    for k, horizon in enumerate(HORIZONS):
        dead, longer = [f.cases[k] for f in e.folds], [f.controls[k] for f in e.folds]
        counts = f"{sum(dead)} ({min(dead)}) / {sum(longer)} ({min(longer)})"
        cells += [score(e.scores[f"auc_{horizon:g}"], n), paper(f"auc_{horizon:g}"), counts]
    reference = np.array([f.brier_reference for f in e.folds])
    known = reference[np.isfinite(reference)]
    return (
        *cells,
        score(e.scores["brier"], n),
        number(float(known.mean())) if len(known) else number(float("nan")),
    )
