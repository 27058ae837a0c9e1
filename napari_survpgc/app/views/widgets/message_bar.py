"""One sentence at the top of the dock: what happened and what to do; details behind a button."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QMessageBox, QToolButton

from napari_survpgc.app.later import delayed
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import Message, Severity

from .copy_details import CopyDetails
from .parts import note

_STYLE = {
    Severity.DONE: "background: #1b6e4f; color: white;",
    Severity.NOTE: "background: #2b5d8a; color: white;",
    Severity.ERROR: "background: #9c2a14; color: white;",
}
_SECONDS = 12


class MessageBar(QFrame):
    """See the module's docstring. Errors stay until they are closed; notes go by themselves."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.message: Message | None = None
        self.text = note()
        self.text.setTextFormat(Qt.TextFormat.PlainText)  # it may name a file called <img src=...>
        self.details_button = QToolButton()
        self.details_button.setText("Details")
        self.details_button.setToolTip("The technical details, to send to the developers")
        self.details_button.clicked.connect(self.show_details)
        self.copy_button = CopyDetails(lambda: self.message)
        self.close_button = QToolButton()
        self.close_button.setText("✕")
        self.close_button.setToolTip("Close this message")
        self.close_button.setAccessibleName("Close this message")
        self.close_button.clicked.connect(self.hide)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 4, 4, 4)
        layout.addWidget(self.text, 1)
        layout.addWidget(self.details_button)
        layout.addWidget(self.copy_button)
        layout.addWidget(self.close_button)
        self._timer = delayed(self, _SECONDS * 1000, self.hide)
        session.message.connect(self.show_message)
        session.job_started.connect(lambda job: self.hide())
        self.hide()

    def show_message(self, message: Message) -> None:
        self.message = message
        self.text.setText(message.text)
        self.setStyleSheet(
            f"MessageBar {{ {_STYLE[message.severity]} border-radius: 4px; }} QLabel {{ color: white; background: transparent; }}"
        )
        self.details_button.setVisible(bool(message.details))
        self.copy_button.setVisible(message.severity is Severity.ERROR)
        self._timer.stop()
        if message.severity is not Severity.ERROR:
            self._timer.start()
        self.show()

    def details_dialog(self) -> QMessageBox | None:
        if self.message is None:
            return None
        box = QMessageBox(self)
        box.setWindowTitle("Details")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(self.message.text)
        box.setDetailedText(self.message.details)
        shown = self.message
        grid = box.layout()
        if isinstance(grid, QGridLayout):
            # No button of the box, which would close it.
            grid.addWidget(CopyDetails(lambda: shown), grid.rowCount(), 0, 1, grid.columnCount())
        return box

    def show_details(self) -> None:
        box = self.details_dialog()
        if box is not None:
            box.open()
