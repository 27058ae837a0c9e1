"""Result: place among the reference patients, curve, hazards, contributions, warnings."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.figure import Figure
from qtpy.QtWidgets import QLabel, QTabWidget, QWidget

from napari_survpgc.app.later import delayed
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import Result
from napari_survpgc.app.views.widgets.figure_view import FigureView
from napari_survpgc.app.views.widgets.parts import group_color, note, panel, push
from napari_survpgc.core.bundle.answer import (
    OUTSIDE,
    answer_of,
    place_sentence,
    quality_sentence,
    survival_sentence,
)
from napari_survpgc.core.notice import RESEARCH_NOTICE
from napari_survpgc.core.output.plots import (
    attribution_figure,
    hazard_figure,
    reference_figure,
    survival_curves,
    survival_figure,
)
from napari_survpgc.core.types import Prediction

_SETTLED_MS = 600


class ResultPanel(QWidget):
    """See the module's docstring. Only the figure that is seen is drawn."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        layout = panel(self)
        self.headline = QLabel("")
        self.headline.setWordWrap(True)
        self.anyway_button = push(
            "Show anyway",
            "Show risk, group and curve although the model does not know such cases",
            session.show_anyway,
            "show_anyway",
        )
        self.detail = note()
        self.tabs = QTabWidget()
        self.tabs.setAccessibleName("Figures of the result")
        self.views: dict[str, FigureView] = {}
        tips = {
            "Survival": "Predicted survival; the band is the range of the fold models",
            "Hazard": "Risk of death in each interval, for those alive at its start",
            "Place": "Where the patient stands among the reference patients",
            "Tokens": "What raises and lowers the risk, against an unknown value (integrated gradients)",
        }
        for title, tip in tips.items():
            view = FigureView(title.lower(), 250)
            view.failed.connect(session.report)
            self.views[title] = view
            index = self.tabs.addTab(view, title)
            self.tabs.setTabToolTip(index, tip)
        self.warnings = note()
        self.notice = note(f"<b>{RESEARCH_NOTICE}</b>")
        for widget in (self.headline, self.anyway_button, self.detail, self.tabs, self.warnings, self.notice):
            layout.addWidget(widget)
        # Contributions take seconds: only of what somebody looks at, and not while a slider moves.
        self._soon = delayed(self, _SETTLED_MS, session.explain)
        self.tabs.currentChanged.connect(self._draw)
        session.attribution_changed.connect(self.refresh)
        session.result_changed.connect(self.refresh)
        session.stale_changed.connect(self._fade)
        self.refresh()

    def end(self) -> None:
        for view in self.views.values():
            view.close_thread()

    def refresh(self) -> None:
        result = self.session.result
        for widget in (self.tabs, self.warnings, self.notice, self.detail):
            widget.setVisible(result is not None)
        self.anyway_button.setVisible(result is not None and result.withheld)
        if result is None:
            self.headline.setText("No result yet.")
            return
        shown, original = result.shown, result.original
        found = answer_of(shown)
        if found is not None and result.withheld:
            self.headline.setText(
                f"<span style='font-size:15pt; font-weight:600'>{OUTSIDE}</span><br>"
                + "<br>".join(html.escape(reason) for reason in found.not_answered_because)
            )
            self.detail.setText("No risk, group or curve is shown. The maps show where the model looks.")
            self.tabs.setVisible(False)
            self._show_warnings([w for w in shown.warnings if w not in found.not_answered_because])
            self._fade()
            return
        color = group_color(shown.risk_group, self.palette())
        count = int(shown.provenance["bundle"].get("n_reference", 0))
        self.headline.setText(
            f"<span style='font-size:15pt; font-weight:600'><span style='color:{color}'>●</span> {shown.risk_group.capitalize()}"
            f" risk</span>{'' if found is None or found.answered else f' ({OUTSIDE.lower()})'}<br>higher than"
            f" <b>{shown.risk_percentile:.0f} %</b> of {count} reference patients"
        )
        lines = _answer_lines(shown) if found is not None else [_bins_line(shown)]
        score = (
            f"Risk score {_number(shown.risk)} (fold models {_number(shown.fold_risks.min())} to"
            f" {_number(shown.fold_risks.max())})"
        )
        if result.changed:
            score += (
                f"; as entered {_number(original.risk)} ({_number(shown.risk - original.risk, '+')}, was"
                f" {original.risk_percentile:.0f} %)"
            )
        lines.append(score)
        shares = _path_shares(result)
        if shares:
            lines.append(shares)
        self.detail.setText("<br>".join(lines))
        self._show_warnings(shown.warnings)
        self._fade()
        self._draw()

    def _show_warnings(self, warnings: Sequence[str]) -> None:
        self.warnings.setText("<br>".join(f"⚠ {html.escape(w)}" for w in warnings))
        self.warnings.setVisible(bool(warnings))

    def _fade(self) -> None:
        self.headline.setEnabled(not self.session.stale)
        self.tabs.setEnabled(not self.session.stale)

    def _draw(self, index: int | None = None) -> None:
        result = self.session.result
        if result is None or result.withheld:
            return
        title = self.tabs.tabText(self.tabs.currentIndex())
        make, session = _FIGURES[title], self.session
        key = None
        if title in ("Survival", "Hazard"):
            # Between two answers of the same what-if only curves, band and bars move.
            edges = tuple(result.shown.bin_edges_months.tolist())
            key = (title, edges, result.changed, len(result.shown.fold_risks))
        if title == "Tokens" and result.shown.attribution is None:
            self._soon.start()
        original = result.original if result.changed else None
        move = partial(survival_curves, prediction=result.shown, original=original)
        self.views[title].show_figure(
            lambda: make(result, session), key, move if title == "Survival" else None
        )
        if key is not None and not result.changed:
            # The first "what if" adds the legend of the patient as entered: it must not wait for that to be drawn.
            ghost = dataclasses.replace(result, shown=dataclasses.replace(result.original))
            self.views[title].prepare(lambda: make(ghost, session), (*key[:2], True, key[3]))


def _answer_lines(shown: Prediction) -> list[str]:
    """Return survival at 1, 3 and 5 years, among whom, and how good the model is."""
    found = answer_of(shown)
    assert found is not None
    cohort = html.escape(str(shown.provenance["bundle"]["cohort"]))
    lines = [f"<b>{survival_sentence(found)}</b>"]
    if found.survival_at:
        lines.append("in brackets: where 90 % of patients of this risk lie")
    if found.median_months is not None:
        lines.append(f"Half of them live longer than {found.median_months:.0f} months")
    lines += [
        place_sentence(found.place, cohort, found.model.n_reference),
        quality_sentence(found.model, cohort),
    ]
    return [*lines, *(f"⚠ {html.escape(doubt)}" for doubt in found.doubts if doubt not in shown.warnings)]


def _bins_line(shown: Prediction) -> str:
    """Return survival at the ends of the model's bins, for results of earlier versions."""
    edges = shown.bin_edges_months
    alive = ", ".join(f"{100 * s:.0f} % at {m:.0f}" for s, m in zip(shown.survival, edges[1:], strict=True))
    return f"Predicted to be alive: <b>{alive} months</b>"


def _number(value: float, sign: str = "") -> str:
    """With a minus sign, which is told apart from a hyphen and from a range."""
    return f"{value:{sign}.2f}".replace("-", "\u2212")


def _path_shares(result: Result) -> str:
    attribution = result.shown.attribution or result.original.attribution
    if attribution is None:
        return ""
    sizes = {name: abs(value) for name, value in attribution.paths.items()}
    total = sum(sizes.values())
    if not total:
        return ""
    return (
        f"Share of the paths: clinical record {100 * sizes['clinic'] / total:.0f} %, genes {100 * sizes['genomic'] / total:.0f} %"
        + ("" if result.shown.attribution else " (of the patient as entered)")
    )


def _tokens(result: Result, session: Session) -> Figure:
    before, now = result.original.attribution, result.shown.attribution
    attribution = now or before
    if attribution is None or not attribution.tokens:
        return Figure()
    figure = attribution_figure(attribution, limit=14, original=before if result.changed and now else None)
    if result.changed and now is None:
        figure.suptitle(
            "Of the patient as entered; those of the change follow", fontsize=8, x=0.02, ha="left"
        )
    return figure


_FIGURES: dict[str, Callable[[Result, Session], Figure]] = {
    "Survival": lambda result, session: survival_figure(
        result.shown, result.original if result.changed else None
    ),
    "Hazard": lambda result, session: hazard_figure(
        result.shown, result.original if result.changed else None
    ),
    "Place": lambda result, session: reference_figure(
        result.shown,
        session.bundle.reference["risk"].to_numpy() if session.bundle else [],
        result.original if result.changed else None,
        session.bundle.risk_cuts if session.bundle else (),
    ),
    "Tokens": _tokens,
}
