"""The controls of the panels, one by one: each does what its label says."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QApplication, QInputDialog, QLabel

from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.app.session.state import Result
from napari_survpgc.core.attention.maps import DIFFERENCE
from napari_survpgc.core.attention.trust import measured_trust, trust_sentence
from napari_survpgc.core.bundle.answer import answer_of
from napari_survpgc.core.predict.predictor import state_of

from .conftest import WAIT_MS


def test_a_table_of_patients_asks_which_one(
    dock: SurvPGCDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot
) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case_id,age,sex\nA,50,male\nB,71,female\n", encoding="utf-8")
    asked: list[list[str]] = []

    def choose(parent, title, label, items, *rest):
        asked.append(items)
        return "B", True

    monkeypatch.setattr(QInputDialog, "getItem", choose)
    dock.patient.load_record(table)
    qtbot.waitUntil(lambda: dock.session.record.age == 71, timeout=WAIT_MS)
    assert asked == [["A", "B"]]
    assert dock.patient.fields["sex"].currentText() == "female"


def test_long_values_are_shown_from_their_beginning(dock: SurvPGCDock) -> None:
    dock.session.set_fields({"subtype": "Adenocarcinoma with mixed subtypes"})
    line = dock.patient.fields["subtype"].lineEdit()
    assert line.cursorPosition() == 0
    assert line.toolTip() == "Adenocarcinoma with mixed subtypes"


def test_the_run_names_four_stages(filled: SurvPGCDock, qtbot) -> None:
    seen: list[str] = []
    filled.session.job_started.connect(lambda job: job.progressed.connect(lambda s, d, t: seen.append(s)))
    with qtbot.waitSignal(filled.session.result_changed, timeout=WAIT_MS):
        filled.run.run_button.click()
    assert [s for s in dict.fromkeys(seen) if s in ("tissue", "patches", "features", "prediction")] == [
        "tissue", "patches", "features", "prediction",
    ]  # fmt: skip
    filled.run._progressed("features", 3, 10)
    assert "<b>Features</b>" in filled.run.stages.text()
    assert "3 of 10" in filled.run.remaining.text()


def test_the_summary_stays_and_leads_to_the_result(finished: SurvPGCDock, qtbot) -> None:
    summary, session = finished.summary, finished.session
    assert session.result.shown.risk_group.capitalize() in summary.headline.text()
    assert f"{session.result.shown.risk_percentile:.0f} %" in summary.headline.text()
    finished.sections["Result"].fold()
    qtbot.mouseClick(summary.place, Qt.MouseButton.LeftButton)
    assert finished.sections["Result"].is_open
    session.set_tissue(session.tissue)
    assert "press Run" in summary.headline.text()


def test_signposts_unfold_and_headings_say_what_is_folded(
    dock: SurvPGCDock, bundle_folder: Path, qtbot
) -> None:
    assert not dock.sections["Maps"].is_open  # nothing to see before the first result
    dock.signposts["Maps"].click()
    assert dock.sections["Maps"].is_open
    dock.session.load_bundle(bundle_folder)
    qtbot.waitUntil(lambda: dock.session.bundle is not None, timeout=WAIT_MS)
    model = dock.sections["Model"]
    model.fold()
    assert dock.session.bundle.config.name in model.heading.text()
    model.heading.click()
    assert dock.session.bundle.config.name not in model.heading.text()


def test_shortcuts_do_what_the_list_says(finished: SurvPGCDock) -> None:
    keys = {shortcut.key().toString(): shortcut for shortcut in finished._shortcuts}
    listed = finished.sections["Shortcuts"].content()
    assert isinstance(listed, QLabel)
    maps = finished.layers.maps
    for key, name in (("Alt+C", "clinic"), ("Alt+G", "genomic"), ("Alt+D", DIFFERENCE)):
        assert key in listed.text()
        before = maps[name].visible
        keys[key].activated.emit()
        assert maps[name].visible != before
    keys["Alt+Right"].activated.emit()
    first = finished.session.patch
    keys["Alt+Right"].activated.emit()
    assert finished.session.patch != first
    keys["Alt+Left"].activated.emit()
    assert finished.session.patch == first
    keys["Alt+5"].activated.emit()
    assert finished.layers.camera.magnification == pytest.approx(20)
    keys["Alt+0"].activated.emit()
    assert finished.layers.camera.magnification < 20


def test_figures_are_saved_and_copied(finished: SurvPGCDock, tmp_path: Path, qtbot) -> None:
    view = finished.result.views["Survival"]
    for ending, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = tmp_path / f"curve{ending}"
        view.save(path)
        qtbot.waitUntil(path.is_file, timeout=WAIT_MS)
        assert path.read_bytes().startswith(magic)
    QApplication.clipboard().clear()
    view.copy_button.click()
    qtbot.waitUntil(lambda: not QApplication.clipboard().image().isNull(), timeout=WAIT_MS)
    assert QApplication.clipboard().image().width() > 500


def test_figures_follow_the_theme(finished: SurvPGCDock, qtbot) -> None:
    view = finished.result.views["Survival"]
    qtbot.waitUntil(lambda: view.canvas.image is not None, timeout=WAIT_MS)

    def corner() -> int:
        image: QImage = view.canvas.image
        return image.pixelColor(1, 1).lightness()

    finished.viewer.theme = "light"
    qtbot.waitUntil(lambda: corner() > 128, timeout=WAIT_MS)
    finished.viewer.theme = "dark"
    qtbot.waitUntil(lambda: corner() < 128, timeout=WAIT_MS)


def test_the_contributions_of_a_what_if_come_when_they_are_looked_at(finished: SurvPGCDock, qtbot) -> None:
    session, tabs = finished.session, finished.result.tabs
    entered = session.result.original.attribution
    assert entered is not None
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        finished.patient.fields["stage"].setCurrentText("Stage IV")
    assert session.result.shown.attribution is None
    assert "as entered" in finished.result.detail.text()
    tabs.setCurrentIndex([tabs.tabText(i) for i in range(tabs.count())].index("Tokens"))
    qtbot.waitUntil(lambda: session.result.shown.attribution is not None, timeout=WAIT_MS)
    shown = session.result.shown
    state = state_of(shown)
    assert state is not None
    again = state.predictor.predict(state.patient, state.features, state.info)
    for name, value in again.attribution.tokens.items():
        assert shown.attribution.tokens[name] == pytest.approx(value, abs=1e-4), name
    assert shown.attribution.tokens["clinic:stage"] != pytest.approx(entered.tokens["clinic:stage"])
    assert session.result.changed


def test_the_pointer_reads_both_scores(finished: SurvPGCDock) -> None:
    result = finished.session.result
    x, y = result.shown.coords[4]
    half = result.shown.patch_px_level0 / 2
    event = SimpleNamespace(position=((y + half) * 0.5, (x + half) * 0.5))
    for callback in finished.viewer.mouse_move_callbacks:
        callback(finished.viewer, event)
    assert finished.maps.hover.text() == finished.maps.read_out(4)


def test_legend_and_values_say_what_is_shown(finished: SurvPGCDock) -> None:
    maps = finished.maps
    assert maps.legend.texts == ("0", "percentile of attention on this slide", "100")
    assert maps.threshold_value.text() == "all shown"
    maps.threshold.setValue(70)
    assert maps.threshold_value.text() == "from 70"
    maps.opacity.setValue(20)
    assert maps.opacity_value.text() == "20 %"
    maps.checks[DIFFERENCE].click()
    low, words, high = maps.legend.texts
    assert "clinic looks here" in words
    assert float(low) == -float(high)


def test_lowest_and_random_patches_and_their_order_on_the_slide(finished: SurvPGCDock) -> None:
    gallery, result = finished.gallery, finished.session.result
    scores = result.maps.map("clinic").scores
    gallery.kind.setCurrentText("Lowest")
    shown = [p.score for p in gallery.models["clinic"].patches]
    assert shown == sorted(scores.tolist())[: len(shown)]
    gallery.kind.setCurrentText("Random")
    assert len({p.index for p in gallery.models["clinic"].patches}) == len(shown)
    gallery.order.setCurrentText("by place")
    places = [tuple(result.shown.coords[p.index][::-1]) for p in gallery.models["clinic"].patches]
    assert places == sorted(places)


def test_patches_of_both_paths_are_marked(finished: SurvPGCDock) -> None:
    models = finished.gallery.models
    found = {name: {p.index for p in model.patches} for name, model in models.items()}
    for model in models.values():
        for patch in model.patches:
            assert patch.overlap == (patch.index in found["clinic"] & found["genomic"])


def test_selected_patches_are_saved_and_their_coordinates_copied(
    finished: SurvPGCDock, tmp_path: Path, qtbot
) -> None:
    gallery = finished.gallery
    model, view = gallery.models["genomic"], gallery.lists["genomic"]
    selection = view.selectionModel()
    for place in (1, 3):
        selection.select(model.index(place), selection.SelectionFlag.Select)
    gallery.copy_button.click()
    coords = finished.session.result.shown.coords
    chosen = [coords[model.patches[place].index] for place in (1, 3)]
    assert QApplication.clipboard().text() == "\n".join(["x\ty", *(f"{x}\t{y}" for x, y in chosen)])
    gallery.save(tmp_path / "out", only_selected=True)
    table = tmp_path / "out" / "genomic" / "patches.csv"
    qtbot.waitUntil(table.is_file, timeout=WAIT_MS)
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(r["rank"]), int(r["x"]), int(r["y"])) for r in rows] == [
        (rank, *xy) for rank, xy in zip((2, 4), np.array(chosen).tolist(), strict=True)
    ]
    assert len(list(table.parent.glob("*.png"))) == 2
    assert not (tmp_path / "out" / "clinic").exists()


def test_arrow_keys_move_through_the_gallery(finished: SurvPGCDock, qtbot) -> None:
    view, model = finished.gallery.lists["clinic"], finished.gallery.models["clinic"]
    view.setCurrentIndex(model.index(0))
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert finished.session.patch == model.patches[1].index


def test_a_case_outside_what_the_model_knows_shows_no_risk_until_asked(finished: SurvPGCDock, qtbot) -> None:
    session = finished.session
    result = session.result
    assert result is not None
    found = answer_of(result.original)
    assert found is not None
    outside = dataclasses.replace(
        found, answered=False, not_answered_because=("The slide is unlike others.",)
    )
    prediction = dataclasses.replace(result.original, answer=outside)
    session.case.show(Result(prediction, prediction, result.maps))
    panel = finished.result
    assert "Outside what this model knows" in panel.headline.text()
    assert "unlike others" in panel.headline.text()
    assert panel.tabs.isHidden()
    assert prediction.risk_group not in panel.headline.text().lower()
    assert "Outside" in finished.summary.headline.text()
    panel.anyway_button.click()
    assert not panel.tabs.isHidden()
    assert "outside what this model knows" in panel.headline.text()
    assert "outside what this model knows" in finished.summary.headline.text()
    assert panel.anyway_button.isHidden()


def test_each_map_is_said_how_far_it_can_be_trusted(finished: SurvPGCDock) -> None:
    shown = finished.session.result.shown
    measured = measured_trust(shown.provenance)
    text = finished.maps.trust.text()
    assert not finished.maps.trust.isHidden()
    for title, name in (("Clinic", "clinic"), ("Genomic", "genomic")):
        assert f"{title}: {trust_sentence(measured[name])}" in text


def test_of_a_result_whose_maps_were_not_measured_nothing_is_said(finished: SurvPGCDock) -> None:
    result = finished.session.result
    made = {key: value for key, value in result.shown.provenance.items() if key != "map_trust"}
    earlier = dataclasses.replace(result.shown, provenance=made)
    finished.session.case.show(Result(earlier, earlier, result.maps))
    assert finished.maps.trust.isHidden()
