"""Where all chance of a run comes from."""

from __future__ import annotations

import zlib


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts and nothing else."""
    text = "|".join(map(str, parts)).encode()
    return zlib.crc32(text) << 31 | zlib.crc32(text[::-1])
