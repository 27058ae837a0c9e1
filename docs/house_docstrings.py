"""Reads our docstrings for the reference: what follows a parameter's colon says what it is, its type is annotated."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?\.*([^`]+)`")
_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n((?:.+\n?)*)", re.MULTILINE)
_ENTRY = re.compile(r"\n(?=\S)| {3,}(?=[\w,. ]+ : )")


class HouseDocstrings(griffe.Extension):
    """Have the sections of a docstring shown as lists of words; a parser of types would take the words for types."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    text = _ROLE.sub(r"`\1`", docstring).replace("::\n", ":\n")
    return _SECTION.sub(_list, text)


def _list(section: re.Match[str]) -> str:
    items = []
    for entry in filter(None, _ENTRY.split(section[2].rstrip())):
        name, colon, words = " ".join(entry.split()).partition(" : ")
        items.append(f"- `{name}`: {words}" if colon else f"- {name}")
    return f"**{section[1]}**\n\n" + "\n".join(items) + "\n"
