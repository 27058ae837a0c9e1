"""Fig. 3: Kaplan-Meier curves of the high- and low-risk halves by every system."""

from __future__ import annotations

import pandas as pd

from ..evaluation.stratification import HOW, HOW_PUBLISHED, kaplan_meier_panels
from ..tables.plan import MULTIMODAL, UNIMODAL, Plan
from ..tables.score_table import notes, results
from ..tables.table_writer import Product, Table


def make(plan: Plan) -> Product:
    """Split the test patients of each system at the median risk of their training fold and test the halves."""
    found = results(plan, (*UNIMODAL, *MULTIMODAL))
    shown = {
        r.key: (r.label.removesuffix(" (not in the paper)"), r.evaluation.run) for r in found if r.evaluation
    }
    figure, tested = kaplan_meier_panels(list(shown.values()))
    tests = dict(zip(shown, tested, strict=True))
    mark = " (optimistic)" if plan.optimistic else ""
    rows: list[tuple[str, ...]] = []
    frame: list[dict[str, object]] = []
    for r in found:
        record: dict[str, object] = {
            "system": r.system.model, "label": r.label,
            "protocol": "published (optimistic)" if plan.optimistic else "honest", "reason": r.reason,
        }  # fmt: skip
        if r.key not in tests:
            rows.append((r.label, "not available", "", "", "", ""))
        else:
            h = tests[r.key]
            rows.append((r.label, h.p, h.method, h.ratio, h.size("low"), h.size("high")))
            e = h.hazard_ratio.estimate
            record |= {"hazard_ratio": e.value, "hazard_ratio_low": e.low, "hazard_ratio_high": e.high}
            record |= {"p": h.test.p, "method": h.test.method, "reason": h.test.reason or ""}
            for g in ("low", "high"):
                record |= {f"n_{g}": h.test.sizes.get(g, 0), f"deaths_{g}": h.deaths.get(g, 0)}
        frame.append(record)
    lines = (
        HOW,
        *([HOW_PUBLISHED] if plan.optimistic else []),
        *notes(plan, found)[2:],
    )
    columns = [
        "system",
        "label",
        "protocol",
        "p",
        "method",
        "hazard_ratio",
        "hazard_ratio_low",
        "hazard_ratio_high",
        "n_low",
        "deaths_low",
        "n_high",
        "deaths_high",
        "reason",
    ]
    curves = [h.frame().assign(system=key) for key, h in tests.items()]
    return Product(
        f"Fig. 3. Kaplan-Meier curves by predicted risk, {plan.cohort.name}",
        Table(
            (
                "System",
                f"Log-rank p{mark}",
                "Test",
                "Hazard ratio, high to low (95 %)",
                "Low risk: patients (deaths)",
                "High risk: patients (deaths)",
            ),
            tuple(rows),
            pd.DataFrame(frame).reindex(columns=columns),
        ),
        lines,
        {"": figure},
        {
            "curves": pd.concat(curves, ignore_index=True)
            if curves
            else pd.DataFrame(columns=["system", "measure"])
        },
    )
