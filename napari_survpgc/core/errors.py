"""Errors that reach a person: one sentence with the problem, one with the next step."""

from __future__ import annotations

import errno
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


class TissueError(SurvPGCError):
    """No tissue was found, or an outline cannot be used."""


class ClinicalError(SurvPGCError):
    """A clinical field or record is not usable; ``fields`` names the fields whose values are wrong."""

    def __init__(self, problem: str, next_step: str, fields: Iterable[str] = ()) -> None:
        super().__init__(problem, next_step)
        self.fields = tuple(fields)

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
    """Turn the operating system's refusal to write into one clear :class:`OutputError`.

    Parameters
    ----------
    path : the file or folder being written, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(
                f"The disk is full, so {path} was not written", "Free some space or choose another folder"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(
                f"There is no permission to write {path}", "Choose a folder that you may write to"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR):
            raise OutputError(
                f"{path} cannot be written because a file or folder of that name is in the way or the name is"
                " not allowed",
                "Choose another folder",
            ) from error
        raise
