"""Take the README's pictures of the window: ``make screenshots`` (about four minutes).

Draws simulated patients, runs them in the window and writes one PNG a scene beside this file; nothing of a real patient
is ever in them. ``--theme light`` and ``--size 1600x1000`` show the same scenes otherwise (for looking, not committed).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
LARGEST_BYTES = 390_000
SCENES = ("empty", "running", "result", "patches", "what_if", "cohort", "compare")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--size", default="1280x800")
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SURVPGC_CACHE"] = str(Path(folder) / "cache")
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        return _take(Path(folder), options.out, options.theme, (width, height))


def _take(folder: Path, out: Path, theme: str, size: tuple[int, int]) -> int:
    from napari.settings import get_settings
    from PIL import Image
    from qtpy.QtWidgets import QApplication

    from napari_survpgc.app.entry.launch import open_window
    from napari_survpgc.app.views.cohort.compare import CompareControls
    from napari_survpgc.core.bundle.bundle import load_bundle
    from napari_survpgc.core.jobs.batch import predict_batch, read_batch
    from napari_survpgc.resources import resource_path
    from napari_survpgc.simulation.cohort import (
        DEMO_INDEX,
        DEMO_SEED,
        DEMO_SLIDE_PX,
        simulate_case,
        simulate_cohort,
    )

    case = simulate_case(folder / "patient", seed=DEMO_SEED, index=DEMO_INDEX, slide_px=DEMO_SLIDE_PX)
    simulate_cohort(folder / "cohort", patients=10, seed=11, slide_px=(3072, 2560), workers=2)
    items, _ = read_batch(
        folder / "cohort" / "patients.csv",
        folder / "cohort" / "slides",
        folder / "cohort" / "expression.csv.gz",
    )
    predict_batch(items[:6], load_bundle(resource_path("demo_bundle")), folder / "results")
    (folder / "results" / "patients.csv").write_bytes((folder / "cohort" / "patients.csv").read_bytes())

    get_settings().appearance.theme = theme
    viewer, dock = open_window()
    session = dock.session
    problems: list[str] = []
    session.message.connect(lambda message: problems.append(message.text) if message.details else None)

    def until(condition: Callable[[], object], then: float = 1.0, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not condition():
            QApplication.processEvents()
            time.sleep(0.01)
            if time.monotonic() > end:
                raise TimeoutError("the window did not get there")
        end = time.monotonic() + then
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)

    def shoot(name: str, window: object = None) -> None:
        path = out / f"{name}.png"
        (window or viewer).window.screenshot(str(path), flash=False)  # type: ignore[attr-defined]
        # Few colors: a third of the size, and nobody sees it in a README.
        picture = Image.open(path).convert("RGB")
        for colors in (256, 192, 128, 96, 64):
            few = picture.quantize(colors, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            few.save(path, optimize=True)
            if path.stat().st_size <= LARGEST_BYTES:
                break

    viewer.window.resize(*size)
    until(lambda: session.bundle is not None, 8)
    shoot("empty")
    session.open_slide(case.slide)
    until(lambda: session.opened is not None)
    dock.patient.load_record(case.clinical)
    dock.patient.load_expression(case.expression)
    until(lambda: session.expression is not None and session.record.age is not None)
    session.run()
    dock.show_section("Run")
    until(lambda: dock.run._stage == "features" and dock.run.bar.value() > 40, 0.3)
    shoot("running")
    until(lambda: session.result is not None and not session.busy, 3)
    dock.show_section("Result")
    until(lambda: True, 2)
    shoot("result")
    dock.show_section("Patches")
    dock.gallery.lists["clinic"].setCurrentIndex(dock.gallery.models["clinic"].index(2))
    until(lambda: not session.busy, 3)
    shoot("patches")
    dock.layers.camera.fit()
    dock.session.select_patch(-1)
    dock.patient.fields["stage"].setCurrentText("Stage IV")
    until(lambda: session.result is not None and session.result.changed, 2)
    dock.show_section("Result")
    until(lambda: True, 2)
    shoot("what_if")
    dock.tabs.setCurrentIndex(1)
    dock.cohort.open_folder(folder / "results")
    until(lambda: len(dock.cohort.cases) == 6 and not session.busy, 3)
    until(lambda: dock.cohort.km.canvas.image is not None, 1)
    shoot("cohort")
    ordered = sorted(dock.cohort.cases, key=lambda c: c.risk)
    dock.compare(ordered[-1], ordered[0])
    until(lambda: bool(dock.comparisons), 3)
    other = dock.comparisons[0]
    other.window.resize(*size)
    until(lambda: True, 2)
    other.reset_view()
    until(lambda: True, 3)
    controls = next(w for w in other.window.dock_widgets.values() if isinstance(w, CompareControls))
    until(lambda: controls.curves.canvas.image is not None, 2)
    shoot("compare", other)
    other.close()
    viewer.close()
    dock.end()
    for text in problems:
        print(text, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
