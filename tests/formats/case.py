"""One row of the table of formats: a file that is written, opened, and what came of it.

To add a row
------------
1. In ``tests/formats/<kind>.py`` (``slides``, ``expression``, ``clinical``, ``outlines``; make it where it is missing) append a
   :class:`Case` to the list ``CASES``. ``write`` makes a small file in an empty folder and returns its path, ``open`` reads it
   by the product's own reader and returns one short line of what was understood (it raises the product's error otherwise).
2. Say in ``result`` what is to come of it: that line word for word or, with ``refused=True``, the whole sentence of the error
   (the file's folder is replaced by nothing).
3. ``python -m tests.formats.table`` writes the table into ``docs/formats.md``.

A new kind is listed in ``KINDS`` of ``tests/formats/table.py``. ``tests/test_formats.py`` opens every case and compares; a file
of the shared test data (``shared="cases/formats/..."`` instead of ``write``) is skipped where that folder is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """See the module's docstring.

    Attributes
    ----------
    name : the format as a user calls it, with the layout of this file; unique within its kind.
    origin : who writes such files (a scanner, a program, a repository).
    open : reads the file; returns what was understood.
    result : what is to come of it.   refused : it is an error's sentence.
    write : makes the file in an empty folder.   shared : or its place in the shared test data.
    """

    name: str
    origin: str
    open: Callable[[Path], str]
    result: str
    refused: bool = False
    write: Callable[[Path], Path] | None = None
    shared: str | None = None

    def __post_init__(self) -> None:
        if (self.write is None) == (self.shared is None):
            raise ValueError(f"{self.name}: give either write or shared")
