"""Two patients side by side: napari's grid links their cameras; the same color scale; their curves in one plot."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import napari
import numpy as np
from napari.layers import Image
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QSlider, QWidget

from napari_survpgc.app.canvas.layer_data import (
    map_place,
    overlay_colormap,
    show_scale_bar,
    slide_layer,
    um_per_px,
)
from napari_survpgc.app.session.state import OpenedSlide, open_with_tiles
from napari_survpgc.app.views.widgets.figure_view import FigureView
from napari_survpgc.app.views.widgets.legend import Legend
from napari_survpgc.app.views.widgets.parts import note, panel, push, row, title_overlap
from napari_survpgc.app.window.windows import arrange
from napari_survpgc.core.attention.maps import AttentionMaps, MapScale
from napari_survpgc.core.attention.scores import rank_of
from napari_survpgc.core.errors import SlideError
from napari_survpgc.core.jobs.results_folder import CaseResult
from napari_survpgc.core.jobs.thumbnails import PredictCase
from napari_survpgc.core.notice import RESEARCH_NOTICE
from napari_survpgc.core.output.case_file import find_case_slide, load_case
from napari_survpgc.core.output.plots import COMPARED, HEATMAP_COLORS, ON_DARK, comparison_figure
from napari_survpgc.core.types import Prediction

_HOVER = "Move the pointer over a slide to read its scores."


@dataclass(frozen=True)
class Side:
    """One patient of a comparison."""

    name: str
    opened: OpenedSlide
    prediction: Prediction
    maps: AttentionMaps


def load_side(case: CaseResult, predict: PredictCase | None) -> Side:
    """Open a patient for comparison: its case file, or its slide and what is predicted for it in the open cohort.

    Raises
    ------
    SurvPGCError : slide, features or model are not there.
    """
    if case.case_file is not None:
        saved = load_case(case.case_file)
        opened = open_with_tiles(find_case_slide(saved, case.case_file), saved.mpp)
        prediction = saved.prediction
    else:
        if case.slide is None or predict is None:
            raise SlideError(
                f"The slide of {case.case_id} was not found", "Put it into the folder 'slides' of the cohort"
            )
        opened = open_with_tiles(case.slide)
        try:
            prediction = predict(case, opened.slide)
        except Exception:
            opened.close()
            raise
    return Side(case.case_id, opened, prediction, AttentionMaps(prediction).ranked())


class CompareControls(QWidget):
    """The dock of the comparison window."""

    def __init__(self, viewer: napari.Viewer, sides: tuple[Side, Side]) -> None:
        super().__init__()
        self.viewer, self.sides = viewer, sides
        layout = panel(self)
        layout.setContentsMargins(6, 2 + title_overlap(self), 6, 6)
        dark = sum(get_theme(viewer.theme).background.as_rgb_tuple()[:3]) < 384
        colors = [
            ON_DARK.get(color, color) if dark else color for color in COMPARED
        ]  # as in the figure below
        for place, color, side in zip(("Left", "Right"), colors, sides, strict=False):
            shown = side.prediction
            layout.addWidget(
                note(
                    f"<span style='color:{color}'>■</span> {place}: <b>{html.escape(side.name)}</b>, {shown.risk_group} risk, higher than"
                    f" {shown.risk_percentile:.0f} % of the reference patients"
                )
            )
        self.which = QComboBox()
        self.which.addItems(
            [n for n in ("clinic", "genomic") if all(n in s.maps.names for s in sides)] + ["no map"]
        )
        self.which.setToolTip(
            "Which attention map lies over both slides; percentiles of each slide, same colors"
        )
        self.which.setAccessibleName("Map over both slides")
        self.opacity = _slider(55, "How much of the slides shines through")
        self.threshold = _slider(0, "Hide patches below this percentile, on both slides")
        self.legend = Legend()
        form = QFormLayout()
        form.addRow("Map", self.which)
        form.addRow("Opacity", self.opacity)
        form.addRow("Threshold", self.threshold)
        layout.addLayout(form)
        layout.addWidget(self.legend)
        self.hover = note(_HOVER)
        self.hover.setMinimumHeight(34)
        layout.addWidget(self.hover)
        self.curves = FigureView("comparison", 280)
        layout.addWidget(self.curves)
        self.fit_button = push(
            "Fit", "Show both slides whole (they zoom and move together)", self.fit, "fit_both"
        )
        layout.addLayout(row(self.fit_button, None))
        layout.addWidget(note(f"<b>{RESEARCH_NOTICE}</b>"))
        layout.addStretch()
        self.curves.show_figure(
            lambda: comparison_figure([side.prediction for side in sides], [side.name for side in sides])
        )
        self.layers: list[Image] = []
        for side in sides:
            # Grid cells are filled from the left with the layers as they were added: two a cell, slide below its map.
            levels, attributes, _ = slide_layer(side.opened)
            attributes["name"] = side.name
            slide = viewer.add_layer(Image(levels, **attributes))
            name = slide.name_overlay
            name.visible, name.box, name.box_color, name.color = True, True, (1, 1, 1, 0.7), "black"
            name.font_size = 12
            self.layers.append(viewer.add_layer(_map_layer(side)))
        self.which.currentTextChanged.connect(self.paint)
        self.opacity.valueChanged.connect(lambda: self.paint(self.which.currentText()))
        self.threshold.valueChanged.connect(lambda: self.paint(self.which.currentText()))
        viewer.canvas.grid.stride = 2
        viewer.canvas.grid.shape = (1, 2)
        viewer.canvas.grid.enabled = True
        show_scale_bar(viewer)
        self.paint(self.which.currentText())
        self.fit()
        viewer.mouse_move_callbacks.append(self._hovered)

    def _hovered(self, viewer: napari.Viewer, event: Any) -> None:
        place = viewer.cursor.viewbox  # (row, column) of the grid
        side = self.sides[min(place[1], 1)] if place is not None else None
        self.hover.setText(_HOVER if side is None else read_out(side, tuple(event.position)))

    def fit(self) -> None:
        """Show both slides whole."""
        self.viewer.reset_view()

    def paint(self, name: str) -> None:
        for side, layer in zip(self.sides, self.layers, strict=True):
            layer.visible = name in side.maps.names
            layer.opacity = self.opacity.value() / 100
            if layer.visible:
                found = side.maps.values(name, None, MapScale.PERCENTILE)
                layer.data = side.maps.cells.image(found.values, -1.0)
                layer.contrast_limits_range = (-1, 100)
                layer.contrast_limits = (min(self.threshold.value(), 99), 100)
        if name in self.sides[0].maps.names:
            words = "percentile of attention on each slide"
            self.legend.set(HEATMAP_COLORS, 0, 100, self.threshold.value(), words)
        else:
            self.legend.clear()


def read_out(side: Side, world: tuple[float, ...]) -> str:
    """Return percentile and rank of the patch of a patient under a point (y, x in world units) in words."""
    info = side.opened.slide.info
    sx, sy = um_per_px(info)
    index = side.maps.cells.at(world[-1] / sx + 0.5, world[-2] / sy + 0.5)
    if index is None:
        return f"<b>{html.escape(side.name)}</b>: no patch here."
    n = len(side.prediction.coords)
    parts = []
    for name in side.maps.names:
        found = side.maps.map(name)
        rank = rank_of(found.scores, index)
        parts.append(f"{name} {found.percentiles[index]:.1f}th percentile, rank {rank} of {n}")
    return f"<b>{html.escape(side.name)}</b>: {'; '.join(parts)}"


def _slider(value: int, tip: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, 100)
    slider.setValue(value)
    slider.setToolTip(tip)
    slider.setAccessibleName(tip)
    return slider


def _map_layer(side: Side) -> Image:
    cells = side.maps.cells
    return Image(
        np.full(cells.shape, -1, np.float32),
        name=f"{side.name} attention",
        colormap=overlay_colormap(HEATMAP_COLORS),
        opacity=0.55,
        blending="translucent_no_depth",
        interpolation2d="nearest",
        contrast_limits=(0, 100),
        **map_place(cells, side.opened.slide.info),
    )


def open_comparison(sides: tuple[Side, Side], *, closed: Callable[[], object]) -> napari.Viewer:
    """Open the comparison window; its slides are closed with it, and then ``closed`` is called."""
    viewer = napari.Viewer(title=f"{sides[0].name} and {sides[1].name} - SurvPGC")
    controls = CompareControls(viewer, sides)
    viewer.window.add_dock_widget(controls, name="Comparison", area="right")

    def close() -> None:
        for side in sides:
            side.opened.close()
        closed()

    controls.destroyed.connect(close)
    arrange(controls.window())
    return viewer
