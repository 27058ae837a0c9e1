"""What several commands share: types of options, the options of a slide, the bar that shows progress."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_survpgc.core import log

if TYPE_CHECKING:
    from tqdm import tqdm

    from napari_survpgc.core.types import JobOptions


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def pixel_size(text: str) -> float:
    """Return µm per px within what slides have; a decimal comma is taken as such."""
    from napari_survpgc.core.types import MPP_RANGE

    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = float("nan")
    if not MPP_RANGE[0] <= value <= MPP_RANGE[1]:
        raise argparse.ArgumentTypeError(
            f"{text} is no pixel size from {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g} µm (20x is about 0.5, 40x about 0.25)"
        )
    return value


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a list of numbers such as 12,24,36") from None


def slide_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that reads a slide can be told."""
    parser.add_argument(
        "--mpp-override",
        type=pixel_size,
        metavar="X",
        help="µm per px of the slide at full resolution, where the file has none or has it wrong",
    )
    parser.add_argument(
        "--tissue", type=Path, metavar="F.geojson", help="tissue outlines to use (QuPath GeoJSON)"
    )
    parser.add_argument(
        "--tissue-class",
        action="append",
        default=[],
        metavar="NAME",
        help="class of the outlines that is tissue, where they have several; may be given again; all takes every one",
    )
    parser.add_argument(
        "--any-stain",
        action="store_true",
        help="go on with a slide that does not look like H&E; the result says so",
    )
    parser.add_argument("--workers", type=positive_int, help="threads that read patches (default: chosen)")
    parser.add_argument("--batch-size", type=positive_int, help="patches a batch (default: by memory)")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (all graphics processors), cpu, cuda:0,cuda:1, mps (default: %(default)s)",
    )


def cohort_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that reads a cohort can be told."""
    parser.add_argument(
        "--long-follow-up",
        action="store_true",
        help="the follow-up is in months although the longest exceeds 400 (else it is taken for days and refused)",
    )


def job_options(options: argparse.Namespace) -> JobOptions:
    """Return how the job is done, from :func:`slide_options` and what a command has of the rest."""
    from napari_survpgc.core.types import JobOptions

    return JobOptions(
        device=options.device,
        workers=options.workers,
        batch_size=options.batch_size,
        attribution=not getattr(options, "no_attribution", False),
        any_stain=getattr(options, "any_stain", False),
    )


def demo_bundle() -> Path:
    """Return the folder of the model that comes along."""
    from napari_survpgc.resources import resource_path

    return resource_path("demo_bundle")


def print_notes(notes: Sequence[str]) -> None:
    """Say what was found out on the way, apart from the results."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


class ProgressBar:
    """A tqdm bar on stderr for each stage of the work; quiet when stderr is not a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""
        self._since = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage or self._bar is None:
            self.close()
            self._since = time.monotonic()
            self._stage = stage
            self._bar = tqdm(total=total, desc=stage, file=sys.stderr, disable=None, leave=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            log.step(
                f"step {self._stage}",
                done=f"{self._bar.n:g}/{self._bar.total:g}",
                seconds=time.monotonic() - self._since,
            )
            self._bar.close()
            self._bar = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
