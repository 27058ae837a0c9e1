"""The best patches of a path as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.cells import csv_text
from napari_survpgc.core.errors import OutputError
from napari_survpgc.core.files import atomic_folder
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import Prediction

PATCH_PX = 256
GALLERY_FILES = ("patches.csv", "rank_*.png")
IN_REPORT = 10


def write_gallery(
    folder: Path,
    prediction: Prediction,
    slide: Slide,
    scores: NDArray[np.floating],
    percentile: NDArray[np.floating],
    indices: NDArray[np.int64],
    ranks: Sequence[int] | None = None,
) -> Gallery:
    """Write patches as PNG with patches.csv into a folder that is made, or replaced when it is complete.

    Parameters
    ----------
    scores, percentile : (n_p,).   indices : patches to write.   ranks : their ranks (default: 1, 2, ...).

    Raises
    ------
    OutputError : disk full, no permission; an earlier folder is then untouched.
    """
    images, shown = [], []
    with atomic_folder(folder) as place:
        rows = []
        for number, index in enumerate(indices):
            rank = ranks[number] if ranks is not None else number + 1
            x, y = (int(v) for v in prediction.coords[index])
            pixels = slide.read_square(x, y, prediction.patch_px_level0, PATCH_PX)
            Image.fromarray(pixels).save(place / f"rank_{rank:02d}_x{x}_y{y}.png")
            rows.append((rank, x, y, float(scores[index]), float(percentile[index])))
            if number < IN_REPORT:
                images.append(pixels)
                shown.append(float(percentile[index]))
        table = csv_text(("rank", "x", "y", "score", "percentile"), rows)
        (place / "patches.csv").write_bytes(table.encode())
        if folder.is_dir():
            _only_patches(folder)
    return Gallery(images, shown)


def _only_patches(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but an earlier gallery."""
    other = [p.name for p in folder.iterdir() if not any(p.match(ours) for ours in GALLERY_FILES)]
    if other:
        raise OutputError(
            f"The folder {folder} holds other files ({other[0]}) and was not replaced",
            "Choose another folder",
        )


@dataclass(frozen=True)
class Gallery:
    """The best patches of one path: images (256 px) with rank order and percentile."""

    images: Sequence[NDArray[np.uint8]]
    percentiles: Sequence[float]
