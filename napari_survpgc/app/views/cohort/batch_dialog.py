"""The question what to run as a list."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.app.views.widgets.parts import PathField, note


class BatchDialog(QDialog):
    """Asks for the list, the slides, the expression and where to put the results."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Run a list of slides")
        self.patients = PathField(
            "patients.csv", "One row a patient: case_id, slide_ids and the six fields", filters="CSV (*.csv)"
        )
        self.slides = PathField("Folder of slides", "Slides named as in the column slide_ids", folder=True)
        self.expression = PathField(
            "Expression table (optional)", "One row or column a patient, named by case_id"
        )
        self.out = PathField("Folder for the results", "Gets one folder a patient", folder=True)
        form = QFormLayout()
        for field in (self.patients, self.slides, self.expression, self.out):
            form.addRow(field.edit.placeholderText(), field)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self._accept)
        buttons.rejected.connect(self.reject)
        self.hint = note(
            "Several slides of a patient (slide_ids with ;) are taken together. What is done already is not done again."
        )
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.hint)
        layout.addWidget(buttons)
        self.setMinimumWidth(520)

    @property
    def complete(self) -> bool:
        return None not in (self.patients.path, self.slides.path, self.out.path)

    def _accept(self) -> None:
        if self.complete:
            self.accept()
        else:
            self.hint.setText("Give the list, the folder of slides and a folder for the results.")
