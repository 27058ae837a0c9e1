"""Writes small DICOM slides, element by element: explicit little endian, pixels as they are, TILED_FULL."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
ANNOTATIONS = "1.2.840.10008.5.1.4.1.1.91.1"
_LONG = ("OB", "OW", "SQ", "UT")
_TILE = 64


def element(group: int, number: int, kind: str, value: Any) -> bytes:
    """Return one element; numbers by their kind, text padded to an even length."""
    if kind in ("US", "UL"):
        raw = struct.pack(f"<{'H' if kind == 'US' else 'I'}", value)
    elif isinstance(value, str):
        raw = value.encode()
        raw += (b"\0" if kind == "UI" else b" ") * (len(raw) % 2)
    else:
        raw = value + b"\0" * (len(value) % 2)
    head = struct.pack("<HH", group, number) + kind.encode()
    return head + (struct.pack("<HI", 0, len(raw)) if kind in _LONG else struct.pack("<H", len(raw))) + raw


def _sequence(group: int, number: int, content: bytes) -> bytes:
    """Return a sequence of one item, neither with a stated length."""
    head = struct.pack("<HH", group, number) + b"SQ" + struct.pack("<HI", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return head + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def write_dicom(
    path: Path,
    image: NDArray[np.uint8],
    *,
    kind: str = "VOLUME",
    series: str = "1.2.3.1",
    instance: str = "1.2.3.1.1",
    description: str = "",
    sop_class: str = WSI,
    syntax: str = "1.2.840.10008.1.2.1",
    photometric: str = "RGB",
    bits: int = 8,
    samples: int = 3,
    mpp: float = 0.5,
) -> Path:
    """Write a picture as one level of a slide, in tiles of 64 px; what is said of the pixels may be untrue."""
    height, width = image.shape[:2]
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    padded = np.full((rows * _TILE, columns * _TILE, 3), 255, np.uint8)
    padded[:height, :width] = image
    tiles = padded.reshape(rows, _TILE, columns, _TILE, 3).swapaxes(1, 2)
    meta = b"".join(
        [
            element(2, 1, "OB", b"\0\1"),
            element(2, 2, "UI", sop_class),
            element(2, 3, "UI", instance),
            element(2, 0x10, "UI", syntax),
            element(2, 0x12, "UI", "1.2.3"),
        ]
    )
    spacing = element(0x28, 0x30, "DS", f"{mpp / 1000:.6f}\\{mpp / 1000:.6f}")
    elements = [
        element(8, 8, "CS", f"ORIGINAL\\PRIMARY\\{kind}\\NONE"),
        element(8, 0x16, "UI", sop_class),
        element(8, 0x18, "UI", instance),
        element(8, 0x60, "CS", "SM"),
        element(8, 0x103E, "LO", description),
        _sequence(8, 0x1140, element(8, 0x1155, "UI", "1.2.3.9")),  # a sequence before what is looked for
        element(0x20, 0xD, "UI", "1.2.3"),
        element(0x20, 0xE, "UI", series),
        element(0x20, 0x9311, "CS", "TILED_FULL"),
        element(0x28, 2, "US", samples),
        element(0x28, 4, "CS", photometric),
        element(0x28, 6, "US", 0),
        element(0x28, 8, "IS", str(rows * columns)),
        element(0x28, 0x10, "US", _TILE),
        element(0x28, 0x11, "US", _TILE),
        element(0x28, 0x100, "US", bits),
        element(0x28, 0x101, "US", bits),
        element(0x28, 0x102, "US", bits - 1),
        element(0x28, 0x103, "US", 0),
        element(0x40, 0x512, "LO", "GLASS-1"),
        element(0x48, 6, "UL", width),
        element(0x48, 7, "UL", height),
        _sequence(0x5200, 0x9229, _sequence(0x28, 0x9110, spacing)),
        element(0x7FE0, 0x10, "OB", tiles.tobytes()),
    ]
    head = b"\0" * 128 + b"DICM" + element(2, 0, "UL", len(meta))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + meta + b"".join(elements))
    return path
