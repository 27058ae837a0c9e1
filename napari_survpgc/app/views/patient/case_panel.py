"""Case: save, reopen, export."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import panel, push, row
from napari_survpgc.core.names import file_name
from napari_survpgc.core.output.case_file import SUFFIX
from napari_survpgc.core.slide.formats import DIALOG_FILTER

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
        self.slide_dialog: QFileDialog | None = None
        session.result_changed.connect(self.refresh)
        session.slide_missing.connect(self.ask_slide)
        self.refresh()

    def refresh(self) -> None:
        for button in (self.save_button, self.export_button):
            button.setEnabled(self.session.result is not None)

    def _ask_open(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open case", "", CASE_FILES)
        if name:
            self.session.open_case(Path(name))

    def ask_slide(self, case: Path) -> None:
        """Ask where the slide of a case is now; the rest of the window goes on meanwhile."""
        dialog = QFileDialog(self, f"Where is the slide of {case.name}?", str(case.parent), DIALOG_FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(lambda name: self.session.open_case(case, Path(name)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        self.slide_dialog = dialog

    def _ask_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Save case", f"{file_name(self.session.case_name)}{SUFFIX}", CASE_FILES
        )
        if name:
            path = Path(name)
            self.session.save_case(path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX))

    def _ask_export(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the results")
        if name:
            self.session.export(Path(name))
