"""Where the files lie that a case names: said relative to the case, so that it tells nothing of the machine.

A slide that shares no folder with the case (another drive, another person's home) is named by its file name alone; its
place is kept in the user's own folder by fingerprint. What is not found there is looked for beside the case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from napari_survpgc.core.errors import OutputError
from napari_survpgc.core.user_folder import remember_place, remembered_place

_HOMES = frozenset({"/home", "/Users", "/var/home"})
_MOST_UP = 6  # folders above the case; farther away it is rather another part of the disk
_NETWORK = ("\\\\", "//")


def said_place(place: Path, case: Path, key: str) -> str:
    """Return what a case file says of a place: a relative path, or a bare name.

    Parameters
    ----------
    case : the case file.   key : under which the place is kept on this machine where only its name is said, e.g. a
        fingerprint.
    """
    relative = _relative(place.resolve(), case.parent.resolve())
    if relative is not None:
        return relative
    with suppress(OutputError):  # only a convenience: it is looked for and asked for without it
        remember_place(key, place.resolve())
    return place.name


def _relative(place: Path, folder: Path) -> str | None:
    try:
        shared = Path(os.path.commonpath([place, folder]))
    except ValueError:  # another drive of Windows
        return None
    if str(shared) in _HOMES or shared in (Path.home().parent, shared.parent):
        return None
    relative = Path(os.path.relpath(place, folder)).as_posix()
    return relative if relative.split("/").count("..") <= _MOST_UP else None


def place_of(said: str, case: Path, key: str) -> Path:
    """Return where a thing is that a case file names, or the place that is named, where it cannot be found.

    Cases of earlier versions name absolute paths.
    """
    found = list(_places(said, case, key))
    return next((place for place in found if place_exists(place)), found[0])


def name_in(said: str) -> str:
    """Return the file name of a path as any system writes it."""
    return PureWindowsPath(PurePosixPath(said).name).name


def _places(said: str, case: Path, key: str) -> Iterator[Path]:
    folder, name = case.parent, name_in(said)
    if _is_elsewhere(said, case):
        # Asking a server that a case file names would tell it who we are.
        yield folder / name
    elif Path(said).is_absolute():
        yield Path(said)
    else:
        yield Path(os.path.normpath(folder.resolve() / said))
    yield folder / name
    yield folder / "features" / name
    known = remembered_place(key)
    if known is not None:
        yield known


def _is_elsewhere(said: str, case: Path) -> bool:
    """Whether a path is on a server that the case itself does not lie on."""
    if not said.startswith(_NETWORK):
        return False
    server = PureWindowsPath(said).drive.lower()
    return not server or PureWindowsPath(case.absolute()).drive.lower() != server


def place_exists(place: Path) -> bool:
    """Whether it is there; a name that no file can have is not."""
    try:
        return place.exists()
    except (OSError, ValueError):  # too long, a NUL
        return False
