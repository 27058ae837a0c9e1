"""``survpgc reproduce``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_survpgc.training.experiments import EXPERIMENTS, find_experiment

from .options import ProgressBar, cohort_options, positive_int, print_notes

HELP = "a table or figure of the paper: cohort folder -> CSV, Markdown, HTML, figures"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="WHAT", help=", ".join(EXPERIMENTS))
    parser.add_argument("cohort", type=Path, metavar="COHORT", help="cohort folder (see README)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the files and runs/")
    parser.add_argument(
        "--protocol",
        choices=("honest", "published"),
        help="honest (default): the test fold is never looked at; published: best epoch on it, marked optimistic",
    )
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="F.toml",
        help="settings for all systems, and under [systems.NAME] for one",
    )
    parser.add_argument(
        "--processes", type=positive_int, default=1, help="folds trained at once (default: 1)"
    )
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument("--epochs", type=positive_int, metavar="N", help="default: 20, as published")
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="runs to use again and to add to (default: <out>/runs)"
    )
    parser.add_argument("--systems", metavar="NAME,...", help="only these systems (default: all)")
    parser.add_argument(
        "--slides", type=Path, metavar="DIR", help="slide files for fig4 (default: COHORT/slides)"
    )
    parser.add_argument(
        "--scaling",
        choices=("fold", "cohort"),
        help="genes against the training patients of the fold (default), or against the whole cohort as published",
    )
    parser.add_argument(
        "--colors",
        choices=("cividis", "red-blue"),
        default="cividis",
        help="maps of fig4: cividis (default), or red-blue as in the paper",
    )
    parser.add_argument("--device", help="default: auto")
    cohort_options(parser)


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.cohort.read import read_cohort
    from napari_survpgc.training.reproduce import reproduce

    find_experiment(options.experiment)  # a wrong name is said before the cohort is read
    cohort = read_cohort(options.cohort, open_features=True, long_follow_up=options.long_follow_up)
    print_notes(cohort.notes)
    with ProgressBar() as progress:
        product, files = reproduce(
            options.experiment,
            cohort,
            options.out,
            settings_file=options.settings,
            runs=options.runs,
            processes=options.processes,
            systems=options.systems.split(",") if options.systems else None,
            slides=options.slides,
            colors=options.colors,
            progress=progress,
            protocol=options.protocol,
            scaling=options.scaling,
            seed=options.seed,
            epochs=options.epochs,
            device=options.device,
        )
    print(product.text())
    print("Files:", *(f"  {path}" for path in files), sep="\n")
    return 0
