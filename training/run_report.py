"""Evaluate finished runs and compare them, from their saved predictions only: no model, no cohort."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import CohortError

from .evaluation.added_value import added_values
from .evaluation.calibration import RunCalibration, calibration_figure, run_calibration
from .evaluation.comparison import Comparison, compare
from .evaluation.evaluation import HORIZONS, RESAMPLES, TAU, Evaluation, evaluate
from .evaluation.scores import score_rows, scores_frame
from .evaluation.stratification import HOW, HOW_PUBLISHED, Halves, kaplan_meier_panels
from .runs.run_folder import Run, read_run
from .tables.score_table import band, comparison_frame, number, score
from .tables.table_writer import Product, Table


def evaluate_runs(
    folders: Sequence[Path],
    *,
    horizons: Sequence[float] = HORIZONS,
    tau: float = TAU,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Product, bool]:
    """Evaluate runs; the first is compared with each of the others.

    Parameters
    ----------
    horizons, tau : months.   resamples, seed : of the bootstrap.

    Returns
    -------
    The tables and figures, and whether any of the runs chose its epoch on its test patients.

    Raises
    ------
    CohortError : a run is not finished or damaged, or runs that cannot be compared (other folds, other cohorts).
    """
    if tau <= 0 or not horizons or min(horizons) <= 0:
        raise CohortError("tau and horizons must be months above 0", "Give e.g. --tau 60 --horizons 12,36,60")
    runs = [read_run(folder) for folder in folders]
    labels = _labels(runs)
    found = [evaluate(run, horizons=horizons, tau=tau, resamples=resamples, seed=seed) for run in runs]
    figure, tested = kaplan_meier_panels(list(zip(labels, runs, strict=True)), horizons)
    compared = [compare(runs[0], other, resamples=resamples, seed=seed) for other in runs[1:]]
    rows = [_cells(*row) for row in zip(labels, found, tested, strict=True)]
    folds = pd.concat([e.frame().assign(run=n) for n, e in zip(labels, found, strict=True)])
    pairs = comparison_frame({str(k): c for k, c in enumerate(compared)}).assign(a=labels[0], b=labels[1:])
    figures = {"": figure}
    truths = [run_calibration(run, horizons) for run in runs]
    calibrated = calibration_figure([(n, c) for n, c in zip(labels, truths, strict=True) if c], horizons)
    if calibrated is not None:
        figures["calibration"] = calibrated
    added, record_notes = added_values(labels, runs, horizons, resamples, seed)
    if added.figure is not None:
        figures["decision"] = added.figure
    scores = []
    for label, e, h, c in zip(labels, found, tested, truths, strict=True):
        scores += score_rows(label, e, h, c)
    columns = ["Run", "Model", "Protocol", "C-index", "95 % interval", "All test patients", "Uno's C", "iAUC"]
    for horizon in horizons:
        columns += [f"AUC {horizon:g} months", "Dead / followed longer"]
    columns += ["Integrated Brier", "of Kaplan-Meier", "Log-rank p of halves", "Hazard ratio, high to low"]
    columns += ["Low, high: patients (deaths)"]
    product = Product(
        f"Evaluation of {', '.join(labels)}",
        Table(tuple(columns), tuple(rows), _frame(labels, found, tested)),
        (
            *_notes(labels, found, tested, compared, resamples, tau),
            *_calibration_notes(labels, truths),
            *record_notes,
        ),
        figures,
        {"folds": folds, "comparisons": pairs, **added.frames},
        {"scores.csv": scores_frame([*scores, *added.rows])},
    )
    return product, any(run.optimistic for run in runs)


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return the shortest ends of the paths that tell the runs apart."""
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise CohortError("The same run is given twice", "Give different run folders")
    depth = 1
    while len({p.parts[-depth:] for p in paths}) < len(paths):
        depth += 1
    return ["/".join(p.parts[-depth:]) for p in paths]


def _protocol(e: Evaluation) -> str:
    shuffled = ", outcomes exchanged" if e.run.record.labels_shuffled else ""
    return ("published (optimistic)" if e.run.optimistic else e.run.record.protocol) + shuffled


def _cells(label: str, e: Evaluation, h: Halves) -> tuple[str, ...]:
    n = len(e.folds)
    cells = [
        label,
        e.run.model,
        _protocol(e),
        score(e.scores["c_index"], n),
        band(e.scores["c_index"].interval),
    ]
    cells += [
        f"{number(e.pooled)} ({band(e.pooled_interval)})",
        score(e.scores["uno"], n),
        score(e.scores["iauc"], n),
    ]
    for k, horizon in enumerate(e.horizons):
        dead, longer = [f.cases[k] for f in e.folds], [f.controls[k] for f in e.folds]
        cells += [
            score(e.scores[f"auc_{horizon:g}"], n),
            f"{sum(dead)} ({min(dead)}) / {sum(longer)} ({min(longer)})",
        ]
    sizes = f"{h.size('low')}, {h.size('high')}"
    return (*cells, score(e.scores["brier"], n), number(_reference(e)), f"{h.p} ({h.method})", h.ratio, sizes)


def _reference(e: Evaluation) -> float:
    """Mean integrated Brier score of the training folds' Kaplan-Meier curves."""
    values = np.array([f.brier_reference for f in e.folds])
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _frame(labels: Sequence[str], found: Sequence[Evaluation], tested: Sequence[Halves]) -> pd.DataFrame:
    """Return one row a run and measure."""
    rows = []
    for label, e, h in zip(labels, found, tested, strict=True):
        common = {
            "run": label, "model": e.run.model, "protocol": _protocol(e), "n_patients": e.n_test, "n_deaths": e.deaths,
        }  # fmt: skip
        for measure, s in e.scores.items():
            rows.append(
                common
                | {"measure": measure, "mean": s.mean, "sd": s.sd, "n_folds": s.n_folds}
                | {"lower": s.interval.lower, "upper": s.interval.upper}
            )
        limits = {"lower": e.pooled_interval.lower, "upper": e.pooled_interval.upper}
        rows.append(common | {"measure": "c_index_pooled", "mean": e.pooled, **limits})
        rows.append(common | {"measure": "brier_of_kaplan_meier", "mean": _reference(e)})
        rows.append(common | {"measure": "log_rank_p_of_halves", "mean": h.test.p})
        for name, effect in (
            ("hazard_ratio_of_halves", h.hazard_ratio),
            ("rmst_difference_of_halves", h.rmst),
        ):
            limits_of = effect.estimate
            rows.append(
                common
                | {"measure": name, "mean": limits_of.value, "lower": limits_of.low, "upper": limits_of.high}
            )
    return pd.DataFrame(rows)


def _notes(
    labels: Sequence[str],
    found: Sequence[Evaluation],
    tested: Sequence[Halves],
    compared: Sequence[Comparison],
    resamples: int,
    tau: float,
) -> list[str]:
    lines = []
    for other, c in zip(labels[1:], compared, strict=True):
        lines.append(
            f"{labels[0]} minus {other}: C-index {c.difference:+.3f} (95 % {band(c.interval)}),"
            f" p = {number(c.p_bootstrap)} by the paired bootstrap, {number(c.p_folds)} by the corrected t-test over folds;"
            f" {c.n_patients} patients in both."
        )
    limits = sorted({round(f.tau, 1) for e in found for f in e.folds if np.isfinite(f.tau)})
    lines += [
        "C-index, Uno's C, AUC, Brier: mean ± standard deviation over the test folds; intervals are 95 % bootstrap intervals"
        f" over the test patients of each fold ({resamples} resamples). All test patients: all folds together, risks as"
        " percentiles within their fold.",
        f"Uno's C and the integrated Brier score end at tau = {tau:g} months, or where the follow-up of a training fold no"
        f" longer supports it (used: {', '.join(f'{t:g}' for t in limits) or 'none'}); censoring weights come from the"
        " training fold only.",
        "Dead / followed longer: how many test patients an AUC rests on, all folds (the fewest of a fold in brackets);"
        " n/a, not 0, where a fold has none of either.",
        "Integrated Brier: smaller is better; 'of Kaplan-Meier' is that of the training fold's curve, which knows nothing"
        " of the patient. n/a for a system without hazards.",
        HOW,
    ]
    if any(e.run.optimistic for e in found):
        lines.append(HOW_PUBLISHED)
    if compared:
        lines.append(
            "Comparisons: test patients that both runs have, resampled together; the t-test is corrected for overlapping"
            " training folds (Nadeau & Bengio 2003). By fold in the CSV of the comparisons."
        )
    return lines


def _calibration_notes(labels: Sequence[str], truths: Sequence[RunCalibration | None]) -> list[str]:
    """Sentences on how true the predicted survival is; none without hazards."""
    lines = []
    for label, c in zip(labels, truths, strict=True):
        if c is None:
            continue
        parts = [
            f"{one.months:g} months: observed/expected deaths {one.observed_to_expected.text()}, slope {one.slope.text()},"
            f" 1-calibration p {number(one.p)}, Brier {number(before)} (recalibrated {number(after)})"
            for one, before, after in zip(c.before, c.brier_before, c.brier_after, strict=True)
        ]
        lines.append(
            f"Calibration of {label}: {'; '.join(parts)}; D-calibration p {number(c.d_calibration)}."
        )
    if lines:
        lines.append(
            "Observed/expected 1, slope 1 and p above .05 speak for true predictions; a slope below 1: too extreme."
            " Recalibrated: logistic at each time, learned from the other folds' test patients, so that its benefit is not"
            " flattered; a bundle of the run carries the one learned from all of them."
        )
    return lines
