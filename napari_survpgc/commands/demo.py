"""``survpgc demo``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from napari_survpgc.core.errors import OutputError

from .options import ProgressBar, demo_bundle
from .predict import summary
from .view import has_display

HELP = "the whole job on one simulated patient, with the model that comes along"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("survpgc-demo"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--headless", action="store_true", help="files only: neither a window nor a picture of one"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.bundle.bundle import load_bundle
    from napari_survpgc.core.clinical.record_file import read_record
    from napari_survpgc.core.genomics.expression_file import read_expression
    from napari_survpgc.core.jobs.one_patient import predict_case
    from napari_survpgc.core.types import Case, JobOptions
    from napari_survpgc.simulation.cohort import DEMO_INDEX, DEMO_SEED, DEMO_SLIDE_PX, simulate_case

    start = time.monotonic()
    bundle = load_bundle(demo_bundle())
    print("1. Drawing the slide of a simulated patient (once; it is kept) ...", flush=True)
    case = simulate_case(options.out / "patient", seed=DEMO_SEED, index=DEMO_INDEX, slide_px=DEMO_SLIDE_PX)
    print(f"   slide       {case.slide}\n   record      {case.clinical}\n   expression  {case.expression}")
    print("2. Tissue, patches, features, prediction ...", flush=True)
    out = options.out / "result"
    with ProgressBar() as progress:
        patient = Case(
            slides=(case.slide,),
            record=read_record(case.clinical),
            profile=read_expression(case.expression),
        )
        prediction = predict_case(patient, bundle, out, options=JobOptions(options.device), progress=progress)
    print(summary(prediction, out))
    print(f"Done in {time.monotonic() - start:.0f} s. The same by hand:")
    print(
        f"  survpgc predict {case.slide} --clinical {case.clinical} --expression {case.expression} --out {out}"
    )
    return 0 if options.headless else _show_demo(out / "case.survpgc", out / "window.png")


def _show_demo(case: Path, picture: Path) -> int:
    """Open the result in the window; without a display draw the window on a virtual one and keep its picture."""
    import importlib.util
    import shutil
    import subprocess

    if importlib.util.find_spec("napari") is None:
        print('The window is not installed: pip install "napari-survpgc[app]", then: survpgc view', case)
        return 0
    if has_display():
        print(f"Opening the window; later: survpgc view {case}", flush=True)
        from napari_survpgc.app.entry.launch import view

        return view(case)
    xvfb = shutil.which("xvfb-run")
    if xvfb is None:
        print(f"There is no display, so no window; on a desktop: survpgc view {case}")
        return 0
    print("There is no display: the window is drawn on a virtual one ...", flush=True)
    line = [xvfb, "-a", "-s", "-screen 0 1600x1000x24", sys.executable, "-m", "napari_survpgc.cli", "view"]
    done = subprocess.run(
        [*line, str(case), "--screenshot", str(picture)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode or not picture.is_file():
        reason = done.stderr.strip().splitlines()
        raise OutputError(
            f"The window could not be drawn ({reason[-1] if reason else done.returncode})",
            f"Run 'survpgc demo --headless', or 'survpgc view {case}' on a desktop",
        )
    print(f"Picture of the window: {picture}")
    return 0
