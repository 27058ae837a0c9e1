"""Whether a slide can still be reached: a share that drops in the middle leaves no damaged slide behind."""

from __future__ import annotations

import os

from napari_survpgc.core.errors import SlideGoneError
from napari_survpgc.core.hdf5 import UNREACHABLE
from napari_survpgc.core.types import SlideInfo

from .backends import fingerprint

_WORDS = {os.strerror(number).lower(): os.strerror(number) for number in UNREACHABLE}


def check_reachable(info: SlideInfo, failure: BaseException | None = None) -> None:
    """Look at the file of an open slide again, after a read of it has failed.

    Parameters
    ----------
    failure : of the read; libraries repeat in it what the system has said.

    Raises
    ------
    SlideGoneError : the system cannot get at the file (no such file, I/O error, stale handle, no permission), or it is
        shorter, longer or another one now.
    """
    reason = _said_by_the_system(failure)
    if not reason:
        try:
            if fingerprint(info.path) != info.fingerprint:
                reason = "the file has changed since it was opened"
        except OSError as error:
            reason = error.strerror or str(error)
    if reason:
        raise SlideGoneError(
            f"{info.path.name} cannot be read any more ({reason})",
            "Connect its drive again or put the file back, then do the same again: what is finished is kept",
        ) from failure


def _said_by_the_system(failure: BaseException | None) -> str:
    seen: set[int] = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))
        if isinstance(failure, OSError) and failure.errno is not None and failure.errno in UNREACHABLE:
            return os.strerror(failure.errno)
        text = str(failure).lower()
        found = next((said for words, said in _WORDS.items() if words in text), "")
        if found:
            return found
        failure = failure.__cause__ or failure.__context__
    return ""
