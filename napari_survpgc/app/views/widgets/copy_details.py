"""The button of every error: puts what happened on the clipboard, with the versions that a support person asks for."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QApplication, QToolButton

from napari_survpgc.app.later import delayed
from napari_survpgc.app.session.state import Message
from napari_survpgc.core.log import log_file, versions

_MILLISECONDS = 2000


class CopyDetails(QToolButton):
    """See the module's docstring; ``message`` returns the error that is shown."""

    def __init__(self, message: Callable[[], Message | None]) -> None:
        super().__init__()
        self._message = message
        self.setText("Copy details")
        self.setAccessibleName("Copy details")
        self.setToolTip("Copy the error and the versions of the program, to send to who helps")
        self.clicked.connect(self.copy)
        # A method of the button, which Qt forgets with it: a function called later ended the process once.
        self._back = delayed(self, _MILLISECONDS, self._restore)

    def copy(self) -> None:
        message = self._message()
        clipboard = QApplication.clipboard()
        if message is None or clipboard is None:
            return
        clipboard.setText(details_text(message))
        self.setText("Copied")
        self._back.start()

    def _restore(self) -> None:
        self.setText("Copy details")


def details_text(message: Message) -> str:
    """Return the error as it was shown, what it came through, and the versions.

    It may name files, as the error did: whoever sends it reads it first. The log, which is named, never does.
    """
    parts = [message.text, message.details.strip(), "\n".join(versions()), f"Log: {log_file()}"]
    return "\n\n".join(part for part in parts if part) + "\n"
