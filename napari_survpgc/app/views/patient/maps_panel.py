"""Maps: which attention map is seen, of which token, in which scale and colors, from which threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QSlider, QWidget

from napari_survpgc.app.canvas.case_layers import CaseLayers
from napari_survpgc.app.canvas.layer_data import COLORMAPS
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.legend import Legend
from napari_survpgc.app.views.widgets.parts import note, panel, row
from napari_survpgc.core.attention.maps import DIFFERENCE, MapScale, MapValues
from napari_survpgc.core.attention.scores import rank_of
from napari_survpgc.core.attention.trust import measured_trust, trust_sentence

_TITLES = {
    "clinic": ("Clinic", "Where the clinical record looks (Alt+C)", "All six fields"),
    "genomic": ("Genomic", "Where the gene expression looks (Alt+G)", "All gene tokens"),
    DIFFERENCE: ("Difference", "Clinic minus genomic: which of the two looks there more (Alt+D)", ""),
}
_SCALES = {
    MapScale.PERCENTILE: "Percentile",
    MapScale.ZSCORE: "z-score",
    MapScale.RAW: "Raw attention",
}


class MapsPanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session, layers: CaseLayers) -> None:
        super().__init__()
        self.session, self.layers, self.heatmaps = session, layers, layers.heatmaps
        self._filling = False
        self._restored: object = None
        layout = panel(self)
        self.checks: dict[str, QCheckBox] = {}
        self.tokens: dict[str, QComboBox] = {}
        for name, (title, tip, _) in _TITLES.items():
            check = QCheckBox(title)
            check.setToolTip(tip)
            check.setObjectName(f"map_{name}")
            check.toggled.connect(lambda on, n=name: self._toggle(n, on))
            self.checks[name] = check
        layout.addLayout(row(*self.checks.values(), None))
        form = QFormLayout()
        form.setVerticalSpacing(3)
        for name in ("clinic", "genomic"):
            combo = QComboBox()
            combo.setToolTip("Show what all tokens look at, or a single one")
            combo.setAccessibleName(f"Token of the {name} map")
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(14)
            combo.currentIndexChanged.connect(lambda index, n=name: self._choose_row(n, index))
            form.addRow(f"{_TITLES[name][0]} token", combo)
            self.tokens[name] = combo
        self.scale = QComboBox()
        for scale, title in _SCALES.items():
            self.scale.addItem(title, scale)
        self.scale.setToolTip(
            "Percentile: rank among the patches of this slide. z-score: standard deviations. Raw: the model's own numbers"
        )
        self.scale.currentIndexChanged.connect(self._set_scale)
        form.addRow("Scale", self.scale)
        self.colormap = QComboBox()
        self.colormap.addItems(COLORMAPS)
        self.colormap.setToolTip(
            "Colors of the two maps; cividis reads the same for color-blind eyes and in print"
        )
        self.colormap.currentTextChanged.connect(self._set_colormap)
        form.addRow("Colors", self.colormap)
        self.opacity = self._slider(
            0, 100, round(100 * self.heatmaps.view.opacity), "How much of the slide shines through"
        )
        self.opacity.valueChanged.connect(self._set_opacity)
        self.opacity_value, self.threshold_value = QLabel(), QLabel()
        for label in (self.opacity_value, self.threshold_value):
            label.setMinimumWidth(label.fontMetrics().horizontalAdvance("from -0.00"))
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        form.addRow("Opacity", row(self.opacity, self.opacity_value))
        self.threshold = self._slider(0, 100, 0, "Hide patches below this share of the scale")
        self.threshold.valueChanged.connect(self._set_threshold)
        form.addRow("Threshold", row(self.threshold, self.threshold_value))
        layout.addLayout(form)
        self._say_values()
        self.legend = Legend()
        layout.addWidget(self.legend)
        self.trust = note()
        layout.addWidget(self.trust)
        self.hover = note("Move the pointer over the slide to read the scores.")
        self.hover.setMinimumHeight(34)
        layout.addWidget(self.hover)

        session.result_changed.connect(self.refresh)
        self.heatmaps.changed.append(self._follow)
        layers.viewer.mouse_move_callbacks.append(self._hovered)
        self.refresh()

    def end(self) -> None:
        if self._hovered in self.layers.viewer.mouse_move_callbacks:
            self.layers.viewer.mouse_move_callbacks.remove(self._hovered)
        if self._follow in self.heatmaps.changed:
            self.heatmaps.changed.remove(self._follow)

    def _slider(self, low: int, high: int, value: int, tip: str) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(low, high)
        slider.setValue(value)
        slider.setToolTip(tip)
        slider.setAccessibleName(tip)
        return slider

    # --- kept with the case ---------------------------------------------------------------------------------

    def settings(self) -> dict[str, object]:
        """Return how the maps are looked at, for the case file."""
        view = self.heatmaps.view
        return {
            "scale": str(view.scale),
            "colormap": view.colormap,
            "opacity": self.opacity.value(),
            "threshold": self.threshold.value(),
            "rows": dict(view.rows),
        }

    def _remember(self) -> None:
        self._restored = self.session.view_settings = self.settings()

    def restore(self, settings: Mapping[str, Any]) -> None:
        """Look at the maps as ``settings`` say; what is missing or makes no sense stays as it is."""
        for combo, value in (
            (
                self.scale,
                [str(v) for v in MapScale].index(str(settings["scale"]))
                if settings.get("scale") in list(MapScale)
                else -1,
            ),
            (self.colormap, self.colormap.findText(str(settings.get("colormap")))),
        ):
            if value >= 0:
                combo.setCurrentIndex(value)
        for slider, key in ((self.opacity, "opacity"), (self.threshold, "threshold")):
            if isinstance(settings.get(key), int):
                slider.setValue(settings[key])  # the slider keeps it within its range
        rows = settings.get("rows")
        for name, combo in self.tokens.items():
            row_ = rows.get(name) if isinstance(rows, dict) else None
            index = row_ + 1 if isinstance(row_, int) else 0
            if 0 <= index < combo.count():
                self.heatmaps.view.rows[name] = index - 1 if index else None
                combo.blockSignals(True)
                combo.setCurrentIndex(index)
                combo.blockSignals(False)

    # --- from the session ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        result = self.session.result
        names = result.maps.names if result else ()
        self._say_trust()
        self._filling = True
        try:
            for name, combo in self.tokens.items():
                wanted = (
                    [_TITLES[name][2], *(t.replace("_", " ") for t in result.shown.token_names[name])]
                    if result and name in names
                    else []
                )
                if [combo.itemText(i) for i in range(combo.count())] != wanted:
                    combo.clear()
                    combo.addItems(wanted)
                    self.heatmaps.view.rows[name] = None
                combo.setEnabled(bool(wanted))
        finally:
            self._filling = False
        if self.session.view_settings is not self._restored:
            settings = self.session.view_settings
            self.restore(settings)
            self._remember()
        self._follow()

    def _say_trust(self) -> None:
        """Say of each map how far it can be trusted; nothing where it was not measured (earlier versions, what-if)."""
        result = self.session.result
        measured = measured_trust(result.shown.provenance) if result else {}
        lines = [f"{_TITLES[name][0]}: {trust_sentence(found)}" for name, found in measured.items()]
        self.trust.setText("<br>".join(lines))
        self.trust.setVisible(bool(lines))

    def _follow(self) -> None:
        """Show the state of the layers, however it came about."""
        for name, check in self.checks.items():
            layer = self.heatmaps.maps.get(name)
            check.setEnabled(layer is not None)
            check.blockSignals(True)
            check.setChecked(layer is not None and layer.visible)
            check.blockSignals(False)
        shown = self.heatmaps.topmost()
        layer = self.heatmaps.maps.get(shown) if shown else None
        result = self.session.result
        if layer is None or shown is None or result is None:
            self.legend.clear()
            self._say_values()
            return
        found = result.maps.values(shown, self.heatmaps.view.rows.get(shown), self.heatmaps.view.scale)
        self._say_values(found)
        self.legend.set(
            layer.colormap.name.removeprefix("survpgc "),
            found.low,
            found.high,
            layer.contrast_limits[0],
            _words(shown, self.heatmaps.view.scale),
        )

    # --- to the layers -------------------------------------------------------------------------------------

    def toggle(self, name: str) -> None:
        """Show or hide a map (shortcut)."""
        if self.checks[name].isEnabled():
            self.checks[name].toggle()

    def _toggle(self, name: str, on: bool) -> None:
        self.heatmaps.show(name, on)

    def _choose_row(self, name: str, index: int) -> None:
        if not self._filling:
            self.heatmaps.view.rows[name] = None if index <= 0 else index - 1
            self.heatmaps.show(name, True)
            self.heatmaps.paint(name)
            self._remember()

    def _set_scale(self) -> None:
        self.heatmaps.view.scale = MapScale(self.scale.currentData())
        self.heatmaps.paint()
        self._remember()

    def _set_colormap(self, name: str) -> None:
        self.heatmaps.view.colormap = name
        self.heatmaps.paint()
        self._remember()

    def _say_values(self, seen: MapValues | None = None) -> None:
        """Say opacity, and from which value on patches are shown, in the unit of the scale."""
        self.opacity_value.setText(f"{self.opacity.value()} %")
        if self.threshold.value() == 0:
            self.threshold_value.setText("all shown")
        elif seen is None:
            self.threshold_value.setText(f"{self.threshold.value()} %")
        else:
            cut = seen.low + self.heatmaps.view.threshold * (seen.high - seen.low)
            self.threshold_value.setText(f"from {cut:.3g}")

    def _set_opacity(self, value: int) -> None:
        self.opacity_value.setText(f"{value} %")
        self.heatmaps.set_opacity(value / 100)
        self._remember()

    def _set_threshold(self, value: int) -> None:
        self.heatmaps.view.threshold = value / 100
        self.heatmaps.paint()
        self._remember()

    def _hovered(self, viewer: Any, event: Any) -> None:
        index = self.layers.frame.patch_at(tuple(event.position))
        self.hover.setText(self.read_out(index))

    def read_out(self, index: int | None) -> str:
        """Return both scores, percentiles and ranks of a patch in words."""
        result = self.session.result
        if result is None:
            return "Run the model to see where it looks."
        if index is None:
            return "No patch here."
        lines = []
        n = len(result.shown.coords)
        for name in result.maps.names:
            found = result.maps.map(name, self.heatmaps.view.rows.get(name))
            lines.append(
                f"{_TITLES[name][0]}: {found.percentiles[index]:.1f}th percentile, rank"
                f" {rank_of(found.scores, index)} of {n} (score {found.scores[index]:+.2f})"
            )
        return "<br>".join(lines)


def _words(name: str, scale: MapScale) -> str:
    if name == DIFFERENCE:
        return "genomic looks here  ‹ ›  clinic looks here"
    return {
        MapScale.PERCENTILE: "percentile of attention on this slide",
        MapScale.ZSCORE: "attention, standard deviations",
        MapScale.RAW: "attention before softmax",
    }[scale]
