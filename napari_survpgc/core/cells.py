"""Tables as CSV that a spreadsheet takes for text: every CSV file is written through here.

A cell of text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a line end, and is no
number) gets an apostrophe before it, and loses it again when we read it: :func:`restored` undoes :func:`defused`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# The wide signs are taken for the plain ones by spreadsheets of East Asia.
_FORMULA = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"[+-]?(?:(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?%?|inf(?:inity)?|nan)", re.IGNORECASE)


def defused(text: str) -> str:
    """Return a cell as it is written; -1.5 stays a number."""
    return f"'{text}" if _is_formula(text) else text


def restored(text: str) -> str:
    """Return a cell as it was before :func:`defused`."""
    return text[1:] if text[:1] == "'" and _is_formula(text[1:]) else text


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV; texts among the cells are defused, other values written as Python writes them."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    for row in (header, *rows):
        table.writerow([defused(cell) if isinstance(cell, str) else cell for cell in row])
    return stream.getvalue()


def frame_text(frame: pd.DataFrame) -> str:
    """Return a frame as CSV, without its index, its texts defused."""
    return str(_mapped(frame, defused).to_csv(index=False, lineterminator="\n"))


def restored_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame that pandas has read with its texts as they were before they were written."""
    return _mapped(frame, restored)


def _mapped(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Return the frame with its texts changed; itself where none changes, as is usual for 20,000 columns of numbers."""

    def cell(value: object) -> object:
        return change(value) if isinstance(value, str) else value

    names = [cell(name) for name in frame.columns]
    out = frame
    for place in [i for i, kind in enumerate(frame.dtypes) if kind.kind == "O"]:  # categories, too
        before = frame.iloc[:, place].astype(object)
        after = before.map(cell)
        if not after.equals(before):
            out = out.copy() if out is frame else out
            out.isetitem(place, after.to_numpy())
    if names != list(frame.columns):
        out = out.set_axis(names, axis=1)
    return out


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text.lstrip("'").strip()) is None
