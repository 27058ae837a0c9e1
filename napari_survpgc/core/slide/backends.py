"""Open a slide file with OpenSlide or, where that cannot, with tiffslide; and name a file by its content.

Both libraries share one interface; what differs (exceptions, property names) ends here.
"""

from __future__ import annotations

import hashlib
import logging
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from napari_survpgc.core.errors import SlideError

from .formats import FORMAT_NAMES, SLIDE_SUFFIXES

_NOT_A_SLIDE = f"Choose a slide file ({FORMAT_NAMES})"
_FLAT_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF")
_MAX_MPP, _MIN_MPP = 20.0, 0.05


@dataclass(frozen=True)
class Handle:
    """An open file of either library.

    Attributes
    ----------
    slide : openslide.OpenSlide or tiffslide.TiffSlide.
    backend : "openslide" or "tiffslide".   path : the file that was opened (a file of a DICOM folder).
    isolated : it is open in a helper process, because this one must not read the file.
    """

    slide: Any
    backend: str
    path: Path
    isolated: bool = False

    @property
    def properties(self) -> Mapping[str, str]:
        return {str(k): str(v) for k, v in self.slide.properties.items() if v is not None}


def open_handle(path: Path) -> Handle:
    """Open a slide file or a DICOM folder in this process, which a file made for it can end; see :mod:`.guard`.

    Raises
    ------
    SlideError : missing, empty, truncated, or no slide.
    """
    try:
        file = _slide_file(path)
    except OSError as error:
        raise SlideError(
            f"{path} cannot be read ({error.strerror or error})", "Check its drive, and that you may read it"
        ) from error
    problems = []
    for opener in (_open_openslide, _open_tiffslide):
        try:
            handle = opener(file)
        except SlideError as error:
            problems.append(error)
            continue
        if handle.backend == "openslide" and _is_flat_ome(handle):
            # OpenSlide's generic driver does not see OME-TIFF's pyramid (SubIFDs); tifffile does.
            try:
                better = _open_tiffslide(file)
            except SlideError:
                return handle  # one level is better than none
            if len(better.slide.level_dimensions) > 1:
                handle.slide.close()
                return better
            better.slide.close()
        return handle
    raise problems[0]


def _slide_file(path: Path) -> Path:
    if path.is_dir():
        index = path.with_name(f"{path.name}.mrxs")  # the folder that goes with it was given
        if index.is_file():
            return index
        files = sorted(
            p
            for p in path.iterdir()
            if p.is_file() and (p.suffix.lower() in (".dcm", ".dicom") or _is_dicom(p))
        )
        if not files:
            raise SlideError(f"The folder {path.name} holds no DICOM slide", _NOT_A_SLIDE)
        return files[0]
    if not path.exists():
        raise SlideError(f"There is no file {path}", "Check the name and the folder")
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise SlideError(
            f"{path.name} cannot be read ({error.strerror})", "Check that you may read it"
        ) from error
    if not head:
        raise SlideError(f"{path.name} is empty", "Copy or download it again")
    if head.startswith(_FLAT_IMAGES) and not _is_known_to_openslide(path):  # an .mrxs is a JPEG
        raise SlideError(f"{path.name} is a plain picture or document, not a slide", _NOT_A_SLIDE)
    return path


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


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _open_openslide(file: Path) -> Handle:
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the wrapper is there, its C library is not
        raise SlideError(
            f"{file.name} cannot be opened because OpenSlide is not installed", "pip install openslide-bin"
        ) from error
    try:
        return Handle(openslide.OpenSlide(str(file)), "openslide", file)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise SlideError(f"{file.name} is not a slide that can be read", _NOT_A_SLIDE) from error
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideError(
            f"{file.name} is damaged or incomplete ({_short(error)})", "Copy or download it again"
        ) from error


def _open_tiffslide(file: Path) -> Handle:
    import tiffslide

    # tifffile logs what it then raises; the one sentence of SlideError says it once.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        handle = Handle(tiffslide.TiffSlide(str(file)), "tiffslide", file)
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


def _is_flat_ome(handle: Handle) -> bool:
    description = handle.properties.get("tiff.ImageDescription", "")
    return len(handle.slide.level_dimensions) == 1 and "<OME" in description


def pixel_size(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """Return (mpp_x, mpp_y) that the file states, or None; resolution tags of 72 dpi and the like do not count."""
    for x_name, y_name in (("openslide.mpp-x", "openslide.mpp-y"), ("tiffslide.mpp-x", "tiffslide.mpp-y")):
        found = _plausible(properties.get(x_name), properties.get(y_name))
        if found:
            return found
    description = properties.get("tiff.ImageDescription", "") or properties.get("openslide.comment", "")
    sizes = [re.search(rf'PhysicalSize{axis}="([0-9.eE+-]+)"', description) for axis in "XY"]
    unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', description)
    if sizes[0] and sizes[1] and (unit is None or unit[1] in ("µm", "\u03bcm", "um", "&#181;m")):
        return _plausible(sizes[0][1], sizes[1][1])
    return None


def _plausible(x: str | None, y: str | None) -> tuple[float, float] | None:
    try:
        mpp_x, mpp_y = float(x or "nan"), float(y or "nan")
    except ValueError:
        return None
    if not (_MIN_MPP <= mpp_x <= _MAX_MPP and _MIN_MPP <= mpp_y <= _MAX_MPP):
        return None
    return mpp_x, mpp_y


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
        return sorted(p for p in path.iterdir() if p.is_file())
    companions = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and companions.is_dir():
        return [path, *sorted(p for p in companions.iterdir() if p.is_file())]
    return [path]
