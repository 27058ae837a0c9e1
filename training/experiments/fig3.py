"""Fig. 3: Kaplan-Meier curves of the high- and low-risk halves by every system."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from napari_survpgc.core.groups import LogRank
from napari_survpgc.core.plots import draw_kaplan_meier

from ..evaluation import halves
from ..reproduce import MULTIMODAL, UNIMODAL, Plan
from ..score_table import notes, results
from ..table_writer import Product, Table

_COLUMNS = 4


def make(plan: Plan) -> Product:
    """Split the test patients of each system at the median risk of their fold and test the halves."""
    found = results(plan, (*UNIMODAL, *MULTIMODAL))
    shown = [r for r in found if r.evaluation]
    n_columns = max(1, min(_COLUMNS, len(shown)))
    n_rows = max(1, math.ceil(len(shown) / n_columns))
    figure = Figure(figsize=(3.1 * n_columns, 3.1 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    tests: dict[str, LogRank] = {}
    deaths: dict[str, dict[str, int]] = {}
    for axes, r in zip(panels, shown, strict=False):
        assert r.evaluation is not None
        table = halves(r.evaluation.run)
        test = draw_kaplan_meier(axes, table["survival_months"], table["event"], table["group"])
        axes.set_title(f"{r.label.removesuffix(' (not in the paper)')}\n{axes.get_title(loc='left')}", fontsize=8, loc="left")  # fmt: skip
        axes.set_xlabel("Months", fontsize=8)
        axes.tick_params(labelsize=8)
        tests[r.key] = test
        deaths[r.key] = {str(k): int(v) for k, v in table.groupby("group")["event"].sum().items()}
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    if not shown:
        panels[0].text(0, 0.5, "No system is available", fontsize=10)
    mark = " (optimistic)" if plan.optimistic else ""
    rows: list[tuple[str, ...]] = []
    frame: list[dict[str, object]] = []
    for r in found:
        record: dict[str, object] = {
            "system": r.system.model, "label": r.label,
            "protocol": "published (optimistic)" if plan.optimistic else "honest", "reason": r.reason,
        }  # fmt: skip
        if r.key not in tests:
            rows.append((r.label, "not available", "", "", ""))
        else:
            t, died = tests[r.key], deaths[r.key]
            p = "n/a" if t.p is None else f"{t.p:.2g}"
            sizes = [f"{t.sizes.get(g, 0)} ({died.get(g, 0)})" for g in ("low", "high")]
            rows.append((r.label, p, t.reason or t.method, *sizes))
            record |= {"p": t.p, "method": t.method, "reason": t.reason or ""}
            for g in ("low", "high"):
                record |= {f"n_{g}": t.sizes.get(g, 0), f"deaths_{g}": died.get(g, 0)}
        frame.append(record)
    lines = (
        "High risk: above the median risk of the test patients of the same fold; the outcome is not looked at, so the"
        " log-rank test stays valid. All folds together. Below 20 patients in a group p comes from 2,000 permutations.",
        *notes(plan, found)[2:],
    )
    columns = [
        "system",
        "label",
        "protocol",
        "p",
        "method",
        "n_low",
        "deaths_low",
        "n_high",
        "deaths_high",
        "reason",
    ]
    return Product(
        f"Fig. 3. Kaplan-Meier curves by predicted risk, {plan.cohort.name}",
        Table(
            (
                "System",
                f"Log-rank p{mark}",
                "Test",
                "Low risk: patients (deaths)",
                "High risk: patients (deaths)",
            ),
            tuple(rows),
            pd.DataFrame(frame).reindex(columns=columns),
        ),
        lines,
        {"": figure},
    )
