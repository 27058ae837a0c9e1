"""Model: which bundle, which device, which encoders are ready and what the others need."""

from __future__ import annotations

import html
from pathlib import Path

import torch
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QWidget

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import note, panel, push, row
from napari_survpgc.core.encoders.base import resolve_device

from .encoders_view import EncodersView


class ModelPanel(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        layout = panel(self)
        self.bundle = note("No model is loaded.")
        layout.addWidget(self.bundle)
        self.choose_button = push(
            "Other model…", "Choose the folder of a trained model (bundle)", self._ask, "choose_bundle"
        )
        self.demo_button = push(
            "Demonstration", "Use the model that comes along (trained on simulated patients)",
            lambda: session.load_bundle(None), "demo_bundle",
        )  # fmt: skip
        layout.addLayout(row(self.choose_button, self.demo_button, None))
        self.device = QComboBox()
        for name, text in devices():
            self.device.addItem(text, name)
        self.device.setToolTip("Where the model runs; the graphics processor is used when there is one")
        self.device.setAccessibleName("Device")
        self.device.currentIndexChanged.connect(self._device_changed)
        form = QFormLayout()
        form.addRow("Device", self.device)
        layout.addLayout(form)
        self.encoders = EncodersView(session)
        layout.addWidget(self.encoders)
        session.bundle_changed.connect(self.refresh)
        self.refresh()

    def _device_changed(self) -> None:
        self.session.set_device(self.device.currentData())
        self.encoders.look()

    def refresh(self) -> None:
        bundle = self.session.bundle
        if bundle is None:
            self.bundle.setText("No model is loaded.")
            return
        config = bundle.config
        encoders = ", ".join(spec.id for spec in config.encoders.values())
        lines = [
            f"<b>{html.escape(config.name)}</b>",
            f"{html.escape(config.model)}, {len(bundle.fold_files)} fold models, {html.escape(config.endpoint)}",
            f"Trained on {html.escape(config.cohort)}; {len(bundle.reference)} reference patients",
            f"Encoders: {html.escape(encoders)}",
        ]
        if config.demonstration:
            lines.append(
                "<span style='color:#e8590c'>Simulated patients: means nothing for a real one.</span>"
            )
        self.bundle.setText("<br>".join(lines))

    def _ask(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Choose the folder of a model (with bundle.json)")
        if name:
            self.session.load_bundle(Path(name))


def devices() -> list[tuple[str, str]]:
    """Return (name, text) of the devices that this machine has, the automatic choice first."""
    best = resolve_device("auto")
    words = {
        "cpu": "processor (CPU)",
        "cuda": "graphics processor (CUDA)",
        "mps": "graphics processor (Apple)",
    }
    found = [("auto", f"automatic: {words.get(best.type, best.type)}")]
    found += [
        (f"cuda:{i}", f"{torch.cuda.get_device_name(i)} (cuda:{i})") for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        found.append(("mps", words["mps"]))
    found.append(("cpu", words["cpu"]))
    return found
