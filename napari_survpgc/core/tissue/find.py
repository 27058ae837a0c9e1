"""Where the tissue is: a mask at about 8 µm per px, kept as outlines that a person can edit.

A pixel is tissue when it is stained (chroma of H&E) or dense and textured, and neither ink nor shadow; the colors are
those of :mod:`.colors`. All lengths are physical, and every step costs as much as there are pixels of 8 µm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_survpgc.core.errors import TissueError
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import ProgressCallback, TissueMask

from .binary import closed, dilated, grown_square, opened, opened_by_line, opened_by_square, without_small
from .colors import Ink, PixelKinds, Surely, pixel_kinds
from .outlines import mask_polygons
from .overview import Overview, slide_overview
from .stain import StainCheck, StainKind

METHOD = "survpgc-2"
_METHOD_ANY = "survpgc-any-1"
_ANY_NOTE = "The tissue was outlined by its brightness alone, since the slide does not look like H&E: check the outlines."
_LEAST_CONTRAST = 12  # of 255: less is an empty picture
_SPECK_UM2 = 4.0e4  # tissue pieces below 0.2 mm x 0.2 mm are dust
_HOLE_UM2 = 2.5e5  # holes below 0.5 mm x 0.5 mm (fat, lumina, tears) belong to the tissue
_STROKE_UM = 32.0  # narrower marks are no ink but pigment, blood or a fold
_FADING_UM = 400.0  # ink this far from the middle of a mark is a part of it
_EDGE_UM = 40.0  # ink fades out over this length
_LINE_UM, _LINE_LENGTH_UM = 64.0, 2000.0  # a coverslip's edge is thinner and longer


def find_tissue(
    slide: Slide,
    *,
    um_per_px: float = 8.0,
    picture: Overview | None = None,
    stain: StainCheck | None = None,
    progress: ProgressCallback | None = None,
) -> TissueMask:
    """Outline the tissue of a slide.

    Parameters
    ----------
    um_per_px : resolution of the mask; without a pixel size the mask has about 2,000 px on its longer side.
    stain : of a slide that is no H&E, whose tissue is found by brightness alone; None takes it for H&E.
    picture : the slide as :func:`slide_overview` reads it, where it was read before.

    Raises
    ------
    TissueError : there is no tissue.   SlideError : the slide is damaged.
    """
    if progress:
        progress("tissue", 0, 1)
    info = slide.info
    picture = picture or slide_overview(slide, um_per_px)
    method, notes = METHOD, list[str]()
    if stain is None or stain.is_he:
        mask = tissue_pixels(picture.image, picture.px_um)
    else:
        method = _METHOD_ANY
        notes.append(_ANY_NOTE)
        mask = any_tissue_pixels(picture.image, picture.px_um, on_dark=stain.kind is StainKind.DARK)
    polygons = mask_polygons(mask, picture.downsample, info.size)
    if progress:
        progress("tissue", 1, 1)
    if not polygons:
        raise TissueError(
            f"No tissue was found on {info.path.name}",
            "Check that it is an H&E slide, or outline the tissue yourself and give the outlines (--tissue F.geojson)",
        )
    return TissueMask(polygons, info.size, method, tuple(notes))


def tissue_pixels(image: NDArray[np.uint8], px_um: float) -> NDArray[np.bool_]:
    """Return the (h, w) tissue mask of a low-resolution RGB image.

    Parameters
    ----------
    px_um : µm per px of the image, for the sizes of specks and holes, strokes and lines.
    """
    kinds = pixel_kinds(image)
    ink = _ink(kinds, px_um)
    mask = kinds.stained & ~ink
    mask &= ~_straight_lines(mask, kinds.pale, px_um)
    mask = closed(mask, max(1, round(16 / px_um)))
    mask = opened(mask & ~ink, 1)
    mask = without_small(mask, _SPECK_UM2 / px_um**2, _HOLE_UM2 / px_um**2)
    # A stroke within the tissue may be as small as a hole, and is none.
    return mask & ~ink


def any_tissue_pixels(image: NDArray[np.uint8], px_um: float, *, on_dark: bool) -> NDArray[np.bool_]:
    """Return the (h, w) mask of whatever lies on the background of a picture that is no H&E, ink and dirt included.

    Parameters
    ----------
    on_dark : the background is dark, as in fluorescence, and what lies on it bright.
    """
    content = image.max(2) if on_dark else 255 - image.min(2)
    smooth = ndimage.uniform_filter(content.astype(np.float32), 3)
    if np.ptp(smooth) < _LEAST_CONTRAST:
        return np.zeros(smooth.shape, bool)
    between = threshold_otsu(smooth)
    background = float(np.median(smooth[smooth <= between]))
    # Halfway would keep the brightest nuclei alone: what lies between them is tissue too.
    mask = closed(smooth > background + max(6.0, 0.3 * (between - background)), max(1, round(32 / px_um)))
    return without_small(opened(mask, 1), _SPECK_UM2 / px_um**2, _HOLE_UM2 / px_um**2)


def _ink(kinds: PixelKinds, px_um: float) -> NDArray[np.bool_]:
    """Return felt-tip marks: their sure middle, the fading ink that lies beside it, and their edge."""
    ink = np.zeros(kinds.flags.shape, bool)
    for kind in Ink:
        broad = opened(kinds.ink(kind, Surely.MIDDLE), max(1, round(_STROKE_UM / 2 / px_um)))
        if broad.any():  # smaller is pigment or blood
            # Where there is a mark, thin and dry strokes are of the same pen.
            strokes = opened(kinds.ink(kind, Surely.LIKELY), 1)
            near = grown_square(strokes, round(_FADING_UM / px_um)) & kinds.ink(kind, Surely.BESIDE)
            ink |= dilated(broad, max(1, round(_EDGE_UM / px_um))) | dilated(opened(near, 1), 2)
    return ink


def _straight_lines(mask: NDArray[np.bool_], pale: NDArray[np.bool_], px_um: float) -> NDArray[np.bool_]:
    """Return coverslip edges: long thin straight pieces along the rows or columns of the scan."""
    thick = opened_by_square(mask, 2 * round(_LINE_UM / 2 / px_um) + 1)
    length = max(2, round(_LINE_LENGTH_UM / px_um))
    lines = opened_by_line(mask, length, 0) | opened_by_line(mask, length, 1)
    return dilated(lines & ~thick, 2) & pale
