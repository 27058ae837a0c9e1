"""``survpgc bundle``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "run folder -> bundle that predict and the app open"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder made by 'survpgc train'")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle folder")
    parser.add_argument("--name", help="name shown to the user (default: cohort and model)")


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.training.runs.bundling import make_bundle

    bundle = make_bundle(options.run_folder, options.out, name=options.name)
    print(f"Bundle '{bundle.config.name}' with {len(bundle.fold_files)} fold models in {options.out}")
    return 0
