"""``survpgc weights``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_survpgc.core.errors import SurvPGCError

from .options import ProgressBar

HELP = "what each encoder needs; fetch or put in place the weights of one"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "encoder",
        nargs="?",
        metavar="ID",
        help="uni, conch, scfoundation, hf:<owner>/<name>, timm:<model> ...",
    )
    parser.add_argument(
        "--kind",
        choices=("image", "text", "gene"),
        help="where an id stands for several; of a hub's id 'text' for sentences (default: image)",
    )
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        type=Path,
        metavar="F",
        help="use this file instead of downloading it (may be repeated)",
    )


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.encoders.status import Readiness, encoder_statuses, kinds_of
    from napari_survpgc.core.encoders.weight_files import fetch_weights, keep_files
    from napari_survpgc.core.encoders.weights.weights import weights_folder

    if options.encoder is None:
        if options.file:
            raise SurvPGCError("--file does not say of which encoder", "Write 'survpgc weights ID --file F'")
        for status in encoder_statuses():
            print(status.line())
        print(f"Files are looked for in {weights_folder()} and in the cache of the Hugging Face hub.")
        return 0
    if options.file:
        kept = keep_files(options.encoder, options.file, options.kind)
        print(f"{', '.join(kept)} kept for {options.encoder} in {weights_folder()}")
    else:
        for status in encoder_statuses(kinds_of(options.encoder, options.kind)):
            if status.readiness is not Readiness.READY:
                print(f"{status.title}: {status.licence} ({status.page})")
        with ProgressBar() as progress:
            fetch_weights(options.encoder, options.kind, progress)
    for status in encoder_statuses(kinds_of(options.encoder, options.kind)):
        print(status.line())
    return 0
