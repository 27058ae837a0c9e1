"""Supplementary Fig. 2: who has died, whose follow-up has ended and who is still followed, by time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from napari_survpgc.core.output.plots import GROUPS

from ..tables.plan import Plan
from ..tables.table_writer import Product, Table

_YEARS = 10
_COLORS = {"followed": GROUPS["low"], "censored": "#BBBBBB", "died": GROUPS["high"]}


def make(plan: Plan) -> Product:
    """Count by year, for all patients of the cohort."""
    patients = plan.cohort.patients
    frame = censoring_by_time(patients["survival_months"], patients["event"])
    n, deaths = len(patients), int(patients["event"].sum())
    ended = frame["censored_of_ended"].to_numpy(float)
    counts = frame[["months", "died", "censored", "followed"]].to_numpy(float)
    rows = tuple(
        (
            *(f"{v:g}" for v in row),
            f"{100 * row[2] / n:.0f} %",
            f"{100 * share:.0f} %" if share == share else "",
        )
        for row, share in zip(counts.tolist(), ended.tolist(), strict=True)
    )
    ratio = 100 * (n - deaths) / n
    months = patients["survival_months"].to_numpy(float)
    columns = ("Months", "Died", "Censored", "Still followed", "Censored of all", "Censored of those ended")
    return Product(
        f"Supplementary Fig. 2. Censoring by time, {plan.cohort.name}",
        Table(columns, rows, frame),
        (
            f"{n:,} patients, {deaths:,} died, {ratio:.0f} % censored; median follow-up of the censored"
            f" {np.median(months[patients['event'].to_numpy() == 0]) if deaths < n else float('nan'):.1f} months.",
            "Died and censored: up to and at the time; still followed: longer. What a measure at a time rests on are those"
            " who died by then and those still followed: beyond the years where few are left, no model can be judged.",
        ),
        {"": _figure(frame, n, ratio)},
    )


def censoring_by_time(months: ArrayLike, event: ArrayLike, longest_years: int = _YEARS) -> pd.DataFrame:
    """Return months, died, censored, followed, censored_of_ended: a row at 0, 6 months, and each year of follow-up."""
    times, events = np.asarray(months, float), np.asarray(event) == 1
    last = min(12 * longest_years, 12 * int(np.ceil(times.max() / 12)))
    at = np.array([0.0, 6.0, *np.arange(12.0, last + 1, 12)])
    died = np.array([int((events & (times <= t)).sum()) for t in at])
    censored = np.array([int((~events & (times <= t)).sum()) for t in at])
    ended = died + censored
    share = np.divide(censored, ended, out=np.full(len(at), np.nan), where=ended > 0)
    return pd.DataFrame(
        {
            "months": at, "died": died, "censored": censored, "followed": len(times) - ended,
            "censored_of_ended": share,
        }
    )  # fmt: skip


def _figure(frame: pd.DataFrame, n: int, ratio: float) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    bottom = np.zeros(len(frame))
    place = np.arange(len(frame))
    for name, color in _COLORS.items():
        counts = frame[name].to_numpy(float)
        axes.bar(place, 100 * counts / n, 0.8, bottom=bottom, color=color, label=name)
        for x, count, base in zip(place.tolist(), counts.tolist(), bottom.tolist(), strict=True):
            if count >= 0.05 * n:
                axes.text(x, base + 50 * count / n, f"{count:.0f}", ha="center", va="center", fontsize=7)
        bottom += 100 * counts / n
    axes.set_xticks(place, [f"{m:g}" for m in frame["months"]])
    axes.set(xlabel="Months since diagnosis", ylabel="Patients (%)", ylim=(0, 100))
    axes.set_title(f"{n:,} patients, {ratio:.0f} % censored", fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure
