"""Many patients: a results folder, groups, comparison, a list of slides."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QInputDialog, QMessageBox

from napari_survpgc.app.dock import SurvPGCDock
from napari_survpgc.app.views.cohort.compare import CompareControls, load_side
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cohort import read_cohort
from napari_survpgc.core.cohort.sources import folder
from napari_survpgc.core.jobs.batch import predict_batch, read_batch
from napari_survpgc.core.jobs.cohort_risks import predict_cohort
from napari_survpgc.core.jobs.results_folder import read_results
from napari_survpgc.core.jobs.thumbnails import thumbnail_of
from napari_survpgc.core.predict.predictor import Predictor
from tests.builders import GENES, tissue_image, write_tiff

from .conftest import WAIT_MS


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Path:
    """Three patients, run as a list: patients.csv, slides/, expression.csv, results/."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "slides").mkdir()
    for number in range(3):
        write_tiff(folder / "slides" / f"S{number}.tiff", tissue_image(768, 1024, seed=number), levels=2)
    pd.DataFrame(
        {
            "case_id": ["A", "B", "C", "D"],
            "slide_ids": ["S0", "S1.tiff", "S2", "S9"],
            "age": [50, 60, 70, 80],
            "stage": ["Stage I", "Stage II", "Stage IV", ""],
            "survival_months": [40, 20, 5, 9],
            "event": [0, 1, 1, 1],
        }
    ).to_csv(folder / "patients.csv", index=False)
    pd.DataFrame({"case_id": list("ABC"), **{g: [0.1, 0.5, -0.4] for g in GENES}}).to_csv(
        folder / "expression.csv", index=False
    )
    items, problems = read_batch(folder / "patients.csv", folder / "slides", folder / "expression.csv")
    assert [item.case_id for item in items] == ["A", "B", "C"]
    assert problems[0][0] == "D"
    assert "S9" in problems[0][1]
    report = predict_batch(items, load_bundle(bundle_folder), folder / "results")
    assert report.done == ("A", "B", "C")
    shutil.copy(folder / "patients.csv", folder / "results" / "patients.csv")
    return folder


def test_a_results_folder_fills_table_curves_and_thumbnails(dock: SurvPGCDock, batch: Path, qtbot) -> None:
    panel = dock.cohort
    assert panel.of_patients.isHidden(), "groups, curves and pictures of nobody"
    panel.open_folder(batch / "results")
    qtbot.waitUntil(lambda: len(panel.cases) == 3, timeout=WAIT_MS)
    assert not panel.of_patients.isHidden()
    assert "2 deaths" in panel.facts.text()
    assert panel.sorted.rowCount() == 3
    risks = [float(panel.sorted.data(panel.sorted.index(row, 1))) for row in range(3)]
    assert risks == sorted(risks, reverse=True)
    panel.filter.setText("stage iv")
    assert panel.sorted.rowCount() == 1
    panel.filter.setText("")
    panel.cut.setCurrentText("Median")
    assert sorted(set(panel.table.groups)) == ["high", "low"]
    qtbot.waitUntil(lambda: panel.km.canvas.image is not None, timeout=WAIT_MS)
    panel.cut.setCurrentText("Threshold")
    panel.threshold.setValue(1000)
    assert set(panel.table.groups) == {"low"}  # nobody is above the highest risk: said, not crashed
    assert "Nobody with follow-up is in the group high" in panel.reason.text()
    assert "nothing to compare" in panel.reason.text()
    qtbot.waitUntil(lambda: not panel.strips["high"].item(0).icon().isNull(), timeout=WAIT_MS)


def test_the_cut_is_dragged_on_the_patients_risks(dock: SurvPGCDock, batch: Path, qtbot) -> None:
    panel = dock.cohort
    panel.open_folder(batch / "results")
    qtbot.waitUntil(lambda: len(panel.cases) == 3, timeout=WAIT_MS)
    risks = sorted(case.risk for case in panel.cases)
    panel.cut.setCurrentText("Median")
    assert panel.threshold.risk == pytest.approx(risks[1], abs=(risks[2] - risks[0]) / 500)
    strip = panel.threshold
    strip.resize(400, strip.height())
    # Between the lowest and the next risk: two of three are high.
    x = round(strip._x((risks[0] + risks[1]) / 2))
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(x, 10))
    assert panel.cut.currentText() == "Threshold"
    assert risks[0] < strip.risk < risks[1]
    assert sorted(panel.table.groups) == ["high", "high", "low"]
    assert panel.sizes.text() == "1 low, 2 high"
    qtbot.keyClick(strip, Qt.Key.Key_Home)
    assert strip.risk == pytest.approx(risks[0])


def test_thumbnails_are_the_slides_with_their_maps(batch: Path) -> None:
    (case, *_) = read_results(batch / "results")
    pixels = thumbnail_of(case, 128)
    assert pixels.shape[:2] == (96, 128)  # the slide's 768 x 1024 px, without the margins of a figure
    bare = thumbnail_of(replace(case, case_file=None, slide=batch / "slides" / "S0.tiff"), 128)
    assert bare.shape == pixels.shape
    assert np.abs(bare.astype(int) - pixels).mean() > 5
    moved = thumbnail_of(replace(case, case_file=batch / "gone.survpgc"), 128)
    assert max(moved.shape) == 128  # what was written is still there


def test_every_slide_of_a_list_that_fails_is_named(
    dock: SurvPGCDock, batch: Path, bundle_folder: Path, tmp_path: Path, qtbot
) -> None:
    table = pd.read_csv(batch / "patients.csv").iloc[2:]
    table = pd.concat([table, table.iloc[1:].assign(case_id="E", slide_ids="S8")])
    table.to_csv(tmp_path / "patients.csv", index=False)
    dock.session.load_bundle(bundle_folder)
    qtbot.waitUntil(lambda: dock.session.bundle is not None, timeout=WAIT_MS)
    with qtbot.waitSignal(dock.session.message, timeout=WAIT_MS) as caught:
        dock.cohort.patients.run_batch(tmp_path / "patients.csv", batch / "slides", None, tmp_path / "out")
    message = caught.args[0]
    assert message.text.startswith("1 patients are done, 2 are not. D:")
    assert [line[:2] for line in message.details.splitlines()] == ["D:", "E:"]
    assert [case.case_id for case in dock.cohort.cases] == ["C"]
    # The results tell of the follow-up when they are opened again, wherever the list is then.
    (again,) = read_results(tmp_path / "out")
    assert (again.months, again.event) == (5.0, 1)


def test_double_click_opens_the_patient(dock: SurvPGCDock, batch: Path, bundle_folder: Path, qtbot) -> None:
    panel = dock.cohort
    dock.session.load_bundle(bundle_folder)
    panel.open_folder(batch / "results")
    qtbot.waitUntil(lambda: len(panel.cases) == 3, timeout=WAIT_MS)
    index = panel.sorted.index(0, 0)
    panel.view.setCurrentIndex(index)
    qtbot.keyClick(panel.view, Qt.Key.Key_Return)  # the same as a double click
    case = panel._case(index)
    qtbot.waitUntil(lambda: dock.session.result is not None, timeout=WAIT_MS)
    assert dock.session.result.shown.risk == pytest.approx(case.risk)
    assert dock.session.record.age == case.record.age
    qtbot.waitUntil(lambda: not dock.session.busy, timeout=WAIT_MS)


def test_two_patients_side_by_side(dock: SurvPGCDock, batch: Path, qtbot) -> None:
    panel = dock.cohort
    panel.open_folder(batch / "results")
    qtbot.waitUntil(lambda: len(panel.cases) == 3, timeout=WAIT_MS)
    panel.view.selectRow(0)
    panel.compare_button.click()
    assert "two patients" in dock.messages.text.text()
    dock.compare(panel.cases[0], panel.cases[1])
    qtbot.waitUntil(lambda: len(dock.comparisons) == 1, timeout=WAIT_MS)
    (other,) = dock.comparisons
    assert other.canvas.grid.enabled
    assert len(other.layers) == 4
    maps = [layer for layer in other.layers if layer.name.endswith("attention")]
    assert [tuple(layer.contrast_limits) for layer in maps] == [(0, 100), (0, 100)]
    # The first patient is at the left, under its name.
    first = dock.cohort.cases[0].case_id
    assert other.layers[0].name == first
    assert other.layers[0].name_overlay.visible
    shape = other.canvas.grid.actual_shape(other.layers)
    assert other.canvas.grid.position(0, other.layers) == (0, 0)
    assert shape == (1, 2)
    controls = next(w for w in other.window.dock_widgets.values() if isinstance(w, CompareControls))
    controls.threshold.setValue(60)
    controls.opacity.setValue(30)
    assert [layer.contrast_limits[0] for layer in maps] == [60, 60]
    assert [layer.opacity for layer in maps] == pytest.approx([0.3, 0.3])
    # What is under the pointer is read from the slide that it is over.
    second = controls.sides[1]
    x, y = (float(v) + 1 for v in second.prediction.coords[3])
    mpp = second.opened.slide.info.mpp
    other.cursor.viewbox = (0, 1)
    controls._hovered(other, SimpleNamespace(position=(y * mpp, x * mpp)))
    assert controls.hover.text().startswith(f"<b>{second.name}</b>: clinic")
    percentile = float(second.maps.map("clinic").percentiles[3])
    assert f"{percentile:.1f}th percentile" in controls.hover.text()
    controls.which.setCurrentText("no map")
    assert not any(layer.visible for layer in maps)
    # A slice still under way holds the viewer, which napari's fixture then calls leaked.
    qtbot.waitUntil(lambda: all(layer.loaded for layer in other.layers), timeout=WAIT_MS)
    other.close()
    qtbot.waitUntil(lambda: not dock.comparisons)


def test_follow_up_that_is_rather_in_days_is_asked_about(
    dock: SurvPGCDock, tmp_path: Path, bundle_folder: Path, qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "patients.csv").write_text("case_id,survival_months,event\nA,900,1\nB,30,1\n")
    dock.session.load_bundle(bundle_folder)
    qtbot.waitUntil(lambda: dock.session.bundle is not None, timeout=WAIT_MS)
    asked: list[str] = []
    opened: list[bool] = []
    monkeypatch.setattr(
        "napari_survpgc.app.views.cohort.cohort_panel.QMessageBox.question",
        lambda parent, title, text: asked.append(text) or QMessageBox.StandardButton.Yes,
    )
    monkeypatch.setattr(
        "napari_survpgc.app.session.open_cohort.cohort_results",
        lambda cohort, predictor, progress: (
            opened.append(cohort.long_follow_up) or SimpleNamespace(cases=(), damaged=())
        ),
    )
    dock.cohort.open_folder(tmp_path)
    qtbot.waitUntil(lambda: opened == [True], timeout=WAIT_MS)
    assert "900 months" in asked[0]


def test_a_folder_without_results_says_what_to_choose(dock: SurvPGCDock, tmp_path: Path, qtbot) -> None:
    with qtbot.waitSignal(dock.session.message, timeout=WAIT_MS) as caught:
        dock.cohort.open_folder(tmp_path)
    assert "holds no result" in caught.args[0].text


def test_a_cohort_folder_is_predicted_from_its_features_with_all_slides_of_a_patient(
    dock: SurvPGCDock,
    batch: Path,
    bundle_folder: Path,
    tmp_path: Path,
    qtbot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cohort = tmp_path / "cohort"
    (cohort / "features").mkdir(parents=True)
    for number, case in enumerate("ABC"):
        (made,) = (batch / "results" / case / "features").glob("*.h5")
        shutil.copy(made, cohort / "features" / f"S{number}.h5")
    patients = pd.read_csv(batch / "patients.csv").iloc[:3]
    patients["slide_ids"] = ["S0", "S1", "S2"]
    patients.to_csv(cohort / "patients.csv", index=False)
    predictor = Predictor(load_bundle(bundle_folder), "cpu")
    single = {case.case_id: case.risk for case in predict_cohort(read_cohort(cohort), predictor)}
    # A slide belongs to one patient; A's second one is a copy of B's under a name of its own.
    shutil.copy(cohort / "features" / "S1.h5", cohort / "features" / "S3.h5")
    patients["slide_ids"] = ["S0;S3", "S1", "S2"]
    patients.to_csv(cohort / "patients.csv", index=False)
    dock.session.load_bundle(bundle_folder)
    qtbot.waitUntil(lambda: dock.session.bundle is not None, timeout=WAIT_MS)
    dock.cohort.open_folder(cohort)
    qtbot.waitUntil(lambda: len(dock.cohort.cases) == 3, timeout=WAIT_MS)
    both = {case.case_id: case.risk for case in dock.cohort.cases}
    assert both["B"] == pytest.approx(single["B"])
    assert both["A"] != pytest.approx(single["A"], abs=1e-9)

    # Which of the two slides is opened is asked.
    (cohort / "slides").mkdir()
    for source, name in (("S0", "S0"), ("S1", "S1"), ("S2", "S2"), ("S1", "S3")):
        shutil.copy(batch / "slides" / f"{source}.tiff", cohort / "slides" / f"{name}.tiff")
    dock.cohort.open_folder(cohort)
    qtbot.waitUntil(lambda: any(case.slides for case in dock.cohort.cases), timeout=WAIT_MS)
    case = next(case for case in dock.cohort.cases if case.case_id == "A")
    assert [slide.name for slide in case.slides] == ["S0.tiff", "S3.tiff"]
    asked: list[list[str]] = []
    monkeypatch.setattr(QInputDialog, "getItem", lambda *args: asked.append(args[3]) or ("S3.tiff", True))
    dock.cohort.open_patient(case)
    qtbot.waitUntil(lambda: dock.session.result is not None, timeout=WAIT_MS)
    assert asked == [["S0.tiff", "S3.tiff"]]
    assert dock.session.opened.slide.info.path.name == "S3.tiff"
    qtbot.waitUntil(lambda: not dock.session.busy, timeout=WAIT_MS)


def test_a_cohort_is_read_once_and_its_models_are_loaded_once(
    dock: SurvPGCDock,
    batch: Path,
    bundle_folder: Path,
    tmp_path: Path,
    qtbot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cohort = tmp_path / "cohort"
    (cohort / "features").mkdir(parents=True)
    shutil.copytree(batch / "slides", cohort / "slides")
    for number, case in enumerate("ABC"):
        (made,) = (batch / "results" / case / "features").glob("*.h5")
        shutil.copy(made, cohort / "features" / f"S{number}.h5")
    patients = pd.read_csv(batch / "patients.csv").iloc[:3].assign(slide_ids=["S0", "S1", "S2"])
    patients.to_csv(cohort / "patients.csv", index=False)
    shutil.copy(batch / "expression.csv", cohort / "expression.csv")
    read: list[Path] = []
    loaded: list[object] = []
    find, load = folder.find_expression, Predictor.__init__
    monkeypatch.setattr(
        folder, "find_expression", lambda place, *more: read.append(place) or find(place, *more)
    )
    monkeypatch.setattr(Predictor, "__init__", lambda self, *more: loaded.append(self) or load(self, *more))
    panel, session = dock.cohort, dock.session
    session.load_bundle(bundle_folder)
    qtbot.waitUntil(lambda: session.bundle is not None, timeout=WAIT_MS)
    panel.open_folder(cohort)
    qtbot.waitUntil(lambda: len(panel.cases) == 3, timeout=WAIT_MS)
    strips = panel.strips.values()
    qtbot.waitUntil(
        lambda: all(not strip.item(n).icon().isNull() for strip in strips for n in range(3)), timeout=WAIT_MS
    )
    case = panel.cases[1]
    side = load_side(case, panel.patients.predict_case())
    side.opened.close()
    panel.open_patient(case)
    qtbot.waitUntil(lambda: session.result is not None, timeout=WAIT_MS)
    assert side.prediction.risk == session.result.shown.risk == case.risk
    assert session.expression.profile.values == dict.fromkeys(GENES, 0.5)
    assert (read, len(loaded)) == ([cohort], 1)
    qtbot.waitUntil(lambda: not session.busy, timeout=WAIT_MS)
    # What changed on disk meanwhile is seen when the folder is opened again.
    patients.assign(age=[50, 61, 70]).to_csv(cohort / "patients.csv", index=False)
    panel.open_folder(cohort)
    qtbot.waitUntil(lambda: panel.cases[1].record.age == 61, timeout=WAIT_MS)
    assert (read, len(loaded)) == ([cohort] * 2, 1)
    qtbot.waitUntil(lambda: not session.busy, timeout=WAIT_MS)


def test_a_list_runs_all_slides_of_a_patient_and_asks_which_to_open(
    dock: SurvPGCDock,
    batch: Path,
    bundle_folder: Path,
    tmp_path: Path,
    qtbot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = pd.read_csv(batch / "patients.csv").iloc[:1].assign(slide_ids="S0;S1;S8")
    table.to_csv(tmp_path / "patients.csv", index=False)
    session = dock.session
    session.load_bundle(bundle_folder)
    qtbot.waitUntil(lambda: session.bundle is not None, timeout=WAIT_MS)
    with qtbot.waitSignal(session.message, timeout=WAIT_MS) as caught:
        dock.cohort.patients.run_batch(tmp_path / "patients.csv", batch / "slides", None, tmp_path / "out")
    assert "S8" in caught.args[0].text
    (case,) = dock.cohort.cases
    asked: list[list[str]] = []
    monkeypatch.setattr(QInputDialog, "getItem", lambda *args: asked.append(args[3]) or ("S1", True))
    dock.cohort.open_patient(case)
    qtbot.waitUntil(lambda: session.result is not None and session.can_ask, timeout=WAIT_MS)
    assert asked == [["S0", "S1"]]
    assert session.opened.slide.info.path.name == "S1.tiff"
    assert session.result.shown.risk == pytest.approx(case.risk)
    patches = len(session.result.shown.coords)
    dock.session.set_fields({"age": 85})
    qtbot.waitUntil(lambda: session.result.changed, timeout=WAIT_MS)
    assert len(session.result.shown.coords) == patches
    assert any("2 slides together" in warning for warning in session.result.shown.warnings)
    qtbot.waitUntil(lambda: not session.busy, timeout=WAIT_MS)
