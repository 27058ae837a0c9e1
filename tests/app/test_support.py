"""Copying an error for who helps, asking for a slide that has moved, a table of many patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QApplication

from napari_survpgc import __version__
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import Message, Severity
from napari_survpgc.app.views.cohort.cohort_table import PatientTable, SortedPatients
from napari_survpgc.app.views.patient.case_panel import CasePanel
from napari_survpgc.app.views.widgets.copy_details import CopyDetails
from napari_survpgc.app.views.widgets.message_bar import MessageBar
from napari_survpgc.core.jobs.results_folder import CaseResult
from napari_survpgc.core.types import ClinicalRecord


def test_every_error_can_be_copied_with_versions(
    qtbot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SURVPGC_LOG", str(tmp_path / "x.log"))
    session = Session()
    bar = MessageBar(session)
    qtbot.addWidget(bar)
    session.say("All is well.")
    assert bar.copy_button.isHidden()
    session.say("<img src='x'> is broken.", Severity.ERROR)
    assert not bar.copy_button.isHidden()
    assert bar.text.textFormat() == Qt.TextFormat.PlainText
    session.report(ValueError("nothing"))
    qtbot.mouseClick(bar.copy_button, Qt.MouseButton.LeftButton)
    text = QApplication.clipboard().text()
    for part in (
        "Something went wrong",
        "ValueError: nothing",
        f"napari-survpgc {__version__}",
        "napari ",
        "x.log",
    ):
        assert part in text
    box = bar.details_dialog()
    qtbot.addWidget(box)
    (button,) = box.findChildren(CopyDetails)
    QApplication.clipboard().clear()
    button.click()
    assert "ValueError: nothing" in QApplication.clipboard().text()
    bar.show_message(Message("later", Severity.ERROR))
    assert bar.copy_button.text() == "Copied"


def test_a_slide_that_has_moved_is_asked_for(qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    opened: list[tuple[Path, Path]] = []
    session.open_case = lambda case, slide=None: opened.append((case, slide))  # type: ignore[method-assign, assignment]
    panel = CasePanel(session)
    qtbot.addWidget(panel)
    session.slide_missing.emit(tmp_path / "a.survpgc")
    assert panel.slide_dialog is not None
    assert "a.survpgc" in panel.slide_dialog.windowTitle()
    panel.slide_dialog.fileSelected.emit(str(tmp_path / "s.svs"))
    assert opened == [(tmp_path / "a.survpgc", tmp_path / "s.svs")]
    panel.slide_dialog.done(0)


def _case(name: str, risk: float, age: float | None, months: float | None = None) -> CaseResult:
    return CaseResult(name, risk, 50.0, "low", ClinicalRecord(age=age, stage="Stage II"), months, 1)


def test_the_table_sorts_by_value_unknown_last_and_keeps_what_is_selected(qtbot) -> None:
    table, view = PatientTable(QPalette), SortedPatients()
    view.setSourceModel(table)
    rows = [_case("b", -1.0, 70.0), _case("a", -2.0, None), _case("c", -10.0, 9.0), _case("d", -2.0, 50.0)]
    table.set_rows(rows, ["high", "low", "low", "low"])

    def names() -> list[str]:
        return [str(view.data(view.index(row, 0))) for row in range(view.rowCount())]

    kept = view.index(2, 0)
    from qtpy.QtCore import QPersistentModelIndex

    selected = QPersistentModelIndex(kept)
    view.sort(1, Qt.SortOrder.AscendingOrder)
    assert names() == ["c", "a", "d", "b"]
    assert selected.row() == 0
    view.sort(1, Qt.SortOrder.DescendingOrder)
    assert names() == ["b", "a", "d", "c"]
    view.sort(6, Qt.SortOrder.AscendingOrder)
    assert names() == ["c", "d", "b", "a"]
    view.sort(6, Qt.SortOrder.DescendingOrder)
    assert names() == ["b", "d", "c", "a"]
    view.set_words("LOW stage")
    assert names() == ["d", "c", "a"]
    table.set_groups(["low", "high", "high", "low"])
    assert names() == ["b", "d"]
    assert not selected.isValid()
    view.set_words("")
    view.sort(3, Qt.SortOrder.AscendingOrder)
    assert names() == ["a", "c", "b", "d"]
    assert view.mapToSource(view.index(3, 1)).row() == 3
    assert view.mapFromSource(table.index(0, 1)).row() == 2


def test_of_dots_before_each_other_the_last_is_drawn(qtbot) -> None:
    from napari_survpgc.app.views.cohort.risk_strip import RiskStrip

    strip = RiskStrip()
    qtbot.addWidget(strip)
    strip.resize(300, 44)
    risks = np.sort(np.random.default_rng(0).normal(size=20_000))
    strip.show_risks(risks, ["low"] * 10_000 + ["high"] * 10_000, ())
    dots = strip._dots(28)
    assert len(dots) < 5 * 300
    assert dots[-1][2] == "high"
    strip.show_risks(np.array([0.0, 0.5, 0.5, 1.0]), ["low", "low", "high", "high"], ())
    few = strip._dots(28)
    assert [(round(x), y) for x, y, _ in few] == [(8, 24.0), (150, 24.0), (150, 18.0), (292, 24.0)]
