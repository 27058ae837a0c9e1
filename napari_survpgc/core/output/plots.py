"""Figures: survival curve, hazards, place among the reference patients, contributions, Kaplan-Meier, heatmap.

Plain matplotlib Figures without pyplot: no global state, no window; the caller saves or embeds them. Colors are from
the Okabe-Ito palette, told apart by color-blind readers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray

from napari_survpgc.core.bundle.answer import answer_of
from napari_survpgc.core.curves import censor_ticks, cumulative_events
from napari_survpgc.core.groups import KaplanMeier, LogRank, kaplan_meier, log_rank, numbers_at_risk
from napari_survpgc.core.types import Attribution, Prediction

CLINIC, GENOMIC, GHOST = "#0072B2", "#D55E00", "#999999"
GROUPS = {"low": "#009E73", "intermediate": "#E69F00", "high": "#CC3311"}
GROUP_TEXT = {"low": "#00755A", "intermediate": "#8F5F00", "high": "#B32A0C"}
"""The same hues, dark enough for text on white and on light gray (contrast above 4.5 to 1)."""
COMPARED = (CLINIC, GENOMIC, GROUPS["low"], GROUPS["intermediate"])
ON_DARK = {
    CLINIC: "#56B4E9",
    GENOMIC: "#F0813D",
    GROUPS["high"]: "#F0644B",
    GROUP_TEXT["low"]: "#2DBE96",
    GROUP_TEXT["intermediate"]: GROUPS["intermediate"],
    GROUP_TEXT["high"]: "#F0644B",
}
"""The same hues, bright enough on a dark background (contrast above 4.5 to 1)."""
HEATMAP_COLORS = "cividis"
RESEARCH = "Research use only"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def survival_figure(prediction: Prediction, original: Prediction | None = None) -> Figure:
    """Draw the survival of patients of this risk with its 90 % interval, and the model's own; ``original`` as a gray ghost.

    Between the ends of its bins the model's own curve is drawn straight, as the trainer's metrics read it.
    """
    figure, axes = _figure(5.2, 3.4)
    survival_curves(axes, prediction, original)
    axes.set(
        xlabel="Months since diagnosis",
        ylabel="Predicted survival",
        ylim=(0, 1.02),
        xlim=(0, prediction.bin_edges_months[-1]),
    )
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False, fontsize=8)
    return figure


def survival_curves(axes: Axes, prediction: Prediction, original: Prediction | None = None) -> None:
    """Add what moves in :func:`survival_figure` to its axes: curve, band and ghost, with the gid "live"."""
    months = prediction.bin_edges_months

    def with_start(curve: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([[1.0], curve])

    if original is not None:
        axes.plot(
            original.bin_edges_months,
            with_start(original.survival),
            color=GHOST,
            ls="--",
            label="as entered",
            gid="live",
        )
    low, high = prediction.fold_survival.min(0), prediction.fold_survival.max(0)
    found = answer_of(prediction)
    if found is not None and found.curve:
        lines = np.array([(one.months, one.survival, one.low, one.high) for one in found.curve]).T
        axes.fill_between(
            lines[0],
            lines[2],
            lines[3],
            color=CLINIC,
            alpha=0.18,
            label="90 % of patients of this risk",
            gid="live",
        )
        axes.plot(lines[0], lines[1], color=CLINIC, label="patients of this risk", gid="live")
        at = np.array([(one.months, one.survival) for one in found.survival_at]).reshape(-1, 2).T
        axes.plot(*at, color=CLINIC, marker="o", ms=5, ls="", gid="live")
        axes.plot(
            months,
            with_start(prediction.survival),
            color=GENOMIC,
            marker="o",
            ms=3,
            lw=0.8,
            ls=":",
            label="the model's own output",
            gid="live",
        )
        return
    axes.fill_between(
        months,
        with_start(low),
        with_start(high),
        color=CLINIC,
        alpha=0.18,
        label="range of models",
        gid="live",
    )
    axes.plot(
        months,
        with_start(prediction.survival),
        color=CLINIC,
        marker="o",
        ms=4,
        label="mean of models",
        gid="live",
    )


def comparison_figure(predictions: Sequence[Prediction], names: Sequence[str]) -> Figure:
    """Draw the survival curves of several patients, with the range of the fold models."""
    figure, axes = _figure(5.2, 3.4)
    longest = 0.0
    for prediction, name, color in zip(predictions, names, itertools.cycle(COMPARED), strict=False):
        months = prediction.bin_edges_months
        longest = max(longest, float(months[-1]))
        low, high = prediction.fold_survival.min(0), prediction.fold_survival.max(0)
        axes.fill_between(months, np.r_[1.0, low], np.r_[1.0, high], color=color, alpha=0.15)
        axes.plot(months, np.r_[1.0, prediction.survival], color=color, marker="o", ms=4, label=name)
    axes.set(xlabel="Months since diagnosis", ylabel="Predicted survival", ylim=(0, 1.02), xlim=(0, longest))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False, fontsize=8)
    return figure


def recolor(figure: Figure, foreground: str, background: str) -> None:
    """Draw everything that is black or white by convention (frames, text, neutral marks) in other colors.

    Colors that mean something (groups, paths) stay.
    """
    figure.set_facecolor(background)
    for axes in figure.axes:
        axes.set_facecolor(background)
        for artist in axes.get_children():
            suit(artist, background)
        for spine in axes.spines.values():
            spine.set_edgecolor(foreground)
        axes.tick_params(color=foreground, which="both")
        for line in axes.lines:
            if line.get_gid() == "neutral":
                line.set_color(foreground)
        axes.tick_params(labelcolor=foreground, which="both")
        texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        texts += [child for child in axes.get_children() if isinstance(child, Text)]
        legend = axes.get_legend()
        if legend is not None:
            texts += legend.get_texts()
            for handle in legend.legend_handles:
                if handle is not None:
                    suit(handle, background)
                if isinstance(handle, Line2D) and handle.get_color() == "black":
                    handle.set_color(foreground)
                    handle.set_markeredgecolor(foreground)
        for text in texts:
            if text.get_gid() != "colored":
                text.set_color(foreground)


def suit(artist: Artist, background: str) -> None:
    """Brighten the colors of a curve, bar, band or number that would be too dark on a dark background."""
    if sum(to_rgb(background)) > 1.5:
        return
    for dark, bright in ON_DARK.items():
        for part in ("color", "facecolor", "edgecolor"):
            get = getattr(artist, f"get_{part}", None)
            if get is None or (part != "color" and isinstance(artist, Text)):
                continue
            colors = to_rgba_array(get())
            if len(colors) and np.allclose(colors[:, :3], to_rgb(dark)):
                getattr(artist, f"set_{part}")((*to_rgb(bright), colors[0, 3]))


def hazard_figure(prediction: Prediction, original: Prediction | None = None) -> Figure:
    """Draw the hazard of each interval with the fold models as dots; ``original`` as gray marks."""
    figure, axes = _figure(5.2, 3.0)
    edges = prediction.bin_edges_months
    names = [f"{a:.0f}-{b:.0f}" for a, b in itertools.pairwise(edges)]
    place = np.arange(len(names))
    axes.bar(place, prediction.hazards, color=CLINIC, alpha=0.75, width=0.65, gid="live")
    for row in prediction.fold_hazards:
        axes.plot(place, row, "o", color="black", ms=3, alpha=0.5, gid="neutral")
    if original is not None:
        axes.plot(place, original.hazards, "_", color=GHOST, ms=26, mew=3, gid="live")
    axes.set_xticks(place, names)
    axes.set(xlabel="Interval in months since diagnosis", ylabel="Risk of death in it", ylim=(0, 1))
    axes.yaxis.set_major_formatter("{x:.0%}")
    return figure


def reference_figure(
    prediction: Prediction,
    reference: ArrayLike,
    original: Prediction | None = None,
    cuts: Sequence[float] = (),
) -> Figure:
    """Draw the place of the patient among the reference risks; ``original`` as a dashed line.

    Parameters
    ----------
    cuts : risks where the next group begins; with two, the bars have the colors of low, intermediate and high.
    """
    figure, axes = _figure(5.2, 2.4)
    values = np.asarray(reference, float)
    edges = np.histogram_bin_edges(values, 30).tolist() if len(values) else []
    if len(cuts) == 2:
        parts = (values <= cuts[0], (values > cuts[0]) & (values <= cuts[1]), values > cuts[1])
        axes.hist(
            [values[part] for part in parts], bins=edges, stacked=True, color=list(GROUPS.values()), alpha=0.6,
            label=list(GROUPS),
        )  # fmt: skip
    elif len(values):
        axes.hist(values, bins=edges, color=GHOST, alpha=0.7)
    if original is not None:
        axes.axvline(original.risk, color="black", lw=1.5, ls="--", gid="neutral", label="as entered")
    axes.axvline(prediction.risk, color="black", lw=2.5, gid="neutral", label="this patient")
    axes.set(xlabel="Risk score (right: worse)", ylabel="Reference patients")
    axes.set_title(
        f"Higher than {prediction.risk_percentile:.0f} % of the reference patients", fontsize=9, loc="left"
    )
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def attribution_figure(
    attribution: Attribution, limit: int | None = None, original: Attribution | None = None
) -> Figure:
    """Draw the contribution of every token (or the ``limit`` largest) to the risk, largest first, with its share.

    Parameters
    ----------
    original : before a change, as hollow marks.

    Notes
    -----
    The share of a token is its size among the sizes of all tokens, whether it raises or lowers the risk.
    """
    items = sorted(attribution.tokens.items(), key=lambda item: abs(item[1]))
    total = sum(abs(value) for _, value in items)
    items = items[-limit:] if limit else items
    figure, axes = _figure(5.2, 0.6 + 0.23 * max(4, len(items)))
    names = [
        name.split(":", 1)[1].replace("_", " ") + (f"  {100 * abs(value) / total:.0f} %" if total else "")
        for name, value in items
    ]
    colors = [CLINIC if name.startswith("clinic") else GENOMIC for name, _ in items]
    place = np.arange(len(items))
    axes.barh(place, [value for _, value in items], color=colors)
    axes.set_yticks(place, names)
    if original is not None:
        before = [original.tokens.get(name, 0.0) for name, _ in items]
        axes.plot(before, place, "|", color="black", ms=9, mew=1.5, gid="neutral", label="as entered")
    axes.axvline(0, color="black", lw=0.8, gid="neutral")
    axes.set_xlabel("\N{LEFTWARDS ARROW} lowers the risk     raises it \N{RIGHTWARDS ARROW}", fontsize=9)
    axes.tick_params(axis="y", labelsize=8, length=0)
    for label, color in (("clinical record", CLINIC), ("gene expression", GENOMIC)):
        axes.barh(0, 0, color=color, label=label)
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def draw_kaplan_meier(axes: Axes, months: ArrayLike, event: ArrayLike, group: ArrayLike) -> LogRank:
    """Draw survival by risk group into axes, titled with the log-rank p (or why there is none), and return the test."""
    draw_curves(axes, months, event, group)
    test = log_rank(months, event, group)
    text = test.reason or (f"{test.method} p = {test.p:.2g}" if test.p is not None else "")
    axes.set_title(text, fontsize=9, loc="left")
    return test


def draw_curves(axes: Axes, months: ArrayLike, event: ArrayLike, group: ArrayLike) -> None:
    """Draw the Kaplan-Meier curves of risk groups with their bands; a tick where a patient's follow-up ends."""
    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    for name in (n for n in GROUPS if (groups == n).any()):
        part = groups == name
        curve = _steps(kaplan_meier(times[part], events[part]))
        axes.step(
            curve.months, curve.survival, where="post", color=GROUPS[name], label=f"{name} (n={part.sum()})"
        )
        axes.fill_between(curve.months, curve.lower, curve.upper, step="post", color=GROUPS[name], alpha=0.12)
        axes.plot(*censor_ticks(times[part], events[part]), "|", color=GROUPS[name], ms=4, mew=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(ylabel="Survival", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False, fontsize=8)


def draw_at_risk(axes: Axes, months: ArrayLike, event: ArrayLike, group: ArrayLike) -> None:
    """Write the numbers at risk, deaths so far in brackets, below curves that share the axis of months."""
    times, events, groups = np.asarray(months, float), np.asarray(event, int), np.asarray(group)
    names = [n for n in GROUPS if (groups == n).any()]
    ticks = _month_ticks(float(times.max()))
    for row, name in enumerate(names):
        part = groups == name
        counts = numbers_at_risk(times[part], ticks), cumulative_events(times[part], events[part], ticks)
        for tick, count, died in zip(ticks, *counts, strict=True):
            text = axes.text(tick, -row, f"{count} ({died})", ha="center", va="center", fontsize=7)
            text.set(color=GROUP_TEXT[name], gid="colored")
    axes.set(ylim=(-len(names) + 0.5, 0.5), xlabel="Months", yticks=[], xticks=ticks)
    axes.set_title("At risk (died)", fontsize=8, loc="left")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


_STEPS = 1500


def _steps(curve: KaplanMeier) -> KaplanMeier:
    """Return the curve without the times at which nothing changes, and of thousands of steps those that can be seen."""
    changes = np.append(True, np.diff(curve.survival) != 0)
    changes[-1] = True
    if changes.sum() > _STEPS:
        # The last of those that fall into one of so many columns.
        column = np.floor(curve.months / curve.months[-1] * _STEPS)
        changes &= np.append(np.diff(column) > 0, True)
        changes[0] = True
    return KaplanMeier(
        curve.months[changes], curve.survival[changes], curve.lower[changes], curve.upper[changes]
    )


def _month_ticks(longest: float) -> NDArray[np.float64]:
    """Return at most seven times from 0 on, in steps that people count in: months, quarters, years."""
    step = next(
        (s for s in (1, 2, 3, 6, 12, 24, 36, 48, 60) if longest / s <= 6), math.ceil(longest / 72) * 12
    )
    return np.arange(0, longest + 1e-9, step, dtype=float)


def kaplan_meier_figure(months: ArrayLike, event: ArrayLike, group: ArrayLike) -> Figure:
    """Draw survival by risk group with numbers at risk and the log-rank p (or why there is none)."""
    n_groups = sum(bool((np.asarray(group) == n).any()) for n in GROUPS)
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes, table = figure.subplots(2, 1, height_ratios=[4, 0.4 + 0.3 * n_groups], sharex=True)
    draw_kaplan_meier(axes, months, event, group)
    draw_at_risk(table, months, event, group)
    return figure
