"""Patient: six clinical fields and the expression file. After a run every change asks "what if" at once."""

from __future__ import annotations

import html
from collections.abc import Collection
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QInputDialog, QLabel, QLineEdit, QWidget

from napari_survpgc.app.later import delayed
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.numbers import shown_number, typed_number
from napari_survpgc.app.views.widgets.parts import note, panel, push, row
from napari_survpgc.core.clinical.fields import FIELDS, ClinicalField
from napari_survpgc.core.clinical.record_file import list_cases
from napari_survpgc.core.errors import ClinicalError, ExpressionError
from napari_survpgc.core.genomics.expression_file import SampleNeededError
from napari_survpgc.core.types import CLINICAL_FIELDS, ExpressionUnit

UNKNOWN = "unknown"
_EXPRESSION_FILES = (
    "Expression (*.csv *.tsv *.txt *.gz *.zip *.gct *.sf *.results *.tab *.counts);;All files (*)"
)
_BAD = "border: 1px solid #cc3311;"
DETECT = "detect unit"


class PatientPanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._filling = False
        layout = panel(self)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(3)
        self.fields: dict[str, QLineEdit | QComboBox] = {}
        for field in FIELDS:
            widget = self._field(field)
            widget.setToolTip(field.tip)
            widget.setAccessibleName(field.label)
            widget.setObjectName(f"field_{field.name}")
            label = QLabel(field.label)
            label.setBuddy(widget)
            form.addRow(label, widget)
            self.fields[field.name] = widget
        layout.addLayout(form)
        self.problem = note()
        self.problem.setStyleSheet("color: #e8590c;")
        self.problem.hide()
        layout.addWidget(self.problem)
        self.load_button = push(
            "Load record…", "Fill the fields from a JSON or CSV file", self._ask_record, "load_record"
        )
        self.clear_button = push("Clear", "Make every field unknown", self._clear, "clear_record")
        layout.addLayout(row(self.load_button, self.clear_button, None))

        self.expression_button = push(
            "Expression file…",
            "Gene expression of the tumor: CSV, TSV, GDC STAR counts or a matrix of many samples",
            self._ask_expression,
            "load_expression",
        )
        self.unit = QComboBox()
        self.unit.addItem(DETECT)
        self.unit.addItems([str(unit) for unit in ExpressionUnit])
        self.unit.setToolTip(
            "Unit of the values, when it is not detected rightly; applies when a file is opened"
        )
        self.unit.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.unit.setMinimumContentsLength(8)
        self.unit.setAccessibleName("Unit of the expression values")
        self.remove_button = push(
            "Remove", "Go on without gene expression", lambda: session.set_profile(None), "no_expression"
        )
        layout.addLayout(row(self.expression_button, self.unit, self.remove_button, None))
        self.expression = note()
        layout.addWidget(self.expression)

        self._soon = delayed(self, 250, self._take)
        session.patient_changed.connect(self.refresh)
        session.bundle_changed.connect(self._vocabulary)
        self.refresh()

    def _field(self, field: ClinicalField) -> QLineEdit | QComboBox:
        if not field.suggestions:
            edit = QLineEdit()
            edit.setPlaceholderText(UNKNOWN)
            edit.textEdited.connect(lambda: self._soon.start())
            edit.editingFinished.connect(self._take)
            return edit
        combo = QComboBox()
        combo.setEditable(field.free_text)
        combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        combo.addItem(UNKNOWN)
        combo.addItems(field.suggestions)
        combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(10)
        # The wheel scrolls the panel; it must not change a patient's stage by accident.
        combo.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        combo.wheelEvent = lambda event: event.ignore()
        combo.currentIndexChanged.connect(lambda: self._take())
        line = combo.lineEdit()
        if line is not None:
            line.editingFinished.connect(self._take)
        return combo

    def _vocabulary(self) -> None:
        """Offer what the model has seen in training, where it says so."""
        bundle = self.session.bundle
        if bundle is None:
            return
        self._filling = True
        try:
            for field in FIELDS:
                combo = self.fields[field.name]
                if not field.free_text:
                    continue
                assert isinstance(combo, QComboBox)
                text = combo.currentText()
                seen = bundle.config.vocabulary.get(field.name) or field.suggestions
                combo.clear()
                combo.addItem(UNKNOWN)
                combo.addItems(list(seen))
                combo.setCurrentText(text)
        finally:
            self._filling = False

    # --- values --------------------------------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """Return what stands in the fields; empty and "unknown" are None."""
        found: dict[str, Any] = {}
        for name, widget in self.fields.items():
            text = widget.text() if isinstance(widget, QLineEdit) else widget.currentText()
            text = text.strip()
            found[name] = None if not text or text.lower() == UNKNOWN else text
        return found

    def _take(self) -> None:
        if self._filling:
            return
        self._soon.stop()
        self._mark(())
        try:
            self.session.set_fields(self.values())
        except ClinicalError as error:
            self.problem.setText(
                error.problem.removeprefix("The clinical record is not usable: ").capitalize() + "."
            )
            self.problem.show()
            self._mark(error.fields)
        else:
            self.problem.hide()

    def _mark(self, wrong: Collection[str]) -> None:
        """Frame the fields that make no sense. Qt takes a millisecond for each style, even the same one."""
        for name, widget in self.fields.items():
            style = _BAD if name in wrong else ""
            if widget.styleSheet() != style:
                widget.setStyleSheet(style)

    def refresh(self) -> None:
        """Show the session's patient."""
        self._filling = True
        try:
            for name, widget in self.fields.items():
                value = getattr(self.session.record, name)
                if isinstance(widget, QLineEdit):
                    text = "" if value is None else shown_number(value)
                    if not widget.hasFocus() or not _same_number(widget.text(), value):
                        widget.setText(text)
                else:
                    text = UNKNOWN if value is None else str(value)
                    if widget.findText(text) < 0 and not widget.isEditable():
                        widget.addItem(text)
                    if widget.currentText() != text:
                        widget.setCurrentText(text)
                    _show_beginning(widget)
        finally:
            self._filling = False
        self._mark(())
        self.problem.hide()
        state = self.session.expression
        self.remove_button.setEnabled(state is not None)
        if state is None:
            self.expression.setText("No gene expression: the genomic path sees an average patient.")
        elif state.problem:
            self.expression.setText(f"<span style='color:#e8590c'>{html.escape(state.problem)}</span>")
        else:
            self.expression.setText(
                f"<b>{html.escape(state.profile.source)}</b> ({html.escape(state.profile.sample)}): {html.escape(state.note)}"
            )

    # --- files ---------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self.session.set_fields(dict.fromkeys(CLINICAL_FIELDS))

    def _ask_record(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Load record", "", "Records (*.json *.csv *.tsv *.txt *.gz *.zip);;All files (*)"
        )
        if name:
            self.load_record(Path(name))

    def load_record(self, path: Path) -> None:
        """Load a record; from a table of many patients the user chooses one."""
        self.session.start(
            lambda progress: list_cases(path), "record", lambda cases: self._choose(path, cases), shown=False
        )

    def _choose(self, path: Path, cases: tuple[str, ...]) -> None:
        case = None
        if len(cases) > 1:
            case, taken = QInputDialog.getItem(
                self, "Which patient?", f"Patient of {path.name}", list(cases), 0, True
            )
            if not taken:
                return
        self.session.load_record(path, case)

    def _ask_expression(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Expression file", "", _EXPRESSION_FILES)
        if name:
            self.load_expression(Path(name))

    def load_expression(self, path: Path, sample: str | None = None) -> None:
        """Load an expression file; from a matrix of many samples the user chooses one."""
        unit = None if self.unit.currentText() == DETECT else self.unit.currentText()
        self.session.load_expression(path, sample, unit, lambda error: self._expression_failed(path, error))

    def _expression_failed(self, path: Path, error: Exception) -> None:
        if isinstance(error, SampleNeededError):
            sample, taken = QInputDialog.getItem(
                self, "Which sample?", f"Sample of {path.name}", list(error.samples), 0, True
            )
            if taken:
                self.load_expression(path, sample)
            return
        if isinstance(error, ExpressionError):
            self.expression.setText(f"<span style='color:#e8590c'>{error}</span>")
        self.session.report(error)


def _show_beginning(combo: QComboBox) -> None:
    """Show a long text from its beginning, and all of it in the tooltip."""
    line = combo.lineEdit()
    if line is not None and not line.hasFocus():
        line.setCursorPosition(0)
        line.setToolTip(combo.currentText())


def _same_number(text: str, value: float | None) -> bool:
    number = typed_number(text)
    return number == value if number is not None else value is None and not text.strip()
