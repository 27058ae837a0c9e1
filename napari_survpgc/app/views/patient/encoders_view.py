"""Encoders: what is ready, what each of the others needs and where to get it; files and downloads on request.

Nothing is looked up before the list is shown, and nothing is downloaded before the user has said yes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHeaderView,
    QMessageBox,
    QProgressBar,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import note, push, row
from napari_survpgc.app.workers import Job
from napari_survpgc.core.encoders.catalog import WITHOUT_FILES
from napari_survpgc.core.encoders.status import EncoderStatus, Readiness, encoder_statuses, known_encoders
from napari_survpgc.core.encoders.weight_files import fetch_weights, keep_files
from napari_survpgc.core.errors import SurvPGCError
from napari_survpgc.core.types import EncoderKind, ProgressCallback

_Work = Callable[[ProgressCallback], Any]
_READS = {EncoderKind.IMAGE: "patches", EncoderKind.TEXT: "record", EncoderKind.GENE: "genes"}
_COLORS = {
    Readiness.READY: "#37b24d",
    Readiness.NEEDS_ACCESS: "#f59f00",
    Readiness.NEEDS_FILE: "#f59f00",
    Readiness.DAMAGED: "#f03e3e",
}


class EncodersView(QWidget):
    """See the module's docstring.

    Attributes
    ----------
    statuses : as last looked up, the encoders of the open model first.   job : what is running, or None.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.statuses: list[EncoderStatus] = []
        self.job: Job | None = None
        self._asked = False
        self.tree = QTreeWidget()
        self.tree.setObjectName("encoders")
        self.tree.setAccessibleName("Encoders")
        self.tree.setHeaderLabels(["Encoder", "Reads", "State", "Speed here"])
        self.tree.setRootIsDecorated(False)
        self.tree.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.tree.setMinimumHeight(150)
        self.tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.tree.header()
        header.setStretchLastSection(True)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.tree.currentItemChanged.connect(lambda *_: self._show_details())
        self.details = note()
        self.details.setOpenExternalLinks(True)
        self.details.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.file_button = push(
            "Choose file…",
            "Use weights that you have; they are checked and copied",
            self.ask_file,
            "give_weights",
        )
        self.download_button = push(
            "Download…", "Fetch the weights from the Hugging Face hub with your own access", self.ask_download,
            "download_weights",
        )  # fmt: skip
        self.cancel_button = push("Stop", "Stop the download", self.cancel, "stop_download")
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress of the weights")
        self.outcome = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.tree)
        layout.addWidget(self.details)
        layout.addLayout(row(self.file_button, self.download_button, self.cancel_button, None))
        layout.addWidget(self.bar)
        layout.addWidget(self.outcome)
        session.bundle_changed.connect(self._bundle_changed)
        self._show_running(None)
        self._show_details()

    # --- status ---------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802  Qt's name
        super().showEvent(event)
        if not self._asked:
            self.look()

    def look(self) -> None:
        """Look up what is there, on a thread."""
        self._asked = True
        if not self.statuses:
            self.details.setText("Looking what is there…")
        wanted = dict.fromkeys([*self._of_model(), *known_encoders()])
        device = self.session.device
        self.session.start(
            lambda progress: encoder_statuses(wanted, device=device), "encoders", self._looked, shown=False
        )

    def _of_model(self) -> list[tuple[str, str]]:
        bundle = self.session.bundle
        if bundle is None:
            return []
        named = [(kind, bundle.config.encoders.get(kind.modality)) for kind in EncoderKind]
        return [(kind, spec.id) for kind, spec in named if spec and spec.id not in WITHOUT_FILES]

    def _bundle_changed(self) -> None:
        if self._asked:
            self.look()

    def _looked(self, statuses: Sequence[EncoderStatus]) -> None:
        chosen = self.current()
        self.statuses = list(statuses)
        own = set(self._of_model())
        self.tree.clear()
        for status in self.statuses:
            name = f"{status.encoder_id} ★" if (status.kind, status.encoder_id) in own else status.encoder_id
            item = QTreeWidgetItem(
                [
                    name,
                    _READS[EncoderKind(status.kind)],
                    str(status.readiness),
                    status.speed.removeprefix("about "),
                ]
            )
            item.setForeground(2, QColor(_COLORS[status.readiness]))
            item.setToolTip(0, "Used by the model that is open" if name.endswith("★") else status.title)
            item.setToolTip(3, status.speed)
            self.tree.addTopLevelItem(item)
        again = next((i for i, s in enumerate(self.statuses) if chosen and _key(s) == _key(chosen)), 0)
        self.tree.setCurrentItem(self.tree.topLevelItem(again))
        self._show_details()

    def current(self) -> EncoderStatus | None:
        """Return the encoder that is chosen in the list."""
        index = self.tree.indexOfTopLevelItem(self.tree.currentItem())
        return self.statuses[index] if 0 <= index < len(self.statuses) else None

    def select(self, kind: str, encoder_id: str) -> None:
        """Choose an encoder in the list."""
        keys = [_key(status) for status in self.statuses]
        self.tree.setCurrentItem(self.tree.topLevelItem(keys.index((kind, encoder_id))))

    def _show_details(self) -> None:
        status = self.current()
        if status is not None:
            self.details.setText(_sentence(status))
        waiting = status is not None and not status.embedded and self.job is None
        self.file_button.setEnabled(waiting)
        self.download_button.setEnabled(
            waiting and status is not None and status.on_hub and status.readiness is not Readiness.READY
        )

    # --- files ----------------------------------------------------------------------------------------------

    def ask_file(self) -> None:
        status = self.current()
        if status is None:
            return
        names, _ = QFileDialog.getOpenFileNames(
            self, f"Files of {status.title}: {', '.join(status.files)}", "", "Weights (*.bin *.pt *.pth *.ckpt"
            " *.safetensors *.json *.tsv);;All files (*)",
        )  # fmt: skip
        if names:
            self.give([Path(name) for name in names])

    def give(self, paths: Sequence[Path]) -> None:
        """Check files and keep them for the encoder that is chosen."""
        status = self.current()
        if status is not None:
            self._run(
                status,
                lambda progress: keep_files(status.encoder_id, paths, status.kind),
                "Checking and copying",
            )

    def ask_download(self) -> QMessageBox | None:
        """Ask, with the licence, before anything is downloaded."""
        status = self.current()
        if status is None:
            return None
        box = QMessageBox(self)
        box.setWindowTitle(f"Download {status.title}")
        size = "It can be several gigabytes" if status.weights_mb is None else f"About {status.weights_mb} MB"
        box.setText(
            f"Download {status.title} from the Hugging Face hub?\n\nLicence: {status.licence}\n{status.page}"
            f"\n\nYour own access is used (log in once with 'hf auth login'). {size}."
        )
        box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
        box.button(QMessageBox.StandardButton.Yes).clicked.connect(self.download)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()
        return box

    def download(self) -> None:
        """Fetch what the encoder that is chosen still needs."""
        status = self.current()
        if status is not None:
            self._run(
                status,
                lambda progress: fetch_weights(status.encoder_id, status.kind, progress),
                "Downloading",
            )

    def cancel(self) -> None:
        if self.job is not None:
            self.job.cancel()

    def _run(self, status: EncoderStatus, work: _Work, doing: str) -> None:
        if self.job is not None:
            return
        job = self.session.start(
            work,
            f"weights of {status.encoder_id}",
            lambda _: self._done(status),
            self._failed,
            shown=False,
            apart=True,
        )
        job.progressed.connect(self._progress)
        job.cancelled.connect(lambda: self._over("Stopped."))
        self._show_running(job)
        self.bar.setRange(0, 0)
        self.bar.setFormat(f"{doing} {status.title}")
        self.outcome.setText(f"{doing} {status.title}…")

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.outcome.setText(f"{stage[:1].upper()}{stage[1:]}: {done} of {total} MB")

    def _done(self, status: EncoderStatus) -> None:
        self._over(f"The files of {status.title} are kept.")
        self.look()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, SurvPGCError):
            self._over(str(error))
        else:
            self._over("")
            self.session.report(error)

    def _over(self, text: str) -> None:
        self._show_running(None)
        self.outcome.setText(text)
        self.outcome.setVisible(bool(text))

    def _show_running(self, job: Job | None) -> None:
        self.job = job
        self.bar.setVisible(job is not None)
        self.cancel_button.setVisible(job is not None)
        self.outcome.setVisible(job is not None)
        self._show_details()


def _key(status: EncoderStatus) -> tuple[str, str]:
    return status.kind, status.encoder_id


def _sentence(status: EncoderStatus) -> str:
    """Return what a person needs to know of an encoder, with links."""
    parts = [f"<b>{html.escape(status.title)}</b> {status.readiness}."]
    if status.licence and status.readiness in (Readiness.READY, Readiness.DAMAGED):
        parts.append(f"{html.escape(status.licence)}.")
    if status.where:
        parts.append(f"{_linked(status.where)}.")
        if status.readiness is Readiness.NEEDS_ACCESS:
            parts.append("When it is granted, log in once with <i>hf auth login</i> and press Download, or")
        else:
            parts.append("Press Download, or" if status.on_hub else "Then")
        parts.append(f"choose the files that you have ({html.escape(', '.join(status.files))}).")
    elif status.next_step:
        parts.append(f"{_linked(status.next_step)}.")
    if status.speed:
        parts.append(f"{status.speed[:1].upper()}{status.speed[1:]} here.")
    return " ".join(parts)


def _linked(text: str) -> str:
    return re.sub(
        r"https://[^\s,;()]+",
        lambda url: f'<a style="color: #74c0fc" href="{url[0]}">{url[0]}</a>',
        html.escape(text),
    )
