"""Files that come packed: gzip and zip by their content, whatever their name says, and never more than a limit of them."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

from .errors import SurvPGCError

_CHUNK = 1 << 20
_TRUSTED = 256 << 20
"""Up to this size anything is unpacked; beyond it a file must not pretend to be a bomb."""
_MOST_PACKED = 200
"""Tables of numbers shrink to a third to a thirtieth, one of zeros alone to a two hundredth; a bomb to a thousandth."""
_OFFICE = ("[Content_Types].xml", "mimetype")  # Excel; LibreOffice
_OLE = b"\xd0\xcf\x11\xe0"
_OTHER_PACKERS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
}
_AS_CSV = "Save the sheet as CSV and give that file"


def unpacked(path: Path, raw: bytes, error: type[SurvPGCError], limit: int) -> bytes:
    """Return what is in a gzip or zip file (one packed file, maybe in the other); other bytes as they are.

    Raises
    ------
    error : an Excel workbook, several files in a zip file, a password, damaged, or more than ``limit`` bytes;
        packed in another way.
    """
    for _ in range(2):
        if raw[:2] == b"\x1f\x8b":
            raw = _gunzip(path, raw, error, limit)
        elif raw[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            raw = _unzip(path, raw, error, limit)
    if raw[:4] == _OLE:
        raise error(f"{path.name} is an Excel or zip file", _AS_CSV)
    for begins, name in _OTHER_PACKERS.items():
        if raw.startswith(begins):
            raise error(f"{path.name} is packed with {name}", "Unpack it and give the table in it")
    return raw


def _gunzip(path: Path, raw: bytes, error: type[SurvPGCError], limit: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            return _read(path, cast(IO[bytes], stream), len(raw), error, limit)
    except (OSError, EOFError, zlib.error) as problem:
        raise error(f"{path.name} is damaged or cut short", "Copy or download it again") from problem


def _unzip(path: Path, raw: bytes, error: type[SurvPGCError], limit: int) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            if any(item.filename in _OFFICE for item in archive.infolist()):
                raise error(f"{path.name} is an Excel or zip file", _AS_CSV)
            # macOS adds a hidden twin of each file.
            members = [
                item
                for item in archive.infolist()
                if not item.is_dir()
                and item.file_size
                and not item.filename.startswith("__MACOSX/")
                and not item.filename.rpartition("/")[2].startswith(".")
            ]
            if len(members) != 1:
                some = ", ".join(item.filename for item in members[:3])
                holds = f"{len(members)} files ({some}{' ...' if len(members) > 3 else ''})"
                raise error(
                    f"{path.name} is a zip file of {holds if members else 'no file'}",
                    "Unpack it and give the one table",
                )
            if members[0].flag_bits & 1:
                raise error(f"{path.name} is a zip file with a password", "Unpack it and give the table")
            with archive.open(members[0]) as stream:
                return _read(path, stream, max(1, members[0].compress_size), error, limit)
    except (
        OSError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        lzma.LZMAError,
    ) as problem:
        raise error(
            f"{path.name} is an Excel or zip file that is damaged or packed in an unusual way", _AS_CSV
        ) from problem


def _read(path: Path, stream: IO[bytes], packed: int, error: type[SurvPGCError], limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := stream.read(_CHUNK):
        size += len(part)
        if size > limit:
            raise error(f"{path.name} unpacks to more than {limit >> 20} MB", "Give fewer rows or samples")
        if size > _TRUSTED and size > _MOST_PACKED * packed:
            raise error(
                f"{path.name} unpacks to more than {_MOST_PACKED} times its size, as no table does",
                "Unpack it yourself and give the table",
            )
        parts.append(part)
    return b"".join(parts)
