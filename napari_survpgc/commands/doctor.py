"""``survpgc doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import demo_bundle

HELP = "what is installed, which device, what each encoder still needs"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report",
        nargs="?",
        type=Path,
        const=Path("survpgc-report.txt"),
        metavar="FILE",
        help="also write versions, device, settings and the end of the log into a file to send to who helps; it holds"
        " nothing of patients (default: survpgc-report.txt; - for the screen)",
    )


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.files import write_text
    from napari_survpgc.core.jobs.doctor import examine, support_report

    report = examine(demo_bundle())
    place = options.report
    if place is not None and str(place) == "-":
        print(support_report(report), end="")
        return 0 if report.ready else 2
    print(report.text())
    if place is not None:
        write_text(place, support_report(report))
        print(f"\nReport for support: {place}")
    return 0 if report.ready else 2
