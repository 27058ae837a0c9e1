"""Cut tissue into non-overlapping squares on a fixed grid."""

from __future__ import annotations

import numpy as np

from napari_survpgc.core.errors import TissueError
from napari_survpgc.core.slide.slide import require_mpp
from napari_survpgc.core.types import PatchGrid, SlideInfo, TissueMask

from .outlines import rasterize

_MASK_PX_PER_PATCH = 16


def patch_grid(
    mask: TissueMask, info: SlideInfo, *, patch_px: int = 256, mpp: float = 0.5, min_tissue: float = 0.25
) -> PatchGrid:
    """Return the squares that hold enough tissue.

    The grid starts at the slide's level-0 origin, whatever the tissue, so that the same slide always gives the same
    squares. Its step is the exact (fractional) side ``patch_px * mpp / slide mpp``; corner i lies at
    ``ceil(i * step)``, so neighbors never overlap and never lie more than one px apart.

    Parameters
    ----------
    min_tissue : least share of the square that is tissue, (0, 1].

    Returns
    -------
    PatchGrid sorted by y, then x.

    Raises
    ------
    MissingMppError : the slide has no pixel size.   TissueError : no square holds enough tissue.
    """
    slide_mpp = require_mpp(info)
    step = patch_px * mpp / slide_mpp
    if step < 1:
        raise TissueError(
            f"A patch of {patch_px} px at {mpp:g} µm is smaller than one pixel of {info.path.name}",
            "Check the pixel size of the slide",
        )
    width, height = info.size
    columns, rows = int(width / step + 1e-9), int(height / step + 1e-9)
    if columns and rows:
        coverage = rasterize(mask, step / _MASK_PX_PER_PATCH)
        needed = (rows * _MASK_PX_PER_PATCH, columns * _MASK_PX_PER_PATCH)
        coverage = np.pad(
            coverage[: needed[0], : needed[1]],
            [(0, max(0, n - have)) for n, have in zip(needed, coverage.shape, strict=True)],
        )
        blocks = coverage.reshape(rows, _MASK_PX_PER_PATCH, columns, _MASK_PX_PER_PATCH)
        keep = blocks.mean((1, 3)) >= min_tissue
        row, column = np.nonzero(keep)  # C order: by row, then column
    else:
        row = column = np.zeros(0, int)
    if len(row) == 0:
        raise TissueError(
            f"The tissue of {info.path.name} is too small for patches of {patch_px * mpp:g} µm",
            "Check the pixel size of the slide and the tissue outlines",
        )
    coords = np.stack([np.ceil(column * step - 1e-6), np.ceil(row * step - 1e-6)], 1).astype(np.int32)
    return PatchGrid(coords, patch_px, mpp, step, info.size)


def upsampling_warning(info: SlideInfo, mpp: float) -> str | None:
    """Return a sentence when patches are finer than the slide, so that nobody mistakes blur for detail."""
    if info.mpp is None or info.mpp <= 1.1 * mpp:
        return None
    return (
        f"{info.path.name} has {info.mpp:g} µm per pixel, coarser than the {mpp:g} µm that the model was trained on:"
        f" every patch is enlarged {info.mpp / mpp:.1f} times and shows no cell detail."
    )
