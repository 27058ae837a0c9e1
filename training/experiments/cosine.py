"""The cosine-loss study: the C-index over the share beta of the similarity loss (Eq. 14)."""

from __future__ import annotations

from ..evaluation.comparison import Comparison
from ..tables.plan import MULTIMODAL, TWO_PATH, Plan
from ..tables.score_table import (
    Result,
    band,
    comparison_frame,
    comparisons,
    dot_figure,
    fold_frame,
    notes,
    number,
    result,
    score,
    score_frame,
)
from ..tables.table_writer import Product, Table

BETAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
_SYSTEMS = tuple(s for s in MULTIMODAL if s.model in TWO_PATH)


def make(plan: Plan) -> Product:
    """Train both forms of SurvPGC for each beta; every beta is compared with none."""
    found: list[Result] = []
    compared: dict[str, Comparison] = {}
    for count, system in enumerate(_SYSTEMS):
        label = system.label.removesuffix(" (not in the paper)")
        rows: list[Result] = []
        for beta in BETAS:
            if plan.progress:
                plan.progress("beta", count * len(BETAS) + len(rows), len(_SYSTEMS) * len(BETAS))
            key = f"{system.model} beta={beta:g}"
            rows.append(result(plan, system, key=key, label=f"{label}, beta = {beta:g}", beta=beta))
        compared |= comparisons(rows, rows[0], plan.seed)
        found += rows
    heading = "C-index (optimistic)" if plan.optimistic else "C-index"
    cells = []
    for r in found:
        if r.evaluation is None:
            cells.append((r.label, "not available", "", "", ""))
            continue
        value, c = r.evaluation.scores["c_index"], compared.get(r.key)
        cells.append(
            (
                r.label,
                score(value, len(r.evaluation.folds)),
                band(value.interval),
                "" if c is None else f"{-c.difference:+.3f}",
                "" if c is None else f"{number(c.p_bootstrap)}; {number(c.p_folds)}",
            )
        )
    title = f"Cosine similarity loss, {plan.cohort.name}"
    pairs = comparison_frame(compared)
    pairs.insert(0, "row", list(compared))
    return Product(
        title,
        Table(
            ("System", heading, "95 % interval", "Change from beta = 0", "p (bootstrap; folds)"),
            tuple(cells),
            score_frame(found, plan, "cosine", ("c_index", "uno", "brier")),
        ),
        (
            "loss = (1 - beta) NLL + beta max(0, cos(clinic path, genomic path) - margin), Eq. 14. The paper found its gain"
            " unstable and left it out of Table 1; its values are in a supplement that we do not have.",
            *notes(plan, found),
        ),
        {"": dot_figure(found, plan, "cosine", "c_index", heading, title=title)},
        {"folds": fold_frame(found), "comparisons": pairs},
    )
