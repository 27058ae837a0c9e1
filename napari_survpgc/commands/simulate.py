"""``survpgc simulate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import ProgressBar, positive_int

HELP = "a cohort with known truth: records, expression and H&E slides"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new cohort folder")
    parser.add_argument("--patients", type=positive_int, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--only", type=int, metavar="INDEX", help="one patient instead of a cohort: slide, record, expression"
    )
    parser.add_argument("--workers", type=positive_int, default=1, help="processes (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.simulation.cohort import DEMO_SLIDE_PX, simulate_case, simulate_cohort

    if options.only is not None:
        case = simulate_case(options.out, seed=options.seed, index=options.only, slide_px=DEMO_SLIDE_PX)
        print(f"Simulated patient: {case.slide}")
        return 0
    with ProgressBar() as progress:
        simulate_cohort(
            options.out,
            patients=options.patients,
            seed=options.seed,
            workers=options.workers,
            progress=progress,
        )
    print(f"{options.patients} simulated patients in {options.out}: the truth is in its folder truth")
    return 0
