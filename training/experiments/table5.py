"""Table 5: how the variety of the sentences' wording changes the MLP on clinical prompts."""

from __future__ import annotations

from napari_survpgc.core.clinical.sentences import load_templates

from ..tables.paper import paper_value
from ..tables.plan import UNIMODAL, Plan
from ..tables.score_table import band, dot_figure, fold_frame, notes, paper_cell, result, score, score_frame
from ..tables.table_writer import Product, Table

N_TEMPLATES = (1, 3, 5, 10, 20)
_MLP = next(s for s in UNIMODAL if s.model == "mlp_clinic")


def wordings(plan: Plan, n_templates: int) -> dict[str, object]:
    """Return the settings for N_t wordings: those of the run's own templates where it has enough, else the synonyms."""
    own = plan.settings("mlp_clinic").templates
    enough = load_templates(own).n_variants >= n_templates
    return {"templates": own if enough else "synonyms", "n_templates": n_templates}


def make(plan: Plan) -> Product:
    """Train the MLP once for each number of wordings."""
    found = []
    for number, n in enumerate(N_TEMPLATES):
        if plan.progress:
            plan.progress("wordings", number, len(N_TEMPLATES))
        found.append(result(plan, _MLP, key=str(n), label=f"N_t = {n}", **wordings(plan, n)))
    heading = "C-index (optimistic)" if plan.optimistic else "C-index"
    rows = []
    for r in found:
        paper = paper_cell(paper_value("table5", plan.cohort.name, r.key, "c_index"))
        if r.evaluation is None:
            rows.append((r.key, "not available", "", paper, ""))
            continue
        value = r.evaluation.scores["c_index"]
        counts = f"{r.evaluation.n_test} ({r.evaluation.deaths})"
        rows.append((r.key, score(value, len(r.evaluation.folds)), band(value.interval), paper, counts))
    title = f"Table 5. Variety of the clinical templates and the MLP on the record, {plan.cohort.name}"
    lines = (
        "N_t: synonymous wordings of a field; each patient's six sentences are drawn from them once, by the seed and the"
        " patient's id. N_t = 1 is the wording of the other tables. The paper wrote its synonyms with GPT-4o mini; ours"
        " are in the package (templates 'synonyms').",
        *notes(plan, found),
    )
    frame = score_frame(found, plan, "table5", ("c_index", "uno", "brier")).rename(
        columns={"row": "n_templates"}
    )
    columns = ("Number of templates", heading, "95 % interval", "The paper", "Patients (deaths)")
    return Product(
        title,
        Table(columns, tuple(rows), frame),
        lines,
        {"": dot_figure(found, plan, "table5", "c_index", heading, title=title)},
        {"folds": fold_frame(found).rename(columns={"row": "n_templates"})},
    )
