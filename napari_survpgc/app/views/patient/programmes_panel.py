"""What if the genes were different: one slider a gene programme, in standard deviations."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QLineEdit, QSlider, QWidget

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import note, panel, push, row

_STEPS = 10  # slider steps a standard deviation
_LIMIT = 3


class ProgrammesPanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        layout = panel(self)
        self.hint = note()
        layout.addWidget(self.hint)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Find a programme")
        self.filter.setAccessibleName("Find a gene programme")
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self._filter)
        self.reset_button = push(
            "Reset", "Return to the patient as entered", session.reset_what_if, "reset_programmes"
        )
        layout.addLayout(row(self.filter, self.reset_button))
        self.box = QWidget()
        self.grid = QGridLayout(self.box)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setVerticalSpacing(1)
        layout.addWidget(self.box)
        self.sliders: dict[str, QSlider] = {}
        self._labels: dict[str, tuple[QLabel, QLabel]] = {}
        session.bundle_changed.connect(self._build)
        session.result_changed.connect(self.refresh)
        session.stale_changed.connect(self.refresh)
        session.patient_changed.connect(self.refresh)
        self._build()

    def _build(self) -> None:
        while self.grid.count():
            widget = self.grid.takeAt(0).widget()
            if widget is not None:
                widget.deleteLater()
        self.sliders.clear()
        self._labels.clear()
        sets = self.session.bundle.gene_sets if self.session.bundle else ()
        for place, gene_set in enumerate(sets):
            title = QLabel(gene_set.name.replace("_", " "))
            title.setToolTip(
                f"{gene_set.description} {len(gene_set.genes)} genes: {', '.join(gene_set.genes[:12])}"
            )
            slider = QSlider(Qt.Orientation.Horizontal)
            slider.setRange(-_LIMIT * _STEPS, _LIMIT * _STEPS)
            slider.setPageStep(_STEPS)
            slider.setToolTip(
                "Shift all genes of this programme, in standard deviations of the training patients"
            )
            slider.setAccessibleName(f"Shift of {gene_set.name}")
            slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            slider.wheelEvent = lambda event: event.ignore()
            slider.valueChanged.connect(lambda value, n=gene_set.name: self._moved(n, value))
            value = QLabel("0")
            value.setMinimumWidth(34)
            self.grid.addWidget(title, place, 0)
            self.grid.addWidget(slider, place, 1)
            self.grid.addWidget(value, place, 2)
            self.sliders[gene_set.name] = slider
            self._labels[gene_set.name] = (title, value)
        self.grid.setColumnStretch(1, 1)
        self._filter(self.filter.text())
        self.refresh()

    def _filter(self, text: str) -> None:
        words = text.lower().split()
        for name, slider in self.sliders.items():
            visible = all(word in name.lower().replace("_", " ") for word in words)
            for widget in (slider, *self._labels[name]):
                widget.setVisible(visible)

    def _moved(self, name: str, value: int) -> None:
        self._labels[name][1].setText(f"{value / _STEPS:+.1f}" if value else "0")
        self.session.set_programme(name, value / _STEPS)

    def refresh(self) -> None:
        result = self.session.result
        ready = self.session.can_ask
        has_genes = ready and result is not None and self.session.expression is not None
        self.box.setEnabled(ready)
        self.reset_button.setEnabled(bool(self.session.changes()))
        if not self.sliders:
            self.hint.setText("This model has no gene programmes.")
        elif not ready:
            self.hint.setText("Run first; then move a programme and watch risk and maps follow.")
        elif not has_genes:
            self.hint.setText("No expression file: the sliders start from an average patient.")
        else:
            self.hint.setText("Move a programme; the patient as entered stays as a dashed line.")
        for name, slider in self.sliders.items():
            value = round(self.session.programme_shifts.get(name, 0.0) * _STEPS)
            if slider.value() != value and not slider.isSliderDown():
                slider.blockSignals(True)
                slider.setValue(value)
                slider.blockSignals(False)
                self._labels[name][1].setText(f"{value / _STEPS:+.1f}" if value else "0")
