"""Where a slide file is opened: in this process when its structure was checked, in a helper when something in it is wrong.

A container that cannot be checked from outside (MRXS, CZI, DICOM, a geometry in XML) is tried once in a helper, with a
tile of two levels; that it went well is remembered by place, size and time. What tiffslide and tifffile read stays in
helpers: their codecs are the same, and believe what each tile says of its size; a mapped file that is cut short while it is
read ends the process, too. Reading there is as fast (256 px JPEG tiles of an OME-TIFF, two threads: 320 to 420 a second,
in this process 140 to 290). Measured on 2 cores: the look at a structure takes 0.4 to 3 ms; a first trial 0.3 s where no
helper runs yet, 10 to 30 ms after that.
"""

from __future__ import annotations

import logging
import os
from itertools import pairwise
from pathlib import Path
from threading import Lock

from napari_survpgc.core.errors import SlideError

from .backends import GENERIC, NOT_A_SLIDE, Handle, open_handle, slide_file
from .helper import HelperError, HelperSlide
from .structure import Trust, require_file, structure_of

_log = logging.getLogger(__name__)
_KEPT = 4096
_BY_CODECS = ("tiffslide", "tifffile")

_tried: dict[tuple[str, int, int], str] = {}
_lock = Lock()


def open_guarded(path: Path) -> Handle:
    """Open a slide file or a DICOM folder so that nothing in it can end this process, or keep it waiting over 10 s.

    Raises
    ------
    SlideError : missing, no file, damaged or no slide; the same as :func:`open_handle` raises, also by way of a helper.
    """
    require_file(path)
    found = structure_of(path)
    if found.trust is Trust.IMPOSSIBLE:
        raise SlideError(f"{path.name} is damaged: {found.reason}", "Copy or download it again")
    # Python looks through a folder, which on a slow share takes longer than a helper may be waited for.
    file = slide_file(path) if path.is_dir() else path
    try:
        if found.trust is Trust.IMPLAUSIBLE:
            return _implausible(file, found.reason)
        backend = "" if found.trust is Trust.PLAUSIBLE else _tried_before(path)
        if backend is None:
            slide = HelperSlide(file, tried=True)
            backend = slide.backend
            _remember(path, backend)
            if backend in _BY_CODECS:
                return _isolated(slide)
            slide.close()
        if backend not in _BY_CODECS:
            handle = open_handle(file)
            if handle.backend not in _BY_CODECS:
                return handle
            handle.slide.close()
        return _isolated(HelperSlide(file))
    except HelperError as error:
        if found.trust is not Trust.IMPLAUSIBLE:
            _log.warning("no helper process can be started (%s): %s is opened without", error, path.name)
            return open_handle(file)
        raise SlideError(f"{path.name} is damaged: {found.reason}", "Copy or download it again") from error


def _implausible(file: Path, reason: str) -> Handle:
    try:
        return _isolated(HelperSlide(file))
    except SlideError as error:
        if error.next_step != NOT_A_SLIDE:
            raise
        # To a library a slide that is cut short is none at all; its structure says that it was one.
        raise SlideError(f"{file.name} is damaged: {reason}", "Copy or download it again") from error


def _isolated(slide: HelperSlide) -> Handle:
    sizes = slide.level_dimensions
    if any(low[0] > high[0] or low[1] > high[1] for high, low in pairwise(sizes)):
        slide.close()
        raise SlideError(
            f"{slide.file.name} is damaged: its levels do not fit together", "Copy or download it again"
        )
    return Handle(slide, slide.backend, slide.file, slide.pages)


def is_slide(path: Path) -> bool:
    """Tell a slide from a plain picture: pyramidal, or far too large to be shown whole. Never raises.

    A microscope's plain TIFF also opens as a "generic" slide; it is left to other readers.
    """
    try:
        handle = open_guarded(path)
    except SlideError:
        return False
    try:
        generic = handle.vendor in GENERIC
        width, height = handle.slide.dimensions
        return not generic or len(handle.slide.level_dimensions) > 1 or max(width, height) > 16384
    finally:
        handle.slide.close()


def _facts(path: Path) -> tuple[str, int, int]:
    """Name a file, or all files of a folder (DICOM) or beside it (MRXS), by place, size and time."""
    files = [path]
    companions = path if path.is_dir() else path.with_suffix("")
    if companions.is_dir():
        files += [p for p in companions.iterdir() if p.is_file()]
    facts = [file.stat() for file in files]
    return (
        os.fspath(path.absolute()),
        sum(each.st_size for each in facts),
        max(each.st_mtime_ns for each in facts),
    )


def _tried_before(path: Path) -> str | None:
    """Return the library that read a file when it was tried, or None for one that was not."""
    try:
        return _tried.get(_facts(path))
    except OSError:
        return None


def _remember(path: Path, backend: str) -> None:
    try:
        facts = _facts(path)
    except OSError:
        return
    with _lock:
        _tried[facts] = backend
        while len(_tried) > _KEPT:
            del _tried[next(iter(_tried))]
