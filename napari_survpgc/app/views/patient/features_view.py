"""Where the features of the slide come from: computed by Run, or a file that another tool has made."""

from __future__ import annotations

import html
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.widgets.parts import note, panel, push, row

_COMPUTED = "Patch features: computed by Run."


class FeaturesView(QWidget):
    """See the module's docstring."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        layout = panel(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.choose_button = push(
            "Use features from a file…",
            "Instead of looking at the patches again: features that survpgc, CLAM, TRIDENT or STAMP have made of this"
            " slide, with the encoder that the model wants",
            self._ask,
            "choose_features",
        )
        self.remove_button = push(
            "Compute them",
            "Forget the file; Run looks at the patches itself",
            self._forget,
            "compute_features",
        )
        self.text = note()
        layout.addWidget(self.text)
        layout.addLayout(row(self.choose_button, self.remove_button, None))
        for signal in (session.features_changed, session.slide_changed, session.bundle_changed):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        given, bundle = self.session.given_features, self.session.bundle
        self.choose_button.setEnabled(self.session.opened is not None)
        self.remove_button.setVisible(given is not None)
        if given is None:
            self.text.setText(_COMPUTED)
            return
        made = (
            f"made with {html.escape(given.encoder)}" if given.encoder else "encoder not stated in the file"
        )
        text = f"<b>{html.escape(given.path.name)}</b>: {given.patches} patches, {made}."
        spec = bundle.config.encoders.get("pathology") if bundle else None
        if spec is not None and given.encoder and given.encoder != spec.id:
            text += f" <span style='color:#e8590c'>The model wants {html.escape(spec.id)}.</span>"
        self.text.setText(text)

    def _ask(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Features of this slide", "", "Feature files (*.h5 *.hdf5 *.pt);;All files (*)"
        )
        if name:
            self.session.use_features(Path(name))

    def _forget(self) -> None:
        self.session.use_features(None)
