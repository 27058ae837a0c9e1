"""What a DICOM file says it is: the part of its header that tells a slide from its label, from annotations, from a CT.

Only the elements before the pixels are looked at, values are skipped without being read, and everything is bounded: a file is
no reason to allocate or to turn in circles.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

_MAX_ELEMENTS = 20_000
_MAX_DEPTH = 8
_MAX_VALUE = 4096
_LONG_VR = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_LAST = (0x0048, 0x0007)  # the size of the slide; nothing that is wanted comes behind it

_WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
_DIRECTORY = "1.2.840.10008.1.3.10"
_OTHER_CLASSES = {
    _DIRECTORY: "the directory of a DICOM medium",
    "1.2.840.10008.5.1.4.1.1.91.1": "a file of annotations of a slide (bulk simple annotations)",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation of a slide",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation of a slide",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map of a slide",
    "1.2.840.10008.5.1.4.1.1.77.1.2": "a single microscope picture, not a tiled slide",
    "1.2.840.10008.5.1.4.1.1.77.1.3": "a single microscope picture with coordinates, not a tiled slide",
    "1.2.840.10008.5.1.4.1.1.104.1": "a PDF document",
}
_CLASS_ROOTS = (
    ("1.2.840.10008.5.1.4.1.1.88.", "a report or annotations (structured report)"),
    ("1.2.840.10008.5.1.4.1.1.11.", "a presentation state"),
)
_SYNTAXES = {
    "1.2.840.10008.1.2": "implicit little endian", "1.2.840.10008.1.2.1.99": "deflated", "1.2.840.10008.1.2.2": "big endian",
    "1.2.840.10008.1.2.4.51": "12-bit JPEG", "1.2.840.10008.1.2.4.57": "lossless JPEG", "1.2.840.10008.1.2.4.70": "lossless JPEG",
    "1.2.840.10008.1.2.4.80": "JPEG-LS", "1.2.840.10008.1.2.4.81": "JPEG-LS (near lossless)", "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.110": "JPEG XL", "1.2.840.10008.1.2.4.111": "JPEG XL", "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000", "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000", "1.2.840.10008.1.2.4.92": "JPEG 2000 (multi-component)",
    "1.2.840.10008.1.2.4.93": "JPEG 2000 (multi-component)",
}  # fmt: skip
_READ_SYNTAXES = {
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
}
_COLORS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}


@dataclass(frozen=True)
class DicomHeader:
    """What one file says; empty or 0 where it does not.

    Attributes
    ----------
    path : of the file.   sop_class, syntax, series : UIDs.   kinds : the values of ImageType, upper case.
    container : the identifier of the glass.   description : of the series.   size : of the slide (or the picture), px.
    samples, bits : of a pixel, of a sample.   photometric : as DICOM calls it.   planes : focal planes.
    """

    path: Path
    sop_class: str = ""
    syntax: str = ""
    series: str = ""
    modality: str = ""
    kinds: tuple[str, ...] = ()
    container: str = field(default="", repr=False)
    description: str = ""
    size: tuple[int, int] = (0, 0)
    samples: int = 0
    bits: int = 0
    photometric: str = ""

    @property
    def is_volume(self) -> bool:
        """Whether it is a level of a slide: a tiled picture of the tissue, not of the glass."""
        return self.sop_class == _WSI and not self.glass

    @property
    def is_directory(self) -> bool:
        return self.sop_class == _DIRECTORY

    @property
    def glass(self) -> str:
        """Return "label", "overview" or "thumbnail" for a picture that goes with a slide, else ""."""
        if self.sop_class != _WSI:
            return ""
        words = {"LABEL": "label", "OVERVIEW": "overview", "LOCALIZER": "overview", "THUMBNAIL": "thumbnail"}
        return next((words[kind] for kind in self.kinds if kind in words), "")

    @property
    def what(self) -> str:
        """Return what it is in words, for what is no slide."""
        if self.glass:
            return f"the {self.glass} of a slide"
        if self.sop_class in _OTHER_CLASSES:
            return _OTHER_CLASSES[self.sop_class]
        for root, name in _CLASS_ROOTS:
            if self.sop_class.startswith(root):
                return name
        return f"a DICOM file of another kind ({self.modality or 'no modality'}), not a slide"

    @property
    def not_read(self) -> str:
        """Return why its pixels are not read, "" where they are."""
        if self.bits and self.bits != 8:
            return f"has {self.bits}-bit {'gray' if self.samples == 1 else 'color'} pixels"
        if self.samples == 1 or self.photometric in ("MONOCHROME1", "MONOCHROME2"):
            return "is gray (one channel: fluorescence, or a scan without color)"
        if self.photometric and self.photometric not in _COLORS:
            return f"has {self.photometric.lower().replace('_', ' ')} pixels instead of RGB"
        if self.syntax and self.syntax not in _READ_SYNTAXES:
            return f"is stored as {_SYNTAXES.get(self.syntax, self.syntax)}, which is not read"
        return ""


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its mark. Never raises; a pipe or device is none."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> DicomHeader | None:
    """Return what a DICOM file says, None for another file. What cannot be read of a damaged header is left out."""
    if not is_dicom(path):
        return None
    found: dict[tuple[int, int], bytes] = {}
    with path.open("rb") as stream:
        stream.seek(132)
        reader = _Reader(stream, path.stat().st_size, found)
        # A header cut short says what stands before the cut; OpenSlide refuses the file.
        with contextlib.suppress(struct.error, ValueError, OverflowError):
            reader.run()

    def text(group: int, element: int) -> str:
        return found.get((group, element), b"").decode("utf-8", "replace").strip(" \0")

    def number(group: int, element: int, letter: str) -> int:
        raw = found.get((group, element), b"")
        width = struct.calcsize(letter)
        return int(struct.unpack(f"<{letter}", raw[:width])[0]) if len(raw) >= width else 0

    size = number(0x48, 6, "I"), number(0x48, 7, "I")
    return DicomHeader(
        path,
        sop_class=text(8, 0x16) or text(2, 2),
        syntax=text(2, 0x10),
        series=text(0x20, 0xE),
        modality=text(8, 0x60),
        kinds=tuple(part.strip().upper() for part in text(8, 8).split("\\")),
        container=text(0x40, 0x512),
        description=text(8, 0x103E),
        size=size if all(size) else (number(0x28, 0x11, "H"), number(0x28, 0x10, "H")),
        samples=number(0x28, 2, "H"),
        bits=number(0x28, 0x100, "H"),
        photometric=text(0x28, 4).upper(),
    )


class _Reader:
    """Goes through the elements of a file, keeping the short values of the outermost ones."""

    def __init__(self, stream: BinaryIO, size: int, found: dict[tuple[int, int], bytes]) -> None:
        self._stream, self._size, self._found = stream, size, found
        self._left = _MAX_ELEMENTS

    def run(self) -> None:
        explicit = True
        while self._left > 0:
            at = self._stream.tell()
            tag = self._tag()
            if tag is None or tag == (0x7FE0, 0x10) or tag > _LAST:
                return
            if tag[0] > 2 and explicit:
                syntax = self._found.get((2, 0x10), b"").strip(b" \0")
                if syntax in (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2"):
                    return  # deflated or big endian: what stands behind is said by the syntax alone
                explicit = syntax != b"1.2.840.10008.1.2"
            self._stream.seek(at)
            self._element(explicit, 0)

    def _tag(self) -> tuple[int, int] | None:
        raw = self._stream.read(4)
        return struct.unpack("<HH", raw) if len(raw) == 4 else None

    def _element(self, explicit: bool, depth: int) -> tuple[int, int] | None:
        self._left -= 1
        tag = self._tag()
        if tag is None or self._left <= 0 or depth > _MAX_DEPTH:
            raise ValueError("the header ends early")
        if explicit and tag[0] != 0xFFFE:
            kind = self._stream.read(2)
            if kind in _LONG_VR:
                self._stream.read(2)
                (length,) = struct.unpack("<I", self._stream.read(4))
            else:
                (length,) = struct.unpack("<H", self._stream.read(2))
        else:
            (length,) = struct.unpack("<I", self._stream.read(4))
        if length == _UNDEFINED:
            if tag not in (_ITEM_END, _SEQUENCE_END):
                self._inside(explicit, depth + 1, _ITEM_END if tag == _ITEM else _SEQUENCE_END)
            return tag
        start = self._stream.tell()
        if start + length > self._size:
            raise ValueError("a value reaches beyond the end")
        if depth == 0 and length <= _MAX_VALUE:
            self._found.setdefault(tag, self._stream.read(length))
        self._stream.seek(start + length)
        return tag

    def _inside(self, explicit: bool, depth: int, end: tuple[int, int]) -> None:
        """Go through a sequence or item whose length is not stated, up to its end."""
        while self._element(explicit, depth) != end:
            pass
