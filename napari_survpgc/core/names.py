"""Ids of patients and slides as names of files: an id comes out of a table, and a table comes from anywhere."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

_LONGEST = (
    120  # bytes; a name has at most 255, endings and the mark of a file that is being written take up to 60
)
_KEPT = 60  # characters of an id that has to be changed
_SIGNS = '<>:"/\\|?*'  # of paths, and what Windows allows in no name
_UNSEEN = (
    "C",
    "Zl",
    "Zp",
)  # control signs, those that turn the direction of text, halves of letters, line ends
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE)


def file_name(identifier: str) -> str:
    """Return an id as the name of one file or folder on every system.

    An id that can be one is returned as it is. Any other (`../x`, `H/2024/17`, a device of Windows, hidden, too long)
    loses what cannot stand in a name and gets a mark made from the whole id, so that two ids never share a name.
    """
    if _is_safe(identifier):
        return identifier
    mark = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    kept = "".join("_" if _is_unsafe(sign) else sign for sign in identifier[: 4 * _KEPT])
    kept = re.sub(r"_{2,}", "_", unicodedata.normalize("NFC", kept)).strip(" ._-~")
    while len(kept.encode()) > _KEPT:
        kept = kept[:-1]
    return f"{kept}-{mark}" if kept and not _DEVICE.fullmatch(kept) else f"id-{mark}"


def file_names(identifier: str) -> tuple[str, ...]:
    """Return the names under which a file of that id may lie, the one that is written today first.

    Earlier versions took an id as it was: where that is one plain name on this system it is still looked for.
    """
    safe = file_name(identifier)
    plain = not re.search(r"[/\\\0]", identifier) and identifier.strip() not in ("", ".", "..")
    plain = plain and len(identifier.encode("utf-8", "surrogatepass")) <= 2 * _LONGEST
    return (safe, identifier) if plain and identifier != safe and os.name == "posix" else (safe,)


def _is_safe(name: str) -> bool:
    return (
        0 < len(name.encode("utf-8", "surrogatepass")) <= _LONGEST
        and not any(_is_unsafe(sign) for sign in name)
        and name[0] not in ". -~"
        and name[-1] not in ". "
        and not _DEVICE.fullmatch(name)
    )


def _is_unsafe(sign: str) -> bool:
    return sign in _SIGNS or unicodedata.category(sign).startswith(_UNSEEN)
