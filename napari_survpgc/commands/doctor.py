"""``survpgc doctor``."""

from __future__ import annotations

import argparse

from .options import demo_bundle

HELP = "what is installed, which device, what each encoder still needs"


def add_options(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.jobs.doctor import examine

    report = examine(demo_bundle())
    print(report.text())
    return 0 if report.ready else 2
