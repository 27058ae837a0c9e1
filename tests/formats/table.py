"""The table of formats in the documentation: ``python -m tests.formats.table`` writes it into ``docs/formats.md``.

The cases are those of ``tests/formats/<kind>.py``; :mod:`tests.formats.case` says how to add one.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from .case import Case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
BEGIN, END = "<!-- formats: python -m tests.formats.table -->", "<!-- /formats -->"
KINDS = {"slides": "Slides", "expression": "Expression"}
"""Module of the cases and the heading of their part of the table, in the order of the page."""


def cases(kind: str) -> Sequence[Case]:
    """Return the cases of one kind, those that open first."""
    found: list[Case] = importlib.import_module(f"tests.formats.{kind}").CASES
    return sorted(found, key=lambda case: case.refused)


def table() -> str:
    """Return the whole table in Markdown, one part a kind."""
    return "\n".join(f"## {heading}\n\n{_rows(cases(kind))}" for kind, heading in KINDS.items())


def _rows(found: Sequence[Case]) -> str:
    rows = [("what", "from", "", "what comes of it"), ("---",) * 4]
    rows += [
        (case.name, case.origin, "refused" if case.refused else "opens", case.result.replace("|", "\\|"))
        for case in found
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def with_table(text: str) -> str:
    """Return the page with the present table between its marks; ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no line {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
