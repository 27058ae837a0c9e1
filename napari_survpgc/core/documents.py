"""JSON documents and the frozen dataclasses that they hold: one converter for all of them.

A document of a later version may have keys that this one does not know: they are passed over. What is known must be of
its kind: no text for a number, no NaN, no number that stands in for a switch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import numpy as np
from cattrs import Converter, transform_error
from cattrs.gen import make_dict_unstructure_fn

from .bounded import parse_json

T = TypeVar("T")

_LONGEST = 40
_NAMES = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}


class DocumentError(ValueError):
    """A document is not what it should be: a clause without the file's name, for the reader of the file to name it."""


def structure(document: object, kind: type[T]) -> T:
    """Return what a document holds.

    Parameters
    ----------
    document : as it comes out of JSON.   kind : a dataclass; its own checks count, too.

    Raises
    ------
    DocumentError : names the first field that is missing or wrong.
    """
    if not isinstance(document, dict):
        raise DocumentError("it does not hold the facts that it should")
    try:
        return _converter.structure(document, kind)
    except Exception as error:
        if not isinstance(error, (ExceptionGroup, ValueError, TypeError, KeyError, AttributeError)):
            raise
        what, _, place = transform_error(error, "", format_exception=_words)[0].rpartition(" @ ")
        raise DocumentError(f"{place.lstrip('.')} {what}".strip()) from error


def unstructure(value: Any) -> Any:
    """Return dicts, lists, plain numbers and texts."""
    return _converter.unstructure(value)


def parse(text: str | bytes) -> Any:
    """Read JSON without NaN or infinity; DocumentError says where it ends too early."""
    try:
        return parse_json(text, _no_number)
    except ValueError as error:
        raise DocumentError(f"it is not valid JSON: {error}") from error


def dump(value: Any, *, indent: int | None = 1, sort_keys: bool = False) -> str:
    """Return the text of a document; ValueError for NaN or infinity."""
    return json.dumps(unstructure(value), indent=indent, sort_keys=sort_keys, allow_nan=False) + "\n"


def leaves_out(*names: str) -> Callable[[type[T]], type[T]]:
    """Mark fields of a dataclass that its document lacks where they are None, instead of stating a null."""

    def mark(kind: type[T]) -> type[T]:
        def write(value: Any) -> dict[str, Any]:
            # cattrs' omit_if_default would put those that are there behind all others.
            return {k: v for k, v in every(value).items() if v is not None or k not in names}

        every = make_dict_unstructure_fn(kind, _converter)
        _converter.register_unstructure_hook(kind, write)
        return kind

    return mark


def reads_with(kind: type[T], reader: Callable[[Any], T]) -> None:
    """Have values of a kind read by its own parser."""
    _converter.register_structure_hook(kind, lambda value, _: reader(value))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _plain(kind: type) -> Callable[[Any, Any], Any]:
    def check(value: Any, _: Any) -> Any:
        # A whole number may stand for a float and stays one, so that a document is written as it was read.
        right = isinstance(value, (int, float) if kind is float else kind)
        if not right or (isinstance(value, bool) and kind is not bool):
            raise DocumentError(f"is {_shown(value)}, not {_NAMES[kind]}")
        if kind is float and not math.isfinite(value):
            raise DocumentError(f"is {value}, not {_NAMES[kind]}")
        return value

    return check


def _choice(value: Any, kind: type[Enum]) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise DocumentError(
            f"is {_shown(value)}, not one of {', '.join(str(m.value) for m in kind)}"
        ) from None


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _words(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError):
        return "is missing"
    if isinstance(error, ValueError):
        return str(error)
    return "has another form than it should have"


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _tuple(kind: Any) -> Callable[[Any, Any], Any]:
    items = list[get_args(kind)[0]]  # type: ignore[misc, valid-type]
    read = _converter.get_structure_hook(items)

    def check(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):  # a text is a sequence, too
            raise DocumentError(f"is {_shown(value)}, not a list")
        return tuple(read(value, items))

    return check


_converter = Converter()
for _kind in _NAMES:
    _converter.register_structure_hook(_kind, _plain(_kind))
    _converter.register_unstructure_hook(_kind, _number)
for _choices in (Enum, StrEnum):  # a StrEnum is a str before it is an Enum
    _converter.register_structure_hook(_choices, _choice)
    _converter.register_unstructure_hook(_choices, lambda member: member.value)
_converter.register_structure_hook_factory(lambda kind: get_origin(kind) is tuple, _tuple)
_converter.register_unstructure_hook(np.generic, _number)
_converter.register_unstructure_hook(np.ndarray, np.ndarray.tolist)
_converter.register_unstructure_hook(Path, str)
