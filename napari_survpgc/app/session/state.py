"""What a session holds and says: the open slide, the expression, the result, a message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.bundle.answer import answer_of
from napari_survpgc.core.bundle.bundle import Bundle, load_bundle
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.output.case_file import SavedCase
from napari_survpgc.core.slide.slide import Slide, open_slide
from napari_survpgc.core.slide.tiles import TileCache
from napari_survpgc.core.tissue.stain import StainCheck, check_stain
from napari_survpgc.core.types import ExpressionProfile, Prediction
from napari_survpgc.core.user_folder import remembered_mpp
from napari_survpgc.resources import resource_path


class Severity(StrEnum):
    """How much a message matters."""

    DONE = "done"
    NOTE = "note"
    ERROR = "error"


@dataclass(frozen=True)
class Message:
    """One sentence for the user; ``details`` go behind a button."""

    text: str
    severity: Severity
    details: str = ""


@dataclass(frozen=True)
class OpenedSlide:
    """An open slide with its tiles, and whether its colors are those of H&E."""

    slide: Slide
    tiles: TileCache
    stain: StainCheck

    def close(self) -> None:
        self.tiles.close()
        self.slide.close()


@dataclass(frozen=True)
class ExpressionState:
    """The expression file and how well it fits the model.

    Attributes
    ----------
    overlap : share of the model's genes that were found, 0-1; None when the model uses none.
    problem : why it cannot be used with this model, or "".
    """

    profile: ExpressionProfile
    overlap: float | None
    note: str
    problem: str = ""


@dataclass(frozen=True)
class Result:
    """What is shown: the prediction of the record as entered, and the changed one while asking what if.

    Attributes
    ----------
    anyway : somebody asked to see a risk that the model should not be asked for.
    """

    original: Prediction
    shown: Prediction
    maps: AttentionMaps
    anyway: bool = False

    @property
    def withheld(self) -> bool:
        """The case is outside what the model knows: risk, group and curve are not shown."""
        found = answer_of(self.shown)
        return found is not None and not found.answered and not self.anyway

    @property
    def changed(self) -> bool:
        return self.shown is not self.original


def open_with_tiles(path: Path, mpp: float | None = None) -> OpenedSlide:
    """Open a slide; one without pixel size gets the one that a person gave for it before."""
    slide = open_slide(path, mpp=mpp)
    if slide.info.mpp is None:
        known = remembered_mpp(slide.info.fingerprint)
        if known is not None:
            slide.close()
            slide = open_slide(path, mpp=known)
    tiles = TileCache(slide)
    # napari shows the coarsest level at once, on the GUI thread: it must be there by then.
    last = len(slide.info.levels) - 1
    picture = tiles.region(last, 0, 0, *slide.info.levels[last].size)
    return OpenedSlide(slide, tiles, check_stain(picture))


def word(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


def bundle_of(case: SavedCase) -> Bundle | None:
    for place in (case.bundle, resource_path("demo_bundle")):
        try:
            bundle = load_bundle(place)
        except BundleError:
            continue
        if bundle.fingerprint == case.bundle_fingerprint:
            return bundle
    return None


@dataclass(frozen=True)
class GivenFeatures:
    """A feature file that the user chose for the open slide; ``encoder`` is "" where the file does not say."""

    path: Path
    patches: int
    encoder: str
