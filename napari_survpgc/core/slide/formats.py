"""The slide formats: the one list that dialogs, drop, napari's manifest and the README follow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_survpgc.core.names import file_names

from .not_read import NOT_READ_SUFFIXES


@dataclass(frozen=True)
class SlideFormat:
    """A format that OpenSlide or tiffslide reads.

    Attributes
    ----------
    suffixes : lower case.   only_slides : nothing but scanners writes files of that ending; a .tif may be anything.
    """

    name: str
    suffixes: tuple[str, ...]
    only_slides: bool = True


FORMATS = (
    SlideFormat("SVS", (".svs",)),
    SlideFormat("NDPI", (".ndpi",)),
    SlideFormat("MRXS", (".mrxs",)),
    SlideFormat("SCN", (".scn",)),
    SlideFormat("BIF", (".bif",)),
    SlideFormat("SVSLIDE", (".svslide",)),
    SlideFormat("VMS", (".vms",)),
    SlideFormat("VMU", (".vmu",)),
    SlideFormat("CZI", (".czi",)),
    SlideFormat(
        "tiled and OME pyramidal TIFF", (".tif", ".tiff", ".btf", ".tf8", ".qptiff"), only_slides=False
    ),
    SlideFormat("DICOM (file or folder)", (".dcm", ".dicom"), only_slides=False),
)
SLIDE_SUFFIXES = tuple(suffix for each in FORMATS for suffix in each.suffixes)
SCANNER_SUFFIXES = tuple(suffix for each in FORMATS if each.only_slides for suffix in each.suffixes)
FORMAT_NAMES = ", ".join(each.name for each in FORMATS)
DIALOG_FILTER = f"Slides ({' '.join(f'*{suffix}' for suffix in SLIDE_SUFFIXES)});;All files (*)"


def without_suffix(slide_id: str) -> str:
    """Return an id without the ending of a slide file; a dot in an id (A.1) is no ending."""
    lower = slide_id.lower()
    return next((slide_id[: -len(s)] for s in SLIDE_SUFFIXES if lower.endswith(s)), slide_id)


def find_slide(folder: Path, slide_id: str) -> Path | None:
    """Return the slide file of that id in a folder, whatever its format, or None."""
    if not folder.is_dir():
        return None
    stem = without_suffix(slide_id)
    files = [path for path in sorted(folder.iterdir()) if path.stem == stem]
    folders = [place for name in file_names(stem) if (place := folder / name).is_dir()]
    read = [path for path in files if path.suffix.lower() in SLIDE_SUFFIXES]
    not_read = [path for path in files if path.suffix.lower() in NOT_READ_SUFFIXES]
    # Opening one that is not read says what to export.
    return next(iter([*read, *folders, *not_read]), None)
