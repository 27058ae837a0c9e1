"""Damage a file or a folder in a way that a seed repeats: bytes, cuts, splices, and numbers that cannot be true."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

HUGE = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
WORDS = (
    b"", b"NaN", b"-1", b"0", b"1e999", b"-1e308", b"9" * 40, b"99999999999", b"4294967296", b"null", b"[]", b"{}", b'""',
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"=1+1", b"../../x", b"true", b"[" * 3000, b'{"a":' * 3000, b"\t", b",", b";", b'"',
)  # fmt: skip
TEXTS = (".json", ".geojson", ".toml", ".csv", ".tsv", ".gmt", ".txt")
Mutation = Callable[[bytearray, random.Random], None]


def _place(data: bytearray, chance: random.Random) -> int:
    """Return a place, often in the head or the tail, where formats keep their tables."""
    end = max(1, len(data))
    zone = chance.random()
    if zone < 0.35:
        return chance.randrange(min(end, 512))
    if zone < 0.55:
        return max(0, end - 1 - chance.randrange(min(end, 1024)))
    return chance.randrange(end)


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = _place(data, chance)
        if at < len(data):
            data[at] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 4, 16))):
        at = _place(data, chance)
        if at < len(data):
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _splice(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.choice((1, 4, 16, 256, 4096))]
    at = _place(data, chance)
    if chance.random() < 0.5:
        data[at : at + len(piece)] = piece
    else:
        data[at:at] = piece


def _drop(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 8, 64, 1024))]


def _number(data: bytearray, chance: random.Random) -> None:
    """Write a huge or odd number over an aligned field."""
    width = chance.choice((2, 4, 4, 8))
    at = _place(data, chance) // width * width
    value = chance.choice((*HUGE, len(data), len(data) - 1)) & ((1 << 8 * width) - 1)
    data[at : at + width] = value.to_bytes(width, chance.choice(("little", "little", "big")))


def _word(data: bytearray, chance: random.Random) -> None:
    """Put another word in the place of a number, a text or a sign."""
    found = list(re.finditer(rb'-?\d+(?:\.\d+)?|"[^"\n]*"|true|false|null|[,;\t:=\[\]{}\n]', bytes(data)))
    if found:
        chosen = chance.choice(found)
        data[chosen.start() : chosen.end()] = chance.choice(WORDS)


def _lines(data: bytearray, chance: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    what = chance.randrange(4)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines[at:at] = [lines[other]] * chance.choice((1, 2, 500))
    elif what == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] += chance.choice(WORDS)
    data[:] = b"\n".join(lines)


def _directory_entry(data: bytearray, chance: random.Random) -> None:
    """Change kind, count or value of an entry of a TIFF directory, or lead a directory elsewhere."""
    places = _tiff_entries(bytes(data))
    if not places:
        _number(data, chance)
        return
    order, big, entries, nexts = places
    word = "Q" if big else "I"
    if nexts and chance.random() < 0.08:
        at = chance.choice(nexts)
        target = chance.choice((8, 16, len(data) - 4, *[n - 12 for n in nexts]))
        struct.pack_into(order + word, data, at, max(0, target))
        return
    at = chance.choice(entries)
    field = chance.randrange(4)
    if field == 0:
        struct.pack_into(
            order + "H",
            data,
            at,
            chance.choice((256, 257, 258, 259, 273, 277, 279, 322, 324, 325, 330, 347, 65420)),
        )
    elif field == 1:
        struct.pack_into(order + "H", data, at + 2, chance.choice((0, 1, 2, 3, 4, 5, 12, 13, 16, 99)))
    else:
        limit = (1 << (64 if big else 32)) - 1
        value = chance.choice((*HUGE, len(data), 2, 3, 7, 8, 256)) & limit
        struct.pack_into(order + word, data, at + 4 + (field == 3) * struct.calcsize(word), value)


def _tiff_entries(data: bytes) -> tuple[str, bool, list[int], list[int]] | None:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return None
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    word, count_format, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    at = struct.unpack_from(order + word, data, 8 if big else 4)[0]
    entries: list[int] = []
    nexts: list[int] = []
    while 0 < at < len(data) and len(nexts) < 20:
        try:
            count = struct.unpack_from(order + count_format, data, at)[0]
            start = at + struct.calcsize(order + count_format)
            end = start + min(count, 100) * size
            at = struct.unpack_from(order + word, data, end)[0]
        except struct.error:
            break
        entries += range(start, end, size)
        nexts.append(end)
    return (order, big, entries, nexts) if entries else None


_BYTES: tuple[Mutation, ...] = (_flip, _byte, _number, _number, _cut, _splice, _drop)
_TEXT: tuple[Mutation, ...] = (_word, _word, _word, _lines, _lines, _flip, _cut, _splice)
_TIFF: tuple[Mutation, ...] = (
    _directory_entry,
    _directory_entry,
    _directory_entry,
    _flip,
    _byte,
    _number,
    _cut,
    _splice,
    _drop,
)


def mutate(path: Path, seed: int) -> None:
    """Damage a file, or one to two files of a folder, in place."""
    chance = random.Random(seed)
    if path.is_file():
        _mutate_file(path, chance)
        return
    files = sorted(p for p in path.rglob("*") if p.is_file())
    for file in chance.sample(files, min(len(files), chance.choice((1, 1, 1, 2)))):
        if chance.random() < 0.04:
            file.unlink()
        else:
            _mutate_file(file, chance)
    if (path / "bundle.json").is_file() and chance.random() < 0.8:
        _hash_again(path)  # so that the readers behind the check of the hashes are reached, too


def _mutate_file(file: Path, chance: random.Random) -> None:
    raw = file.read_bytes()
    inside = raw[:2] == b"\x1f\x8b" and chance.random() < 0.7
    data = bytearray(gzip.decompress(raw) if inside else raw)
    name = file.name.removesuffix(".gz").lower() if inside else file.name.lower()
    if name.endswith(TEXTS) and not name.endswith(".gz"):
        choices = _TEXT
    else:
        choices = _TIFF if data[:2] in (b"II", b"MM") else _BYTES
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(choices)(data, chance)
    file.write_bytes(gzip.compress(bytes(data), mtime=0) if inside else bytes(data))


def _hash_again(folder: Path) -> None:
    place = folder / "bundle.json"
    try:
        document = json.loads(place.read_text())
        for name in document["files"]:
            document["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        place.write_text(json.dumps(document))
    except (ValueError, OSError, KeyError, TypeError, RecursionError, UnicodeDecodeError):
        return  # its own text is what was damaged
