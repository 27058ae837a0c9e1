"""Open a slide file with OpenSlide or, where that cannot, with tiffslide or tifffile; and name a file by its content.

The libraries share one interface; what differs (exceptions, property names, coordinates) ends here.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from napari_survpgc.core.errors import SlideError

from .dicom_folder import check_file, folder_files, slide_in
from .formats import FORMAT_NAMES, SLIDE_SUFFIXES
from .not_read import refuse_not_read
from .pixel_kinds import EXPORT, check_pictures, check_tiff, compression_name, main_page
from .plain_tiff import LARGE_SEGMENT, PlainTiff
from .tiff import TiffPage, read_pages

_NOT_A_SLIDE = f"Choose a slide file ({FORMAT_NAMES})"
_FLAT_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF")
_UNSUPPORTED = re.compile(r"unsupported|not supported|!= |can't handle|unknown compression", re.IGNORECASE)
_GENERIC = ("", "generic-tiff", "generic", "unknown")
_YCBCR, _JPEG = 6, (7, 33007)


@dataclass(frozen=True)
class Handle:
    """An open file of either library.

    Attributes
    ----------
    slide : openslide.OpenSlide, tiffslide.TiffSlide or PlainTiff.
    backend : "openslide", "tiffslide" or "tifffile".   path : the file that was opened (a file of a DICOM folder).
    pages : of a TIFF.
    """

    slide: Any
    backend: str
    path: Path
    pages: tuple[TiffPage, ...] = ()

    @property
    def properties(self) -> Mapping[str, str]:
        return {str(k): str(v) for k, v in self.slide.properties.items() if v is not None}

    @property
    def vendor(self) -> str:
        properties = self.properties
        return properties.get("openslide.vendor") or properties.get("tiffslide.vendor") or ""

    def read(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        """Read part of a stored level, ``x``, ``y`` in level-0 px; what lies outside is transparent."""
        if self.backend == "openslide":
            image: Image.Image = self.slide.read_region((x, y), level, size)
            return image
        downsample = self.slide.level_downsamples[level]
        return self._inside(int(x / downsample), int(y / downsample), level, size)

    def read_level(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        """Read part of a stored level as the file has it, ``x``, ``y`` in px of that level."""
        if self.backend == "openslide":
            # Level-0 px are all that OpenSlide takes: where they fall between px of the level, it resamples by less than half a px.
            downsample = self.slide.level_downsamples[level]
            image: Image.Image = self.slide.read_region(
                (round(x * downsample), round(y * downsample)), level, size
            )
            return image
        return self._inside(x, y, level, size)

    def _inside(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        width, height = self.slide.level_dimensions[level]
        left, top = min(max(x, 0), width), min(max(y, 0), height)
        right, bottom = min(max(x + size[0], left), width), min(max(y + size[1], top), height)
        part = (right - left, bottom - top)
        if part == size:
            return self._part(left, top, level, part)
        image = Image.new("RGBA", size)
        if min(part) > 0:
            image.paste(self._part(left, top, level, part), (left - x, top - y))
        return image

    def _part(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        if isinstance(self.slide, PlainTiff):
            return self.slide.read_level(x, y, level, size)
        downsample = self.slide.level_downsamples[level]
        location = _level0(x, downsample), _level0(y, downsample)
        image: Image.Image = self.slide.read_region(location, level, size)
        return image


def _level0(place: int, downsample: float) -> int:
    """Return the level-0 px from which tiffslide, which cuts off fractions, comes to a px of a level."""
    found = math.ceil(place * downsample)
    return found if int(found / downsample) == place else found + 1


def open_handle(path: Path) -> Handle:
    """Open a slide file or a DICOM folder.

    Raises
    ------
    SlideError : missing, empty, truncated, or no slide; or its pixels are no 8-bit color.
    SeveralSlidesError : a folder of several slides.
    """
    try:
        file = _slide_file(path)
        pages = read_pages(file)
    except OSError as error:
        raise SlideError(
            f"{path} cannot be read ({error.strerror or error})", "Check its drive, and that you may read it"
        ) from error
    check_tiff(file.name, pages)
    problems = []
    for opener in (_open_openslide, _open_tiffslide, _open_plain_tiff):
        try:
            handle = opener(file, pages)
        except SlideError as error:
            problems.append(error)
            continue
        return _better(handle)
    raise _reason(file, pages, problems)


def _better(handle: Handle) -> Handle:
    """Return a handle that shows the slide's own picture and all levels of it, where a generic reader does not."""
    if not handle.pages or handle.vendor not in _GENERIC:
        return handle
    try:
        check_pictures(handle.path.name, handle.pages)
    except SlideError:
        handle.slide.close()
        raise
    size = tuple(handle.slide.level_dimensions[0])
    page = main_page(handle.pages)
    wrong = size != page.size  # the first directory may be the label
    # OpenSlide's generic driver does not see OME-TIFF's pyramid (SubIFDs); tifffile does.
    more = page.pyramid or len(handle.pages) > 1
    flat = (
        handle.backend == "openslide" and len(handle.slide.level_dimensions) == 1 and _is_ome(handle) and more
    )
    for opener in (_open_tiffslide, _open_plain_tiff) if wrong or flat else ():
        try:
            better = opener(handle.path, handle.pages)
        except SlideError:
            continue  # one level is better than none
        fits = tuple(better.slide.level_dimensions[0]) == page.size
        if fits and (wrong or len(better.slide.level_dimensions) > 1):
            handle.slide.close()
            return better
        better.slide.close()
    if wrong:
        handle.slide.close()
        raise SlideError(
            f"{handle.path.name} holds several pictures, and the slide among them is stored in a way that is not read",
            EXPORT,
        )
    return handle


def _reason(file: Path, pages: tuple[TiffPage, ...], problems: list[SlideError]) -> SlideError:
    """Return the error that helps most of what the libraries said."""
    if pages and not _decodes(page := main_page(pages)):
        kind = "as YCbCr " if page.photometric == _YCBCR else ""
        name = compression_name(page.compression)
        return SlideError(f"{file.name} is stored {kind}{name}, which is not read", EXPORT)
    return next((error for error in problems if error.next_step == EXPORT), problems[0])


def _decodes(page: TiffPage) -> bool:
    import tifffile

    if page.photometric == _YCBCR and page.compression not in _JPEG:
        return False  # tifffile gives such pixels as they are, which would be false colors
    try:
        return page.compression in tifffile.TIFF.DECOMPRESSORS
    except (KeyError, ValueError):
        return False


def _slide_file(path: Path) -> Path:
    refuse_not_read(path)
    if path.is_dir():
        index = path.with_name(f"{path.name}.mrxs")  # the folder that goes with it was given
        return index if index.is_file() else slide_in(path)
    if not path.exists():
        raise SlideError(f"There is no file {path}", "Check the name and the folder")
    with path.open("rb") as stream:
        head = stream.read(132)
    if not head:
        raise SlideError(f"{path.name} is empty", "Copy or download it again")
    if head.startswith(_FLAT_IMAGES) and not _is_known_to_openslide(path):  # an .mrxs is a JPEG
        if path.suffix.lower() == ".mrxs":
            raise SlideError(
                f"{path.name} is only the index of a MIRAX slide, and the folder {path.stem} with its pixels (Slidedat.ini,"
                " Data0000.dat ...) is missing beside it",
                "Copy that folder next to it; without one it is a plain picture, not a slide",
            )
        raise SlideError(f"{path.name} is a plain picture or document, not a slide", _NOT_A_SLIDE)
    return check_file(path) if head[128:] == b"DICM" else path


def _is_known_to_openslide(path: Path) -> bool:
    """Whether OpenSlide takes a file for a slide, by its own rules for each format."""
    if path.suffix.lower() not in SLIDE_SUFFIXES:
        return False
    try:
        import openslide
    except (ImportError, OSError):
        return False
    try:
        return openslide.OpenSlide.detect_format(str(path)) is not None
    except openslide.OpenSlideError:
        return True  # its format is known, the file is damaged: the opener says so


def _open_openslide(file: Path, pages: tuple[TiffPage, ...]) -> Handle:
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the wrapper is there, its C library is not
        raise SlideError(
            f"{file.name} cannot be opened because OpenSlide is not installed", "pip install openslide-bin"
        ) from error
    try:
        return Handle(openslide.OpenSlide(str(file)), "openslide", file, pages)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise SlideError(f"{file.name} is not a slide that can be read", _NOT_A_SLIDE) from error
    except (openslide.OpenSlideError, OSError) as error:
        if _UNSUPPORTED.search(str(error)):
            reason = str(error).replace(str(file), file.name)
            raise SlideError(
                f"{file.name} is stored in a way that is not read ({reason[:120]})", EXPORT
            ) from error
        raise SlideError(
            f"{file.name} is damaged or incomplete ({_short(error)})", "Copy or download it again"
        ) from error


def _open_tiffslide(file: Path, pages: tuple[TiffPage, ...]) -> Handle:
    if pages and (not _decodes(main_page(pages)) or main_page(pages).segment_bytes > LARGE_SEGMENT):
        raise SlideError(f"{file.name} is not a slide that can be read at a bearable cost", _NOT_A_SLIDE)
    import tiffslide

    # tifffile logs what it then raises; the one sentence of SlideError says it once.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        handle = Handle(tiffslide.TiffSlide(str(file)), "tiffslide", file, pages)
        if _is_cut_short(file):
            handle.slide.close()
            raise ValueError("the end of the file is missing")
        if not (handle.properties and handle.slide.level_dimensions and handle.slide.level_downsamples):
            raise ValueError("no levels")  # tiffslide parses on first use: use it here
        return handle
    except Exception as error:  # tifffile and its codecs raise anything at all on damaged files
        raise SlideError(
            f"{file.name} is not a slide that can be read ({_short(error)})", _NOT_A_SLIDE
        ) from error


def _open_plain_tiff(file: Path, pages: tuple[TiffPage, ...]) -> Handle:
    if not pages or not _decodes(main_page(pages)):
        raise SlideError(f"{file.name} is not a slide that can be read", _NOT_A_SLIDE)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if _is_cut_short(file):
        raise SlideError(
            f"{file.name} is damaged or incomplete (its end is missing)", "Copy or download it again"
        )
    try:
        return Handle(PlainTiff(file, main_page(pages)), "tifffile", file, pages)
    except SlideError:
        raise
    except Exception as error:  # tifffile raises anything at all on damaged files
        raise SlideError(
            f"{file.name} is not a slide that can be read ({_short(error)})", _NOT_A_SLIDE
        ) from error


def _is_cut_short(file: Path) -> bool:
    """Return True for a TIFF whose directories or tiles reach beyond its end.

    tifffile shows what it can of such a file, silently with fewer levels; half a slide must not pass for a whole one.
    """
    if file.suffix.lower() == ".ndpi":
        return False  # NDPI above 4 GB stores wrapped 32-bit offsets
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return False
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        word, count_format, entry_size = ("Q", "Q", 20) if big else ("I", "H", 12)
        word_size = struct.calcsize(order + word)
        offset = struct.unpack(order + word, head[8:16] if big else head[4:8])[0]
        seen: set[int] = set()
        while offset and offset not in seen:
            seen.add(offset)
            stream.seek(offset)
            raw = stream.read(struct.calcsize(order + count_format))
            if len(raw) < struct.calcsize(order + count_format):
                return True
            entries = struct.unpack(order + count_format, raw)[0]
            directory = stream.read(entries * entry_size + word_size)
            if len(directory) < entries * entry_size + word_size:
                return True
            if _tiles_end(stream, directory, entries, order, word, entry_size) > size:
                return True
            offset = struct.unpack(order + word, directory[-word_size:])[0]
    return False


def _tiles_end(
    stream: BinaryIO, directory: bytes, entries: int, order: str, word: str, entry_size: int
) -> int:
    """Return where the last strip or tile of one TIFF directory ends."""
    arrays: dict[int, tuple[int, ...]] = {}
    word_size = struct.calcsize(order + word)
    for number in range(entries):
        entry = directory[number * entry_size : (number + 1) * entry_size]
        tag, kind, count = struct.unpack(order + "HH" + word, entry[: 4 + word_size])
        letter = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if tag not in (273, 279, 324, 325) or letter is None or count > 1 << 26:
            continue
        length = count * struct.calcsize(order + letter)
        value = entry[4 + word_size :]
        if length > word_size:
            stream.seek(struct.unpack(order + word, value)[0])
            value = stream.read(length)
            if len(value) < length:
                return 1 << 62
        arrays[tag] = struct.unpack(f"{order}{count}{letter}", value[:length])
    ends = [
        start + length
        for starts, lengths in ((273, 279), (324, 325))
        for start, length in zip(arrays.get(starts, ()), arrays.get(lengths, ()), strict=False)
    ]
    return max(ends, default=0)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _is_ome(handle: Handle) -> bool:
    return "<OME" in handle.properties.get("tiff.ImageDescription", "")


def fingerprint(path: Path) -> str:
    """Return a SHA-256 over sizes and sampled blocks: fast on gigabytes, the same wherever the file lies.

    Companions count: the folder beside an .mrxs file, all files of a DICOM folder.
    """
    digest = hashlib.sha256()
    for file in _content_files(path):
        size = file.stat().st_size
        digest.update(f"{file.name if file != path else ''}\0{size}\0".encode())
        with file.open("rb") as stream:
            blocks = 16 if file == path else 2
            for number in range(blocks):
                stream.seek(max(0, (size - 65536) * number // max(blocks - 1, 1)))
                digest.update(stream.read(65536))
    return digest.hexdigest()


def _content_files(path: Path) -> list[Path]:
    if path.is_dir():
        return folder_files(path)
    companions = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and companions.is_dir():
        return [path, *sorted(p for p in companions.iterdir() if p.is_file())]
    return [path]


def is_slide(path: Path) -> bool:
    """Tell a slide from a plain picture: pyramidal, or far too large to be shown whole. Never raises.

    A microscope's plain TIFF also opens as a "generic" slide; it is left to other readers.
    """
    try:
        handle = open_handle(path)
    except SlideError:
        return False
    try:
        generic = handle.vendor in _GENERIC
        width, height = handle.slide.dimensions
        return not generic or len(handle.slide.level_dimensions) > 1 or max(width, height) > 16384
    finally:
        handle.slide.close()
