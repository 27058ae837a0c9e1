"""The Model panel: what each encoder needs, a file given, a download asked for; nothing else is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.views.patient.model_panel import ModelPanel
from napari_survpgc.app.window.native_libraries import keep_triton_out
from napari_survpgc.core.encoders.catalog import _load
from napari_survpgc.core.encoders.image.vision_transformer import build_transformer
from napari_survpgc.core.encoders.status import Readiness
from napari_survpgc.core.encoders.weights.weights import weights_folder
from tests.hub_server import Hub, hub_server
from tests.small_encoders import small_spec

from .conftest import WAIT_MS


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("SURVPGC_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        _load.cache_clear()
        yield server
        _load.cache_clear()


@pytest.fixture
def panel(hub: Hub, cache: Path, qtbot) -> Iterator[ModelPanel]:
    keep_triton_out()  # as the dock does
    session = Session()
    made = ModelPanel(session)
    qtbot.addWidget(made)
    yield made
    session.close()


def _shown(panel: ModelPanel, qtbot) -> ModelPanel:
    panel.show()
    qtbot.waitUntil(lambda: bool(panel.encoders.statuses), timeout=WAIT_MS)
    return panel


def _idle(panel: ModelPanel, qtbot) -> None:
    qtbot.waitUntil(lambda: panel.encoders.job is None and not panel.session.busy, timeout=WAIT_MS)


def test_the_list_says_for_each_encoder_what_it_needs(panel: ModelPanel, hub: Hub, qtbot) -> None:
    assert not panel.encoders.statuses  # not before somebody looks
    view = _shown(panel, qtbot).encoders
    rows = {
        (view.tree.topLevelItem(i).text(0), view.tree.topLevelItem(i).text(1)): view.tree.topLevelItem(i)
        for i in range(view.tree.topLevelItemCount())
    }
    assert rows["efficientnet-lite0", "patches"].text(2) == "ready"
    assert rows["uni", "patches"].text(2) == "needs access"
    assert "patch" in rows["uni", "patches"].text(3)  # seconds a patch, or patches a second
    assert rows["conch", "record"].text(2) == "needs access"
    assert rows["scfoundation", "genes"].text(2) == "needs a file"
    view.select("image", "uni")
    text = view.details.text()
    assert 'href="https://huggingface.co/MahmoodLab/UNI">' in text
    assert re.search(r"About .*patch.* here\.", text)
    assert "CC BY-NC-ND 4.0, academic use" in text
    assert view.download_button.isEnabled()
    view.select("gene", "scfoundation")
    assert "models.ckpt" in view.details.text()
    assert not view.download_button.isEnabled()  # it is on no hub
    assert view.file_button.isEnabled()
    view.select("image", "efficientnet-lite0")
    assert not view.file_button.isEnabled()
    assert hub.asked == []


def test_encoders_of_the_open_model_come_first(panel: ModelPanel, bundle_folder: Path, qtbot) -> None:
    _shown(panel, qtbot)
    panel.session.load_bundle(bundle_folder)
    view = panel.encoders
    qtbot.waitUntil(lambda: view.tree.topLevelItem(1).text(0) == "minilm ★", timeout=WAIT_MS)
    assert view.tree.topLevelItem(0).text(0) == "efficientnet-lite0 ★"
    assert [s.encoder_id for s in view.statuses].count("minilm") == 1


def test_a_file_is_checked_copied_and_the_encoder_ready(
    panel: ModelPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot
) -> None:
    spec = small_spec("uni", monkeypatch)
    view = _shown(panel, qtbot).encoders
    view.select("image", "uni")
    wrong = tmp_path / "wrong.bin"
    torch.save({"norm.weight": torch.zeros(3)}, wrong)
    chosen = [str(wrong)]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *arguments: (chosen, ""))
    qtbot.mouseClick(view.file_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "not the weights of UNI" in view.outcome.text(), timeout=WAIT_MS)
    assert "\n" not in view.outcome.text()
    assert not weights_folder().exists()
    torch.save(build_transformer(spec).state_dict(), tmp_path / "right.bin")
    chosen[0] = str(tmp_path / "right.bin")
    _idle(panel, qtbot)
    qtbot.mouseClick(view.file_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: view.outcome.text() == "The files of UNI are kept.", timeout=WAIT_MS)
    _idle(panel, qtbot)
    status = view.current()
    assert status is not None
    assert status.encoder_id == "uni"

    def ready() -> bool:  # the list is looked through anew on a thread
        return (now := view.current()) is not None and now.readiness is Readiness.READY

    qtbot.waitUntil(ready, timeout=WAIT_MS)
    assert not view.download_button.isEnabled()


def test_a_download_starts_only_after_yes_and_shows_how_far_it_is(panel: ModelPanel, hub: Hub, qtbot) -> None:
    hub.files["MahmoodLab/UNI/pytorch_model.bin"] = bytes(20_000_000)
    view = _shown(panel, qtbot).encoders
    view.select("image", "uni")
    box = view.ask_download()
    assert box is not None
    assert "CC BY-NC-ND 4.0" in box.text()
    box.button(QMessageBox.StandardButton.No).click()
    assert view.job is None
    assert hub.asked == []
    box = view.ask_download()
    assert box is not None
    box.button(QMessageBox.StandardButton.Yes).click()
    assert view.job is not None
    steps: list[tuple[str, int, int]] = []
    view.job.progressed.connect(lambda *step: steps.append(step))
    assert not view.file_button.isEnabled()
    qtbot.waitUntil(lambda: view.outcome.text() == "The files of UNI are kept.", timeout=WAIT_MS)
    assert steps[-1] == ("download pytorch_model.bin", 20, 20)

    def ready() -> bool:  # the list is looked through anew on a thread, which no busy sign shows
        return (now := view.current()) is not None and now.readiness is Readiness.READY

    qtbot.waitUntil(ready, timeout=WAIT_MS)


def test_no_access_is_told_in_one_sentence(panel: ModelPanel, hub: Hub, qtbot) -> None:
    hub.gated.add("MahmoodLab/UNI")
    view = _shown(panel, qtbot).encoders
    view.select("image", "uni")
    view.download()
    qtbot.waitUntil(lambda: "The hub gives no access to UNI" in view.outcome.text(), timeout=WAIT_MS)
    assert "log in with 'hf auth login'" in view.outcome.text()
    assert view.download_button.isEnabled()


def test_a_download_can_be_stopped(panel: ModelPanel, hub: Hub, qtbot) -> None:
    hub.files["MahmoodLab/UNI/pytorch_model.bin"] = bytes(200_000_000)
    view = _shown(panel, qtbot).encoders
    view.select("image", "uni")
    view.download()
    qtbot.waitUntil(lambda: view.bar.value() > 0, timeout=WAIT_MS)
    qtbot.mouseClick(view.cancel_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: view.outcome.text() == "Stopped.", timeout=WAIT_MS)
    _idle(panel, qtbot)
    assert view.download_button.isEnabled()
