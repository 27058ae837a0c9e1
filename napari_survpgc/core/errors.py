"""Errors that reach a person: one sentence with the problem, one with the next step."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class SurvPGCError(Exception):
    """A problem that the user can mend; the command line prints it as one line and ends with code 2.

    Parameters
    ----------
    problem : what is wrong, naming the file or field, without a closing full stop, e.g.
        ``"TCGA-XX.svs has no pixel size"``.
    next_step : what to do about it, e.g. ``"Enter µm per pixel (20x is about 0.5, 40x about 0.25)"``.
    """

    def __init__(self, problem: str, next_step: str) -> None:
        self.problem = " ".join(problem.split()).rstrip(".")
        self.next_step = " ".join(next_step.split()).rstrip(".")
        super().__init__(f"{self.problem}. {self.next_step}.")

    def __reduce__(self) -> tuple[type[SurvPGCError], tuple[str, str]]:
        """Come out of a worker process as what it was: both sentences, not the one they were joined to."""
        return type(self), (self.problem, self.next_step)


class SlideError(SurvPGCError):
    """A slide cannot be opened or read."""


class MissingMppError(SlideError):
    """A slide does not say how large its pixels are; ask once and keep the answer with the result."""


class SlideGoneError(SlideError):
    """The file of an open slide cannot be reached any more, or is another one now; nothing of it is damaged."""


class SeveralSlidesError(SlideError):
    """A folder holds several slides and one has to be chosen.

    Parameters
    ----------
    folder : that was opened.   choices : (a file of the slide, what tells it from the others), one a slide.
    """

    def __init__(self, folder: Path, choices: tuple[tuple[Path, str], ...]) -> None:
        names = too_many([words for _, words in choices])
        super().__init__(
            f"The folder {folder.name} holds {len(choices)} slides: {names}",
            f"Name a file of the one that is meant, e.g. {choices[0][0]}",
        )
        self.folder, self.choices = folder, choices

    def __reduce__(self) -> tuple[type[SeveralSlidesError], tuple[Path, tuple[tuple[Path, str], ...]]]:  # type: ignore[override]
        return type(self), (self.folder, self.choices)


class TissueError(SurvPGCError):
    """No tissue was found, or an outline cannot be used."""


class ClinicalError(SurvPGCError):
    """A clinical field or record is not usable; ``fields`` names the fields that are wrong, where it is known."""

    def __init__(self, problem: str, next_step: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(problem, next_step)
        self.fields = fields

    def __reduce__(self) -> tuple[type[ClinicalError], tuple[str, str, tuple[str, ...]]]:  # type: ignore[override]
        return type(self), (self.problem, self.next_step, self.fields)


class ExpressionError(SurvPGCError):
    """An expression file or gene set is not usable."""


class FeatureError(SurvPGCError):
    """A feature file is damaged or does not fit the slide or the bundle."""


class EncoderError(SurvPGCError):
    """An encoder is unknown, or its weights are missing or altered."""


class BundleError(SurvPGCError):
    """A bundle is incomplete, altered or does not fit its input."""


class CohortError(SurvPGCError):
    """A cohort folder is incomplete or contradicts itself."""


class LongFollowUpError(CohortError):
    """The follow-up of a cohort is so long that its months are rather days; a person is asked once."""


class OutputError(SurvPGCError):
    """A result cannot be written: disk full, no permission, name taken."""


class CancelledError(Exception):
    """The user stopped the work; what was finished is kept."""


def too_many(problems: Sequence[str], shown: int = 12) -> str:
    """Return the first problems in one line, and how many more there are."""
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return "; ".join(problems[:shown]) + more


def counted(problems: Sequence[str]) -> str:
    """Return "1 problem" or "3 problems"."""
    return f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"


def several(one: str, more: str, names: Iterable[str], shown: int = 5) -> list[str]:
    """Return one sentence for all names with the same problem; none without a name.

    Parameters
    ----------
    one, more : sentences with {} for the name, or for the first names and how many there are.
    """
    chosen = sorted(map(str, names))
    if len(chosen) < 2:
        return [one.format(name) for name in chosen]
    rest = f" and {len(chosen) - shown} more" if len(chosen) > shown else ""
    return [more.format(", ".join(chosen[:shown]) + rest)]


def some(problems: Sequence[str], shown: int = 5) -> list[str]:
    """Return the first problems of one kind and how many more there are, so that other kinds are still read."""
    rest = len(problems) - shown
    return [*problems[:shown], *([f"{rest} more of that kind"] if rest > 0 else [])]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a refusal to write into one clear :class:`OutputError`.

    Libraries say it in their own ways: HDF5 and torch raise RuntimeError, safetensors an error of its own, Pillow and
    numpy an OSError without a number.

    Parameters
    ----------
    path : the file or folder being written, for the message.
    """
    try:
        yield
    except Exception as error:
        number = _refusal(error, path)
        if number is None:
            raise
        raise _cannot_write(path, number) from error


_NUMBER = re.compile(r"(?:errno = |os error |\[Errno )(\d+)")
_FAILED_WRITES = re.compile(
    r"PytorchStreamWriter failed|file write failed|requested and \d+ written|encoder error|unable to (write|flush)"
)
_LITTLE_FREE = 1 << 20


def _refusal(error: Exception, path: Path) -> int | None:
    """Return the system's number of what kept a file from being written; None for every other error."""
    if isinstance(error, (ConnectionError, TimeoutError)):  # of a pipe or a download
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, (OSError, RuntimeError)) and type(error).__name__ != "SafetensorError":
        return None
    if found := _NUMBER.search(str(error)):
        return int(found[1])
    if not _FAILED_WRITES.search(str(error)):
        return None
    try:
        free = shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free
    except OSError:
        return errno.EIO
    return errno.ENOSPC if free < _LITTLE_FREE else errno.EIO


def _cannot_write(path: Path, number: int) -> OutputError:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"The disk is full, so {path} was not written", "Free some space or choose another folder"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"There is no permission to write {path}", "Choose a folder that you may write to")
    if number in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR):
        return OutputError(
            f"{path} cannot be written because a file or folder of that name is in the way or the name is"
            " not allowed",
            "Choose another folder",
        )
    return OutputError(
        f"{path} cannot be written ({os.strerror(number)})",
        "Check that its drive is connected and sound, or choose another folder",
    )
