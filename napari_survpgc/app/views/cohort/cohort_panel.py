"""Cohort: table of patients, Kaplan-Meier by risk group, thumbnails, compare two, run a list of slides."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QModelIndex, Qt
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QHeaderView,
    QInputDialog,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QWidget,
)

from napari_survpgc.app.session.open_cohort import OpenCohort
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import Severity
from napari_survpgc.app.views.widgets.figure_view import FigureView
from napari_survpgc.app.views.widgets.parts import note, panel, push, row
from napari_survpgc.core.errors import LongFollowUpError
from napari_survpgc.core.groups import risk_groups, thirds
from napari_survpgc.core.jobs.results_folder import CaseResult
from napari_survpgc.core.output.plots import GROUPS, kaplan_meier_figure

from .batch_dialog import BatchDialog
from .cohort_table import THUMB_PX, PatientTable, PatientView, SortedPatients, ThumbnailStrip, square
from .risk_strip import RiskStrip

MODEL, THRESHOLD = "Model's groups", "Threshold"
_CUTS = (MODEL, "Median", "Thirds", THRESHOLD)
_STRIP = 8


class CohortPanel(QWidget):
    """See the module's docstring.

    Parameters
    ----------
    compare : called with two case files (or slides with records) to show side by side.
    """

    def __init__(self, session: Session, compare: Callable[[CaseResult, CaseResult], None]) -> None:
        super().__init__()
        self.session, self._compare = session, compare
        self.patients = OpenCohort(session, self._show_cases)
        # Of the open patients, as arrays: a step of the threshold goes through all of them.
        self._all_risks: NDArray[np.float64] = np.empty(0)
        self._given_groups: list[str] = []
        self._followed: NDArray[np.int64] = np.empty(0, np.int64)
        self._months: NDArray[np.float64] = np.empty(0)
        self._events: NDArray[np.int64] = np.empty(0, np.int64)
        layout = panel(self)
        self.open_button = push(
            "Open folder…",
            "Open a cohort folder, or a folder with the results of a batch",
            self._ask_open,
            "open_cohort",
        )
        self.batch_button = push(
            "Run a list…", "Run every patient of a list in the background (patients.csv and a folder of slides)",
            self._ask_batch, "run_batch",
        )  # fmt: skip
        layout.addLayout(row(self.open_button, self.batch_button, None))
        self.facts = note(
            "Open a folder of results, or a cohort folder, to compare patients and risk groups."
        )
        layout.addWidget(self.facts)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter, e.g. high stage iii")
        self.filter.setAccessibleName("Filter the patients")
        self.filter.setClearButtonEnabled(True)
        layout.addWidget(self.filter)
        self.table = PatientTable(self.palette)
        self.sorted = SortedPatients()
        self.sorted.setSourceModel(self.table)
        self.filter.textChanged.connect(self.sorted.set_words)
        self.view = PatientView()
        self.view.setModel(self.sorted)
        self.view.setSortingEnabled(True)
        self.view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.verticalHeader().setVisible(False)
        self.view.verticalHeader().setDefaultSectionSize(22)
        self.view.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.view.horizontalHeader().setResizeContentsPrecision(0)  # what is seen, not 1000 rows
        self.view.setMinimumHeight(190)
        self.view.setToolTip("Double click or Return opens the patient; a click on a heading sorts")
        self.view.setAccessibleName("Patients")
        self.view.doubleClicked.connect(lambda index: self.open_patient(self._case(index)))
        layout.addWidget(self.view)
        self.show_button = push(
            "Open patient", "Open the selected patient", self._open_selected, "open_patient"
        )
        self.compare_button = push(
            "Compare two",
            "Show two selected patients side by side, with linked zoom",
            self._compare_selected,
            "compare_two",
        )
        layout.addLayout(row(self.show_button, self.compare_button, None))

        # Nothing of this says anything before there are patients.
        self.of_patients = QWidget()
        self.of_patients.setVisible(False)
        layout.addWidget(self.of_patients)
        layout = panel(self.of_patients)
        layout.setContentsMargins(0, 0, 0, 0)
        self.cut = QComboBox()
        self.cut.addItems(_CUTS)
        self.cut.setToolTip("How patients are divided into risk groups")
        self.cut.setAccessibleName("Cut of the risk groups")
        self.threshold = RiskStrip()
        self.threshold.setToolTip(
            "One dot a patient; drag the line (or use the arrow keys) to cut the groups elsewhere"
        )
        self.threshold.setAccessibleName("Risk threshold")
        self.sizes = note()
        layout.addLayout(row(QLabel("Groups by"), self.cut, None))
        layout.addWidget(self.threshold)
        layout.addWidget(self.sizes)
        self.km = FigureView("kaplan-meier", 310)
        self.km.failed.connect(session.report)
        layout.addWidget(self.km)
        self.reason = note()
        layout.addWidget(self.reason)
        self.strips: dict[str, QListWidget] = {}
        for name, words in (("high", "Highest risk"), ("low", "Lowest risk")):
            strip = ThumbnailStrip()
            strip.setAccessibleName(words)
            strip.setToolTip(f"{words}: double click or Return opens the patient")
            strip.itemDoubleClicked.connect(
                lambda item: self.open_patient(item.data(Qt.ItemDataRole.UserRole))
            )
            layout.addWidget(note(f"<b>{words}</b>"))
            layout.addWidget(strip)
            self.strips[name] = strip
        self.cut.currentIndexChanged.connect(self._regroup)
        self.threshold.valueChanged.connect(self._dragged)
        self._enable()

    def end(self) -> None:
        self.km.close_thread()

    # --- open ----------------------------------------------------------------------------------------------

    def _ask_open(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open a cohort folder or a results folder")
        if name:
            self.open_folder(Path(name))

    def open_folder(self, folder: Path) -> None:
        """Read results, or predict the patients of a cohort folder from their features, on a thread."""
        self.patients.open(folder, failed=lambda error: self._not_opened(folder, error))

    def _not_opened(self, folder: Path, error: Exception) -> None:
        """Ask about follow-up that is rather in days; tell everything else."""
        if not isinstance(error, LongFollowUpError):
            self.session.report(error)
            return
        answer = QMessageBox.question(
            self,
            "Months or days?",
            f"{error.problem}. Are they months all the same? Otherwise divide them by 30.4375.",
        )
        if answer == QMessageBox.StandardButton.Yes:
            self.patients.open(folder, long_follow_up=True, failed=self.session.report)

    @property
    def cases(self) -> tuple[CaseResult, ...]:
        return self.patients.cases

    def _show_cases(self) -> None:
        folder, cases = self.patients.folder, self.cases
        assert folder is not None
        known = sum(case.months is not None for case in cases)
        deaths = sum(case.event == 1 for case in cases)
        follow_up = (
            f"{known} with follow-up, {deaths} deaths"
            if known
            else "no follow-up known, so no survival curves"
        )
        self.facts.setText(f"<b>{html.escape(folder.name)}</b>: {len(cases)} patients, {follow_up}.")
        self._all_risks = np.array([case.risk for case in cases])
        self._given_groups = [case.risk_group for case in cases]
        followed = [case.months is not None for case in cases]
        self._followed = np.flatnonzero(followed)
        self._months = np.array([case.months for case in cases if case.months is not None], float)
        self._events = np.array([case.event for case in cases if case.months is not None])
        self.table.set_rows(cases, self._groups())
        self.view.resizeColumnsToContents()
        self._regroup()
        self._fill_strips()
        self._enable()

    def _enable(self) -> None:
        for widget in (self.show_button, self.compare_button):
            widget.setEnabled(bool(self.cases))
        self.of_patients.setVisible(bool(self.cases))

    # --- groups --------------------------------------------------------------------------------------------

    def _risks(self) -> NDArray[np.float64]:
        return self._all_risks

    def _cuts(self) -> tuple[float, ...]:
        """Return the risks above which the next group begins; none for the groups that the model gave."""
        kind, risks = self.cut.currentText(), self._risks()
        if not len(risks) or kind == MODEL:
            return ()
        if kind == "Thirds":
            return thirds(risks)
        return (float(np.median(risks)) if kind == "Median" else self.threshold.risk,)

    def _groups(self) -> list[str]:
        if self.cut.currentText() == MODEL:
            return self._given_groups
        return risk_groups(self._risks(), self._cuts()).tolist() if self.cases else []

    def _dragged(self) -> None:
        """A dragged line is a cut of its own."""
        if self.cut.currentText() == THRESHOLD:
            self._regroup()
        else:
            self.cut.setCurrentText(THRESHOLD)

    def _regroup(self) -> None:
        groups, cuts = self._groups(), self._cuts()
        self.table.set_groups(groups)
        self.threshold.show_risks(self._risks(), groups, cuts)
        if len(cuts) == 1 and self.cut.currentText() != THRESHOLD:
            self.threshold.set_risk(cuts[0])
        names = [name for name in GROUPS if name != "intermediate" or len(cuts) != 1]
        self.sizes.setText(", ".join(f"{groups.count(name)} {name}" for name in names) if groups else "")
        self._enable()
        if len(self._followed) < 2:
            self.km.setVisible(False)
            self.reason.setText(
                ""
                if not self.cases
                else "No survival curves: the follow-up (survival_months, event) of these patients is not known."
            )
            return
        months, event, group = self._months, self._events, np.array(groups)[self._followed]
        self.km.setVisible(True)
        here = set(group.tolist())
        empty = [name for name in names if name not in here]
        self.reason.setText(
            f"Nobody with follow-up is in the group {' or '.join(empty)}"
            + (": there is nothing to compare." if len(names) - len(empty) < 2 else ".")
            if empty
            else ""
        )
        self.km.show_figure(lambda: kaplan_meier_figure(months, event, group))

    # --- thumbnails ----------------------------------------------------------------------------------------

    def _fill_strips(self) -> None:
        order = np.argsort(-self._risks(), kind="stable").tolist()
        parts = {
            "high": [self.cases[i] for i in order[:_STRIP]],
            "low": [self.cases[i] for i in order[::-1][:_STRIP]],
        }
        for name, cases in parts.items():
            strip = self.strips[name]
            strip.clear()
            for case in cases:
                item = QListWidgetItem(f"{case.case_id}\n{case.risk_percentile:.0f} %")
                item.setData(Qt.ItemDataRole.UserRole, case)
                item.setTextAlignment(int(Qt.AlignmentFlag.AlignHCenter))
                item.setSizeHint(strip.gridSize())
                strip.addItem(item)
        shown = [*parts["high"], *parts["low"]]
        self.patients.make_thumbnails(shown, 2 * THUMB_PX, self._show_thumbnails)

    def _show_thumbnails(self, found: dict[str, NDArray[np.uint8]]) -> None:
        for strip in self.strips.values():
            for place in range(strip.count()):
                item = strip.item(place)
                pixels = found.get(item.data(Qt.ItemDataRole.UserRole).case_id)
                if pixels is not None:
                    item.setIcon(QIcon(square(pixels)))

    # --- patients ------------------------------------------------------------------------------------------

    def _case(self, index: QModelIndex) -> CaseResult:
        return self.table.rows[self.sorted.mapToSource(index).row()]

    def selected(self) -> list[CaseResult]:
        return [self._case(index) for index in self.view.selectionModel().selectedRows()]

    def _open_selected(self) -> None:
        chosen = self.selected()
        if len(chosen) != 1:
            self.session.say("Select one patient in the table.", Severity.ERROR)
            return
        self.open_patient(chosen[0])

    def open_patient(self, case: CaseResult) -> None:
        """Open the case file of a patient, or its slide with record, expression and features."""
        if case.case_file is not None:
            place = case.case_file
            if len(case.case_files) > 1:
                names = [file.parent.name for file in case.case_files]
                number = self._ask_which(case, names)
                if number < 0:
                    return
                place = case.case_files[number]
            self.session.open_case(place)
            return
        if case.slide is None:
            self.session.say(
                f"The slide of {case.case_id} was not found: put it into the folder slides of {self.patients.folder}.",
                Severity.ERROR,
            )
            return
        number = 0
        if len(case.slides) > 1:
            number = self._ask_which(case, [slide.name for slide in case.slides])
        if number >= 0:
            self.patients.open_patient(case, case.slides[number] if case.slides else case.slide)

    def _ask_which(self, case: CaseResult, names: list[str]) -> int:
        """Let the user choose one of a patient's slides (-1: none); the risk is that of all of them together."""
        name, taken = QInputDialog.getItem(
            self,
            "Which slide?",
            f"{case.case_id} has {len(names)} slides; its risk in the table is that of all of them. Open",
            names,
            0,
            False,
        )
        return names.index(name) if taken else -1

    def _compare_selected(self) -> None:
        chosen = self.selected()
        if len(chosen) != 2:
            self.session.say("Select two patients in the table (Ctrl+click).", Severity.ERROR)
            return
        self._compare(*chosen)

    # --- batch ---------------------------------------------------------------------------------------------

    def _ask_batch(self) -> None:
        dialog = BatchDialog(self)
        if dialog.exec() and dialog.complete:
            assert dialog.patients.path is not None
            assert dialog.slides.path is not None
            assert dialog.out.path is not None
            self.patients.run_batch(
                dialog.patients.path, dialog.slides.path, dialog.expression.path, dialog.out.path
            )
