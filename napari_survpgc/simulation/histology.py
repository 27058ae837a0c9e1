"""What a simulated section consists of: regions, histology, stains."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

MPP = 0.5


COARSE = 16
"""The class map is drawn at 1/16 of the full resolution (8 µm per px)."""


STAIN_H = np.array([0.650, 0.704, 0.286], np.float32)


STAIN_E = np.array([0.115, 0.930, 0.330], np.float32)


STAIN_BLOOD = np.array([0.130, 0.860, 0.620], np.float32)


class Region(IntEnum):
    """What a place on the slide is; the values of the truth map."""

    GLASS = 0
    STROMA = 1
    TUMOR = 2
    LYMPHOCYTES = 3
    NECROSIS = 4
    FAT = 5
    VESSEL = 6
    NORMAL_GLANDS = 7
    ARTEFACT = 8


@dataclass(frozen=True)
class Histology:
    """What the section of one patient looks like.

    Attributes
    ----------
    grade : 0 (small regular nuclei) to 1 (large, irregular, dark nuclei with nucleoli, crowded).
    lymphocytes, necrosis : share of the tumor bed, 0 to about 0.45.
    pen, fold : draw a pen mark or a tissue fold.
    """

    grade: float
    lymphocytes: float
    necrosis: float
    pen: str | None = None
    fold: bool = False


@dataclass(frozen=True)
class Section:
    """A drawn section: (h, w, 3) uint8 at 0.5 µm per px and its (h/16, w/16) uint8 map of Region."""

    image: NDArray[np.uint8]
    regions: NDArray[np.uint8]
