"""Nested texts from anywhere, with limits that hold before memory is taken; :mod:`.packed` has those of packed ones.

One MB of brackets becomes 64 MB of objects, and a nesting of thousands ends the interpreter's stack: what a text will cost
is counted first.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

_MAX_OBJECTS = 1_800_000_000  # bytes that a document takes as objects
MAX_DEPTH = 200
_MAX_TOML = 1 << 20


class BoundError(ValueError):
    """A text would take more than any real one; a clause for the reader that names the file."""


def parse_json(text: str | bytes, constant: Callable[[str], Any]) -> Any:
    """Parse JSON whose objects will fit.

    Parameters
    ----------
    constant : what becomes of NaN and infinity.

    Raises
    ------
    ValueError : no JSON; a BoundError for too many objects, or nested too deeply.
    """
    signs = ("{", "[", ",") if isinstance(text, str) else (b"{", b"[", b",")
    objects, lists, values = (text.count(sign) for sign in signs)  # type: ignore[arg-type]
    # Measured on CPython 3.11: a dict takes 232 bytes with its first keys, a list 64 to 88, a value 8 and up to 48.
    if 240 * objects + 88 * lists + 48 * values > _MAX_OBJECTS:
        raise BoundError("it has more parts than fit into memory")
    try:
        document = json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise BoundError("nested too deeply") from error
    except MemoryError as error:
        raise BoundError("it has more parts than fit into memory") from error
    if objects + lists > MAX_DEPTH and _is_deep(document):
        raise BoundError("nested too deeply")
    return document


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; ValueError for none, for more than 1 MB (its parser is slow) and for one that is nested too deeply."""
    if len(text) > _MAX_TOML:
        raise BoundError("it is too long for settings")
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise BoundError("nested too deeply") from error
    if _is_deep(document):
        raise BoundError("nested too deeply")
    return document


def _is_deep(document: Any) -> bool:
    """Whether lists and dicts are nested more than MAX_DEPTH deep, so that whoever walks through them could not."""
    level = [document]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for node in level:
            parts = node.values() if isinstance(node, dict) else node
            inner += (
                [part for part in parts if isinstance(part, (dict, list))]
                if isinstance(node, (dict, list))
                else []
            )
        if not inner:
            return False
        level = inner
    return True
