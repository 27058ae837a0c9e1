"""The slides of a folder of DICOM files: series and studies below it, what is no slide told apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_survpgc.core.errors import SeveralSlidesError, SlideError

from .dicom import DicomHeader, is_dicom, read_header

_MAX_DEPTH = 4
_MAX_FILES = 5000
_SUFFIXES = (".dcm", ".dicom", "")
_EXPORT = "Convert it to 8-bit RGB, uncompressed or in JPEG or JPEG 2000 (dcmdjpls of DCMTK for JPEG-LS, gdcmconv, wsidicomizer)"
_COLOR = "Choose the brightfield (H&E) scan in color"


@dataclass(frozen=True)
class DicomSlide:
    """One slide: a series of levels.

    Attributes
    ----------
    file : its largest level, which stands for the whole.   files : of the series, label and overview among them.
    """

    file: DicomHeader
    files: tuple[Path, ...]

    @property
    def words(self) -> str:
        """Return how it is told from others: where it lies, what its series is called, how large it is."""
        called = f"{self.file.description}, " if self.file.description else ""
        return f"{called}{self.file.size[0]} x {self.file.size[1]} px"


def dicom_files(folder: Path) -> Iterator[Path]:
    """Yield the DICOM files of a folder and, at most 4 folders deep, below it; at most 5,000 files are looked at."""
    looked = 0
    for root, folders, names in os.walk(folder):  # does not follow links to folders
        folders.sort()
        if len(Path(root).relative_to(folder).parts) >= _MAX_DEPTH:
            folders.clear()
        for name in sorted(names):
            path = Path(root, name)
            # Files of a medium are called IM000001 or 1.2.840.113: an ending that is a number is none.
            ending = path.suffix.lower()
            if ending not in _SUFFIXES and not ending[1:].isdigit():
                continue
            looked += 1
            if looked > _MAX_FILES:
                return
            if is_dicom(path):
                yield path


def holds_dicom(folder: Path) -> bool:
    """Tell whether a folder, or one below it, holds a DICOM file."""
    return next(dicom_files(folder), None) is not None


def slides_of(folder: Path) -> tuple[list[DicomSlide], list[DicomHeader]]:
    """Return the slides of a folder, and the headers of the files that are none and belong to none."""
    headers = [header for path in dicom_files(folder) if (header := read_header(path)) is not None]
    series: dict[str, list[DicomHeader]] = {}
    for header in headers:
        series.setdefault(header.series, []).append(header)
    slides, others = [], []
    for members in series.values():
        volumes = [header for header in members if header.is_volume]
        if volumes:
            largest = max(volumes, key=lambda header: header.size[0] * header.size[1])
            slides.append(DicomSlide(largest, tuple(header.path for header in members)))
        else:
            others += members
    return slides, others


def slide_in(folder: Path) -> Path:
    """Return a file of the one slide of a folder.

    Raises
    ------
    SlideError : there is none; it is said what there is instead.
    SeveralSlidesError : there are several, and one has to be named.
    """
    slides, others = slides_of(folder)
    if not slides:
        if not others:
            raise SlideError(
                f"The folder {folder.name} holds no DICOM slide",
                "Choose the folder with the .dcm files of a slide, or a slide file",
            )
        kinds = ", ".join(sorted({header.what for header in others}))
        raise SlideError(
            f"The folder {folder.name} holds no slide, only {kinds}",
            "Choose the folder with the slide's own files (VOLUME)",
        )
    if len(slides) > 1:
        choices = tuple(
            (each.file.path, f"{each.file.path.relative_to(folder)} ({each.words})") for each in slides
        )
        raise SeveralSlidesError(folder, choices)
    check_dicom(slides[0].file)
    return slides[0].file.path


def check_file(path: Path) -> Path:
    """Return the file to open for one DICOM file: itself, or for a DICOMDIR the slide of its folder.

    Raises
    ------
    SlideError : it is a label, annotations or anything else that is no slide, or its pixels are not read.
    """
    header = read_header(path)
    if header is None:
        return path
    if header.is_directory:
        return slide_in(path.parent)
    if not header.is_volume:
        beside = next(
            (
                each
                for each in slides_of(path.parent)[0]
                if header.glass and each.file.series == header.series
            ),
            None,
        )
        if beside is not None:
            header = beside.file  # a file of a slide was given: the slide is meant
        else:
            raise SlideError(
                f"{path.name} is {header.what}",
                "Choose the files of the slide itself (VOLUME), or their folder",
            )
    check_dicom(header)
    return path


def check_dicom(header: DicomHeader) -> None:
    """Raise a SlideError for a slide whose pixels are not read."""
    if header.not_read:
        raise SlideError(
            f"{header.path.name} {header.not_read}; DICOM slides in 8-bit color are read",
            _COLOR if header.samples == 1 else _EXPORT,
        )


def folder_files(folder: Path) -> list[Path]:
    """Return the files that make up the slide of a folder: all that lie with it, there or in the one folder below."""
    beside = sorted(path for path in folder.iterdir() if path.is_file())
    if any((header := read_header(path)) is not None and header.is_volume for path in beside):
        return beside
    slides, _ = slides_of(folder)
    places = {path.parent for path in slides[0].files} if len(slides) == 1 else {folder}
    if len(places) > 1:
        return sorted(slides[0].files)
    return sorted(path for path in places.pop().iterdir() if path.is_file())
