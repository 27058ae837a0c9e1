"""Case: save, reopen, export."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import panel, push, row
from napari_survpgc.core.output.case_file import SUFFIX

CASE_FILES = f"SurvPGC cases (*{SUFFIX})"


class CasePanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        layout = panel(self)
        self.open_button = push(
            "Open case…", "Open a saved case; nothing is computed again", self._ask_open, "open_case"
        )
        self.save_button = push(
            "Save case…",
            "Save record, settings and results; the slide stays where it is",
            self._ask_save,
            "save_case",
        )
        self.export_button = push(
            "Export results…",
            "Write heatmaps, patches, GeoJSON for QuPath and a report that opens in a browser",
            self._ask_export,
            "export_results",
        )
        layout.addLayout(row(self.open_button, self.save_button, self.export_button, None))
        session.result_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        for button in (self.save_button, self.export_button):
            button.setEnabled(self.session.result is not None)

    def _ask_open(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open case", "", CASE_FILES)
        if name:
            self.session.open_case(Path(name))

    def _ask_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Save case", f"{self.session.case_name}{SUFFIX}", CASE_FILES
        )
        if name:
            path = Path(name)
            self.session.save_case(path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX))

    def _ask_export(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the results")
        if name:
            self.session.export(Path(name))
