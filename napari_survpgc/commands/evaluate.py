"""``survpgc evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import numbers, positive, positive_int

HELP = "finished runs -> C-index, AUC(t), Brier, calibration, Kaplan-Meier; runs compared"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folders",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folders made by 'survpgc train'; the first is compared with each of the others",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write CSV, Markdown, HTML and figures there"
    )
    parser.add_argument(
        "--horizons",
        type=numbers,
        default=(12.0, 36.0, 60.0),
        metavar="12,36,60",
        help="months of AUC(t) and calibration (default: 12,36,60)",
    )
    parser.add_argument(
        "--tau", type=positive, default=60.0, help="months at which Uno's C and Brier end (default: 60)"
    )
    parser.add_argument(
        "--resamples", type=positive_int, default=1000, help="of the bootstrap (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.training.run_report import evaluate_runs
    from napari_survpgc.training.tables.table_writer import OPTIMISTIC, write_product

    product, optimistic = evaluate_runs(
        options.run_folders,
        horizons=options.horizons,
        tau=options.tau,
        resamples=options.resamples,
        seed=options.seed,
    )
    print(product.list_text())
    if optimistic:
        print(OPTIMISTIC)
    if options.out is not None:
        files = write_product(product, "evaluation", options.out, optimistic=optimistic)
        print("Files:", *(f"  {path}" for path in files), sep="\n")
    return 0
