"""Whether a slide is stained with H&E, which every model here was trained on.

Fluorescence, immunohistochemistry and inverted or gray pictures give features, maps and a risk like any other slide, and
all of them mean nothing. The check looks at the whole picture at low resolution and not at the outlined tissue: on a
dark background the outlines themselves are not to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import SurvPGCError

STAIN_WARNING = "stain_warning"
"""Attribute of a feature file whose slide is no H&E: the sentence of :func:`stain_warning`."""
_ENOUGH_PX = 200  # fewer px of anything on the glass are no ground for an opinion
_SAMPLE_PX = 250_000
_USUAL_LIGHT = 245.0


class StainKind(StrEnum):
    """What a slide looks like."""

    HE = "H&E"
    DARK = "dark background"
    BROWN = "brown"
    BLUE = "without eosin"
    GRAY = "nearly one color"
    OTHER = "other colors"


_LOOKS = {
    StainKind.DARK: "it has a dark background, as in fluorescence or in an inverted picture",
    StainKind.BROWN: "much of it is brown and there is no eosin, as in immunohistochemistry (DAB)",
    StainKind.BLUE: "it has no eosin, only blue, as the counterstain of immunohistochemistry",
    StainKind.GRAY: "it is nearly without color",
    StainKind.OTHER: "its colors are not those of hematoxylin and eosin",
}


@dataclass(frozen=True)
class StainCheck:
    """What the colors of a slide say.

    Attributes
    ----------
    kind : HE also where there is too little to tell.
    score : share (0-1) of what lies on the glass that has colors of H&E; 1 where there is too little to tell.
    sentence : why it is no H&E slide, for a person; "" for H&E.
    """

    kind: StainKind
    score: float
    sentence: str = ""

    @property
    def is_he(self) -> bool:
        return self.kind is StainKind.HE


class StainError(SurvPGCError):
    """A slide does not look like H&E, and nobody said to go on all the same; ``check`` says why."""

    def __init__(self, name: str, check: StainCheck) -> None:
        super().__init__(
            f"{name} does not look like an H&E slide: {check.sentence}",
            "Choose the H&E slide of the patient, or go on all the same with --any-stain (in the window, Run asks)",
        )
        self.name, self.check = name, check

    def __reduce__(self) -> tuple[type[StainError], tuple[str, StainCheck]]:  # type: ignore[override]
        return type(self), (self.name, self.check)


def stain_warning(name: str, check: StainCheck) -> str:
    """Return what a reader of the result must know of a slide that is no H&E; "" for H&E."""
    if check.is_he:
        return ""
    return (
        f"{name} does not look like an H&E slide ({check.sentence}) and was taken all the same: the model has never seen"
        " such a slide, and risk and maps may mean nothing."
    )


def check_stain(image: NDArray[np.uint8]) -> StainCheck:
    """Judge the colors of a slide.

    Parameters
    ----------
    image : (h, w, 3) RGB of the whole slide at some µm per px, 8 or so.
    """
    step = max(1, round((image.shape[0] * image.shape[1] / _SAMPLE_PX) ** 0.5))
    pixels = image[::step, ::step].reshape(-1, 3).astype(np.float32)
    dark = pixels.max(1) < 70
    density = np.log10((_light(pixels) + 1) / (pixels + 1))
    mean = density.mean(1)
    on_glass = density[(mean > 0.06) & (mean < 1.0) & ~dark]
    if dark.mean() > 0.4 and (len(on_glass) < _ENOUGH_PX or _shares(on_glass).he < 0.6):
        return _told(StainKind.DARK, 0.0)
    if len(on_glass) < _ENOUGH_PX:
        return StainCheck(StainKind.HE, 1.0)
    return _verdict(_shares(on_glass))


@dataclass(frozen=True)
class _Shares:
    """Shares (0-1) of what lies on the glass; all but ``gray`` and ``vivid`` are of what is neither.

    Attributes
    ----------
    gray : absorbs all colors alike: dirt, shadow, black ink, a picture without color.
    vivid : blue and green that no hematoxylin has: ink, or collagen in a trichrome stain.
    eosin, he : pink; pink and purple.   brown : DAB, melanin, hemosiderin.
    red_to_green : median density of what is not brown; eosin 0.2-0.6, hematoxylin 0.6-1.2.
    """

    gray: float
    vivid: float
    eosin: float
    he: float
    brown: float
    red_to_green: float


def _light(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the color of the light: of the brightest pixels, which are glass or a lumen, whatever the scanner's cast.

    Light is nearly white: where the brightest pixels are colored there is no glass among them, or it is no bright field.
    """
    brightness = pixels.mean(1)
    top = float(np.percentile(brightness, 98))
    if top < 90:
        return np.full(3, _USUAL_LIGHT, np.float32)
    light = np.median(pixels[brightness > top - 12], axis=0)
    if np.ptp(light) > 0.18 * light.max():
        light[:] = light.max()
    return np.asarray(light)


def _shares(density: NDArray[np.float32]) -> _Shares:
    red, green, blue = density.T
    gray = density.max(1) - density.min(1) < 0.3 * density.mean(1)
    vivid = ~gray & (red > 1.25 * green) | (red > green + 0.04) & (blue > green + 0.008)
    rest = ~gray & ~vivid
    count = max(1, int(rest.sum()))
    brown = rest & (blue > green) & (red < 0.85 * green)
    eosin = rest & (red < 0.72 * green) & (blue < 0.9 * green)
    purple = rest & (red >= 0.72 * green) & (red < 1.02 * green) & (blue < 0.9 * green)
    others = rest & ~brown
    return _Shares(
        gray=float(gray.mean()),
        vivid=float(vivid.mean()),
        eosin=float(eosin.sum()) / count,
        he=float((eosin | purple).sum()) / count,
        brown=float(brown.sum()) / count,
        red_to_green=float(np.median(red[others] / np.maximum(green[others], 0.02))) if others.any() else 1.0,
    )


def _verdict(shares: _Shares) -> StainCheck:
    """Return what the shares mean.

    Of 20 pictures with H&E (two SVS, HistoQC's, simulated) eosin has at least 0.16, he 0.8 and red_to_green at most 0.77;
    of immunohistochemistry eosin has at most 0.02.
    """
    colored = 1 - shares.gray
    score = shares.he
    if colored < 0.03:
        return _told(StainKind.GRAY, 0.0)
    if shares.vivid > 0.35:
        return _told(StainKind.OTHER, score * (1 - shares.vivid))
    if shares.brown > 0.12 and shares.eosin < 0.06:
        return _told(StainKind.BROWN, score)
    if shares.red_to_green > 0.93 and shares.eosin < 0.06:
        return _told(StainKind.BLUE, score)
    if score < 0.4:
        return _told(StainKind.OTHER, score)
    return StainCheck(StainKind.HE, score)


def _told(kind: StainKind, score: float) -> StainCheck:
    return StainCheck(kind, score, _LOOKS[kind])
