"""Put all files of a result into its folder as one set: a kill leaves the earlier set or the new one, never a mixture.

The new set is made in a hidden folder beside the results, what is not of the set (features, a user's files) is linked
into it, and the two folders change their names in one step of the system (renameat2 on Linux, renamex_np on macOS).
Where that cannot be (Windows, some network drives, a folder that is a mount or the one that the program was started in,
files of another owner) the set is made inside, a journal says what is to be moved, and whoever works in the folder next
finishes what a killed process has begun.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_survpgc.core import exchange as system
from napari_survpgc.core.errors import OutputError, writing
from napari_survpgc.core.files import is_partial, new_folder, read_json, sweep, write_json

JOURNAL = ".survpgc-results"
"""A set that is being moved into place file by file."""
_MOVES = "moves.json"
_MOST_LINKS = 2000  # a link takes 10 us on a disk, some milliseconds on a network drive


@dataclass(frozen=True)
class Place:
    """What belongs to a set.

    Attributes
    ----------
    name : relative to the folder of results.   files : patterns of what lies in it, when it is a folder.
    """

    name: str
    files: tuple[str, ...] = ()

    def has(self, path: str) -> bool:
        """Whether a file (relative, with slashes) is of this place."""
        if not self.files:
            return path == self.name
        folder, _, file = path.rpartition("/")
        return folder == self.name and any(Path(file).match(pattern) for pattern in self.files)


@contextmanager
def new_set(out: Path, places: Callable[[], Sequence[Place]]) -> Iterator[Path]:
    """Yield a hidden folder for the new set, which is put into ``out`` when the block ends well.

    Parameters
    ----------
    places : says, at the end, what belongs to the set, made or not: the earlier ones go.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way; ``out`` is then as it was before.
    """
    finish(out)
    with writing(out):
        sweep(out.parent, out.name)
        sweep(out)
        at_once = _can_exchange(out)
        with new_folder(out.parent if at_once else out, out.name if at_once else "staging", out) as made:
            yield made
            _check_free(made, out, places())
            if not (at_once and _exchanged(made, out, places())):
                _move(made, out, places())


def finish(out: Path) -> None:
    """Move what a killed process had begun to move; nothing where there is nothing of it."""
    journal = out / JOURNAL
    if not journal.is_dir():
        return
    with writing(out):
        if (journal / _MOVES).is_file():
            moves = read_json(journal / _MOVES, 64 << 20, OutputError, "Remove the folder, and predict again")
            _replay(
                journal, out, [Place(name, tuple(files)) for name, files in moves["places"]], moves["made"]
            )
        shutil.rmtree(journal)


def is_being_moved(out: Path) -> bool:
    """Whether the files in a folder may be of two sets."""
    return (out / JOURNAL).is_dir()


def _files(folder: Path) -> list[str]:
    """Return every file below a folder, relative, with slashes; links are files."""
    found = []
    for above, folders, files in os.walk(folder):
        here = Path(above)
        links = [name for name in folders if (here / name).is_symlink()]
        found += [(here / name).relative_to(folder).as_posix() for name in (*files, *links)]
        folders[:] = sorted(set(folders) - set(links))
    return sorted(found)


def _check_free(made: Path, out: Path, places: Sequence[Place]) -> None:
    """Refuse before anything is moved where a folder stands at the name of a file, or the other way round."""
    for file in _files(made):
        target = out / file
        above = [folder for folder in target.parents if folder.is_relative_to(out)]
        blocked = next((folder for folder in above if folder.exists() and not folder.is_dir()), None)
        if target.is_dir() and not target.is_symlink():
            blocked = target
        if blocked is None and target.exists() and not any(place.has(file) for place in places):
            blocked = target
        if blocked is not None:
            raise OutputError(f"{blocked} is in the way", "Move it away, or choose another folder")


# --- at once ------------------------------------------------------------------------------------------------


def _can_exchange(out: Path) -> bool:
    """Whether another folder may take the place of ``out`` without anybody noticing."""
    if system.exchange is None:
        return False
    if not out.exists():
        return True
    try:
        here, above = out.stat(), out.parent.stat()
        return (
            not out.is_symlink()
            and here.st_dev == above.st_dev
            and here.st_uid == os.geteuid()
            and os.access(out.parent, os.W_OK)
            and not Path.cwd().is_relative_to(out.resolve())
            and sum(1 for _ in zip(_walk(out), range(_MOST_LINKS + 1), strict=False)) <= _MOST_LINKS
        )
    except OSError:
        return False


def _walk(folder: Path) -> Iterator[str]:
    for _, folders, files in os.walk(folder):
        yield from folders
        yield from files


def _exchanged(made: Path, out: Path, places: Sequence[Place]) -> bool:
    """Let ``made`` take the place of ``out`` in one step; False where the drive cannot do it."""
    assert system.exchange is not None
    if not out.exists():
        made.replace(out)
        return True
    new = set(_files(made))
    kept = [file for file in _files(out) if not any(place.has(file) for place in places)]
    try:
        for folder, _, _ in os.walk(out):  # those without files too
            inner = Path(folder).relative_to(out)
            if not any(place.files and inner.as_posix() == place.name for place in places) and not is_partial(
                inner.name
            ):
                (made / inner).mkdir(exist_ok=True)
                shutil.copystat(folder, made / inner)
        for file in kept:
            if not any(is_partial(part) for part in Path(file).parts):
                (made / file).parent.mkdir(parents=True, exist_ok=True)
                os.link(out / file, made / file, follow_symlinks=False)
        _remove_empty(made, places)
        system.exchange(made, out)
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        for file in _files(made):
            if file not in new:
                (made / file).unlink(missing_ok=True)
        return False
    # Now ``made`` is the earlier folder: what somebody has put there meanwhile comes along.
    for file in _files(made):
        if (
            file not in kept
            and not any(place.has(file) for place in places)
            and not is_partial(Path(file).name)
        ):
            with contextlib.suppress(OSError):
                (out / file).parent.mkdir(parents=True, exist_ok=True)
                (made / file).replace(out / file)
    return True


# --- file by file -------------------------------------------------------------------------------------------


def _move(made: Path, out: Path, places: Sequence[Place]) -> None:
    """Write down what is to be moved, then move it."""
    out.mkdir(parents=True, exist_ok=True)
    files = _files(made)
    write_json(made / _MOVES, {"places": [[p.name, list(p.files)] for p in places], "made": files})
    journal = out / JOURNAL
    made.replace(journal)  # from here on the new set counts
    _replay(journal, out, places, files)
    shutil.rmtree(journal)


def _replay(journal: Path, out: Path, places: Sequence[Place], made: Sequence[str]) -> None:
    """Remove the earlier set and move the new one; again as often as it takes."""
    new = set(made)
    for file in _files(out):
        if (
            not file.startswith(f"{JOURNAL}/")
            and file not in new
            and any(place.has(file) for place in places)
        ):
            (out / file).unlink(missing_ok=True)
    _remove_empty(out, places, new)
    for file in made:
        if (journal / file).is_file():
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (journal / file).replace(out / file)


def _remove_empty(folder: Path, places: Sequence[Place], new: Collection[str] = ()) -> None:
    """Remove the folders of an earlier set in which nothing is left and nothing will be."""
    names = {place.name for place in places if place.files}
    names |= {str(Path(place.name).parent) for place in places} - {"."}
    for name in sorted(names, key=len, reverse=True):
        if not any(file.startswith(f"{name}/") for file in new):
            with contextlib.suppress(OSError):
                (folder / name).rmdir()
