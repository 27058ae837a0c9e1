"""The pathologist's way through the window: fill in, run, look, ask what if, keep."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_survpgc.app.canvas.layer_data import PATCH
from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.core.attention.maps import MapScale

from .conftest import WAIT_MS, run


def test_fields_are_validated_where_they_stand(dock: SurvPGCDock, qtbot) -> None:
    age = dock.patient.fields["age"]
    qtbot.keyClicks(age, "150")
    qtbot.keyClick(age, Qt.Key.Key_Return)
    assert not dock.patient.problem.isHidden()
    assert "outside 0 to 120" in dock.patient.problem.text()
    assert dock.session.record.age is None
    assert age.styleSheet()
    age.clear()
    qtbot.keyClicks(age, "race")
    qtbot.keyClick(age, Qt.Key.Key_Return)
    assert "age is 'race'" in dock.patient.problem.text().lower()
    assert [name for name, field in dock.patient.fields.items() if field.styleSheet()] == ["age"]
    age.clear()
    qtbot.keyClicks(age, "58")
    qtbot.keyClick(age, Qt.Key.Key_Return)
    assert dock.patient.problem.isHidden()
    assert dock.session.record.age == 58


def test_run_shows_risk_maps_and_galleries(finished: SurvPGCDock, qtbot) -> None:
    session, layers = finished.session, finished.layers
    assert session.result is not None
    assert "risk" in finished.result.headline.text()
    assert "Research use only" in finished.result.notice.text()
    assert "stage" not in finished.result.warnings.text()
    assert "subtype" in finished.result.warnings.text()  # unknown, and said so
    assert {"clinic", "genomic", "difference"} == set(layers.maps)
    heatmap = layers.maps["clinic"]
    assert heatmap.visible
    assert not layers.maps["genomic"].visible
    # One cell a patch, where the patch is: the cell's world extent is the patch's.
    prediction = session.result.shown
    x, y = prediction.coords[5]
    cells = session.result.maps.cells
    row, column = cells.rows[5], cells.columns[5]
    world = heatmap.data_to_world((row, column))
    side = prediction.patch_px_level0
    assert world == pytest.approx(((y + (side - 1) / 2) * 0.5, (x + (side - 1) / 2) * 0.5), abs=0.5)
    assert heatmap.data[row, column] == pytest.approx(session.result.maps.map("clinic").percentiles[5])
    for name in ("clinic", "genomic"):
        n = min(50, len(prediction.coords))
        assert len(finished.gallery.models[name].patches) == n
        scores = [p.score for p in finished.gallery.models[name].patches]
        assert scores == sorted(scores, reverse=True)
    qtbot.waitUntil(
        lambda: finished.gallery.images.get(finished.gallery.models["clinic"].patches[0].index) is not None
    )
    qtbot.waitUntil(lambda: finished.result.views["Survival"].canvas.image is not None, timeout=WAIT_MS)


def test_a_click_in_the_gallery_flies_to_the_patch(finished: SurvPGCDock, qtbot) -> None:
    model = finished.gallery.models["genomic"]
    finished.gallery.lists["genomic"].setCurrentIndex(model.index(3))
    patch = model.patches[3].index
    assert finished.session.patch == patch
    prediction = finished.session.result.shown
    x, y = prediction.coords[patch]
    half = prediction.patch_px_level0 / 2
    assert finished.viewer.scene.camera.center[1:] == pytest.approx(((y + half) * 0.5, (x + half) * 0.5))
    assert finished.layers.spare.used[PATCH].visible
    assert "genomic rank 4" in finished.gallery.info.text()
    assert "clinic rank" in finished.gallery.info.text()
    finished.gallery.step(1)
    assert finished.session.patch == model.patches[4].index


def test_controls_of_the_maps_reach_the_layers(finished: SurvPGCDock, qtbot) -> None:
    maps, layers = finished.maps, finished.layers
    maps.checks["genomic"].click()
    maps.checks["clinic"].click()
    assert layers.maps["genomic"].visible
    assert not layers.maps["clinic"].visible
    maps.threshold.setValue(80)
    assert layers.maps["genomic"].contrast_limits[0] == pytest.approx(80)
    low = layers.maps["genomic"].colormap.map(np.array([-0.1]))[0]
    assert low[3] == 0  # what is below the threshold is transparent
    maps.scale.setCurrentIndex(maps.scale.findData(MapScale.ZSCORE))
    result = finished.session.result
    assert layers.maps["genomic"].contrast_limits[1] == pytest.approx(result.maps.map("genomic").scores.max())
    maps.tokens["genomic"].setCurrentIndex(1)
    one = result.maps.map("genomic", 0)
    cells = result.maps.cells
    assert layers.maps["genomic"].data[cells.rows[0], cells.columns[0]] == pytest.approx(one.scores[0])
    maps.colormap.setCurrentText("magma")
    assert layers.maps["genomic"].colormap.name == "survpgc magma"
    maps.opacity.setValue(30)
    assert layers.maps["genomic"].opacity == pytest.approx(0.3)
    text = maps.read_out(2)
    assert "Clinic" in text
    assert "Genomic" in text
    assert "rank" in text
    assert maps.read_out(None) == "No patch here."


def test_what_if_moves_everything_and_reset_brings_it_back(finished: SurvPGCDock, qtbot) -> None:
    session = finished.session
    before = session.result.original
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        finished.patient.fields["stage"].setCurrentText("Stage IV")
    assert session.result.changed
    assert session.result.shown.risk != before.risk
    assert not np.array_equal(session.result.shown.attention["clinic"], before.attention["clinic"])
    assert np.array_equal(session.result.shown.attention["genomic"], before.attention["genomic"])
    assert not finished.summary.changes_box.isHidden()
    assert "Stage IIA → Stage IV" in finished.summary.changes.text()
    assert finished.summary.place.place == session.result.shown.risk_percentile
    assert finished.summary.place.ghost == before.risk_percentile
    assert "as entered" in finished.result.detail.text()
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        finished.programmes.sliders["growth"].setValue(20)
    assert not np.array_equal(session.result.shown.attention["genomic"], before.attention["genomic"])
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        finished.summary.reset_button.click()
    assert not session.result.changed
    assert session.result.shown.risk == before.risk
    assert finished.patient.fields["stage"].currentText() == "Stage IIA"
    assert finished.programmes.sliders["growth"].value() == 0
    assert finished.summary.changes_box.isHidden()
    assert finished.summary.place.ghost is None


def test_a_case_is_reopened_as_it_was_without_computing(finished: SurvPGCDock, tmp_path: Path, qtbot) -> None:
    session = finished.session
    risk, coords = session.result.shown.risk, session.result.shown.coords
    path = tmp_path / "case.survpgc"
    finished.maps.threshold.setValue(70)
    finished.maps.colormap.setCurrentText("magma")
    finished.maps.tokens["clinic"].setCurrentIndex(2)
    session.save_case(path)
    qtbot.waitUntil(path.is_file, timeout=WAIT_MS)
    session.close_slide()
    assert session.result is None
    finished.maps.threshold.setValue(0)
    finished.maps.colormap.setCurrentText("gray")
    session.open_case(path)
    qtbot.waitUntil(lambda: session.result is not None, timeout=WAIT_MS)
    assert session.result.shown.risk == risk
    assert np.array_equal(session.result.shown.coords, coords)
    assert session.record.stage == "Stage IIA"
    assert session.tissue is not None
    assert finished.maps.threshold.value() == 70
    assert finished.maps.colormap.currentText() == "magma"
    assert finished.maps.tokens["clinic"].currentIndex() == 2
    # A change before the model is ready is not lost and does not make the result out of date.
    session.set_fields({"race": "asian"})
    assert not session.stale
    qtbot.waitUntil(lambda: session.result.changed, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.can_ask, timeout=WAIT_MS)
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        finished.patient.fields["sex"].setCurrentText("male")
    assert session.result.changed


def test_everything_is_exported_and_patches_are_saved(finished: SurvPGCDock, tmp_path: Path, qtbot) -> None:
    out = tmp_path / "out"
    finished.session.export(out)
    qtbot.waitUntil(lambda: (out / "report.html").is_file(), timeout=WAIT_MS)
    document = json.loads((out / "prediction.json").read_text(encoding="utf-8"))
    assert document["risk"] == finished.session.result.shown.risk
    finished.gallery.save(tmp_path / "patches")
    table = tmp_path / "patches" / "genomic" / "patches.csv"
    qtbot.waitUntil(table.is_file, timeout=WAIT_MS)
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(finished.gallery.models["genomic"].patches)


def test_edited_tissue_is_used_by_the_next_run(finished: SurvPGCDock, qtbot) -> None:
    before = len(finished.session.result.shown.coords)
    assert finished.layers.tools.edit_with_brush()
    labels = finished.layers.tools.brush
    half = labels.data.shape[1] // 2
    painted = np.asarray(labels.data).copy()
    painted[:, half:] = 0
    labels.data = painted
    finished.slide.apply_button.click()
    assert finished.session.tissue.method == "edited"
    assert finished.session.stale
    assert "press Run" in finished.run.hint.text()
    run(finished, qtbot)
    coords = finished.session.result.shown.coords
    assert 0 < len(coords) < before
    assert coords[:, 0].max() <= 1100
    assert finished.layers.tools.edit_outlines()
    assert len(finished.layers.tools.shapes.data) >= 1
    assert finished.layers.tools.edited_tissue().polygons


def test_cancel_keeps_what_is_done_and_run_goes_on(filled: SurvPGCDock, qtbot) -> None:
    session = filled.session
    job = session.run()
    with qtbot.waitSignal(job.ended, timeout=WAIT_MS):
        qtbot.waitUntil(lambda: filled.run.bar.isVisible() or not filled.isVisible(), timeout=WAIT_MS)
        filled.run.cancel_button.click()
    assert session.result is None
    qtbot.waitUntil(lambda: filled.run.run_button.isEnabled(), timeout=WAIT_MS)
    run(filled, qtbot)
    assert session.result is not None


def test_what_is_changed_during_a_run_makes_its_result_out_of_date(filled: SurvPGCDock, qtbot) -> None:
    session = filled.session
    session.run()
    session.set_profile(None)
    qtbot.waitUntil(lambda: session.result is not None, timeout=WAIT_MS)
    assert session.stale
    assert "press Run" in filled.run.hint.text()


def test_closing_during_a_run_ends_cleanly(filled: SurvPGCDock, qtbot) -> None:
    job = filled.session.run()
    filled.end()
    assert not job.running or job.wait(10)
    assert filled.session.opened is None


def test_another_slide_does_not_inherit_the_patient(finished: SurvPGCDock, tmp_path: Path, qtbot) -> None:
    from tests.builders import tissue_image, write_tiff

    other = write_tiff(tmp_path / "other.tiff", tissue_image(1024, 1024, seed=3), levels=2)
    finished.session.open_slide(other)
    qtbot.waitUntil(lambda: finished.session.opened.slide.info.path == other, timeout=WAIT_MS)
    assert finished.session.result is None
    assert finished.session.record.age is None
    assert finished.session.expression is None
    assert finished.patient.fields["age"].text() == ""
    assert not finished.layers.maps


def test_an_unusable_expression_file_says_so_and_blocks_run(
    filled: SurvPGCDock, tmp_path: Path, qtbot
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("gene,value\nTP53,abc\n")
    with qtbot.waitSignal(filled.session.message, timeout=WAIT_MS) as caught:
        filled.patient.load_expression(bad)
    assert "bad.csv" in caught.args[0].text
    few = tmp_path / "few.csv"
    few.write_text("gene,z-score\nTP53,0.5\nAAAS,1\nAACS,-1\n")
    filled.patient.load_expression(few)
    qtbot.waitUntil(lambda: bool(filled.session.expression.problem), timeout=WAIT_MS)
    assert "1 of the model's 5 genes" in filled.run.hint.text()
    assert not filled.run.run_button.isEnabled()


def test_every_control_has_a_tooltip_or_a_name_and_can_be_reached_by_keyboard(dock: SurvPGCDock) -> None:
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QSlider, QTabBar

    for kind in (QAbstractButton, QComboBox, QLineEdit, QSlider):
        for widget in (w for panel in dock.sections.values() for w in panel.content().findChildren(kind)):
            inner = isinstance(widget.parent(), (QComboBox, QLineEdit, QTabBar))  # Qt's own parts
            if inner or widget.objectName().startswith("qt_"):
                continue
            assert widget.toolTip() or widget.accessibleName() or getattr(widget, "text", str)(), widget
            assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus, (widget, widget.toolTip())


def test_the_story_on_a_real_slide(dock: SurvPGCDock, shared_dir: Path, tmp_path: Path, qtbot) -> None:
    """From an empty window to the report, on a scanner's file with a TCGA patient and the demonstration model."""
    session = dock.session
    session.load_bundle(None)
    session.open_slide(shared_dir / "slides" / "CMU-1-Small-Region.svs")
    session.load_record(shared_dir / "tcga" / "lihc" / "patients.csv", "TCGA-2Y-A9GS")
    dock.patient.load_expression(shared_dir / "tcga" / "lihc" / "expression.csv.gz", "TCGA-2Y-A9GS")
    qtbot.waitUntil(
        lambda: None not in (session.bundle, session.opened, session.expression, session.record.age),
        timeout=WAIT_MS,
    )
    assert session.opened.slide.info.mpp == pytest.approx(0.499)
    run(dock, qtbot)
    n = len(session.result.shown.coords)
    assert n == 46
    assert "simulated patients" in dock.result.warnings.text()
    assert len(dock.gallery.models["clinic"].patches) == 46
    dock.gallery.lists["clinic"].setCurrentIndex(dock.gallery.models["clinic"].index(0))
    assert session.patch == dock.gallery.models["clinic"].patches[0].index
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        dock.patient.fields["age"].clear()
        qtbot.keyClicks(dock.patient.fields["age"], "30")
        qtbot.keyClick(dock.patient.fields["age"], Qt.Key.Key_Return)
    assert session.result.changed
    assert session.record.age == 30
    assert "→ 30" in dock.summary.changes.text()
    with qtbot.waitSignal(session.result_changed, timeout=WAIT_MS):
        dock.summary.reset_button.click()
    assert not session.result.changed
    # The maps and the outline, as a pathologist goes through them.
    dock.maps.checks["genomic"].click()
    dock.maps.tokens["genomic"].setCurrentIndex(1)
    dock.maps.threshold.setValue(75)
    genomic = dock.layers.maps["genomic"]
    assert genomic.visible
    assert genomic.contrast_limits[0] == pytest.approx(75)
    dock.slide.outline_button.click()
    dock.slide.editor.discard_button.click()
    assert genomic.visible
    risk = session.result.shown.risk
    # Kept, given away, and opened again as it was.
    case, out = tmp_path / "story.survpgc", tmp_path / "out"
    session.save_case(case)
    session.export(out)
    qtbot.waitUntil(lambda: case.is_file() and not session.busy, timeout=WAIT_MS)
    made = {path.name for path in out.iterdir()}
    assert {
        "prediction.json",
        "attention.h5",
        "heatmap_clinic.png",
        "heatmap_genomic.png",
        "report.html",
    } <= made
    assert {"top_clinic", "top_genomic", "attention.geojson"} <= made
    session.close_slide()
    session.open_case(case)
    qtbot.waitUntil(lambda: session.result is not None and session.can_ask, timeout=WAIT_MS)
    assert session.result.shown.risk == risk
    assert dock.maps.threshold.value() == 75
    # The same folder as a cohort of one.
    dock.cohort.open_folder(out)
    qtbot.waitUntil(lambda: len(dock.cohort.cases) == 1, timeout=WAIT_MS)
    assert dock.cohort.cases[0].risk == pytest.approx(risk)
    qtbot.waitUntil(lambda: not session.busy, timeout=WAIT_MS)
