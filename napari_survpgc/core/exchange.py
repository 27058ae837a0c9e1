"""Two folders change their names in one step of the system, so that there is no moment with neither."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path


def _exchange_function() -> Callable[[Path, Path], None] | None:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            call, swap = library.renamex_np, 2
        elif sys.platform == "linux":
            call, swap = library.renameat2, 2
        else:
            return None
    except (OSError, AttributeError, TypeError):
        return None
    current = -100  # AT_FDCWD

    def exchange(one: Path, other: Path) -> None:
        names = os.fsencode(one), os.fsencode(other)
        if sys.platform == "darwin":
            failed = call(*names, swap)
        else:
            failed = call(current, names[0], current, names[1], swap)
        if failed:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(other))

    return exchange


exchange = _exchange_function()
"""Takes two folders of one drive; None where the system has no such step, OSError where the drive has not."""
