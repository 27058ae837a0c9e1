"""``survpgc anonymise``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_survpgc.core.errors import OutputError

from .options import ProgressBar

HELP = "results -> a copy without names, paths, ids and days"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        type=Path,
        metavar="DIR",
        help="one result, a folder of results, or those of a list of patients",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the copy")
    parser.add_argument(
        "--key",
        type=Path,
        metavar="F.csv",
        help="also write who is who, for yourself; it does not go into the copy",
    )


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.files import write_text
    from napari_survpgc.core.jobs.anonymise import SAID_FILE, anonymise, said

    if options.key is not None and options.out.resolve() in options.key.resolve().parents:
        raise OutputError("The key would lie in the copy", "Choose another place for --key")
    with ProgressBar() as progress:
        copy = anonymise(options.results, options.out, progress)
    if options.key is not None:
        write_text(options.key, copy.key)
    for name in copy.left_out[:20]:
        print(f"left out: {name}")
    if len(copy.left_out) > 20:
        print(f"left out: {len(copy.left_out) - 20} more")
    print(said(copy.patients, copy.kinds))
    print(f"{copy.files} files in {options.out} ({SAID_FILE} says the same)")
    return 0
