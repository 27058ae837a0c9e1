"""Limits for HDF5 files that come from anywhere: what a file declares is held against what is in it.

A few bytes of a header declare any number of rows, a fill value stands for chunks that are not there, and a chunk of
zeros unpacks to a thousand times its size: each is looked at before memory is taken. Links that lead out of a file
(external, soft, virtual) are not followed. A readable file is opened by its caller, who turns H5_ERRORS into a sentence.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

# What h5py raises on a damaged file: whatever the C library's error looks like to it.
H5_ERRORS = (
    OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, MemoryError,
    NotImplementedError, SystemError,
)  # fmt: skip
_FREE_BYTES = 64 << 20  # decoded, that any file may have
_MAX_RATIO = 100  # decoded to stored beyond that; features take 1 to 1.3, attention matrices up to 3
_MAX_CHUNK_BYTES = 512 << 20
_MAX_ATTRIBUTES = 1000
_MAX_ATTRIBUTE_BYTES = 1 << 20
_MAX_TEXTS = 64  # an attribute's texts of any length
_DEFLATE, _KNOWN_FILTERS = (
    1,
    (1, 2, 3, 4, 5, 6, 32000),
)  # gzip, shuffle, fletcher32, szip, nbit, scaleoffset, lzf


class H5Error(ValueError):
    """A file is not what it should be: a clause for the reader that names the file."""


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return a dataset of the file itself; H5Error for none, or one that is elsewhere."""
    *above, last = name.split("/")
    for part in above:
        group = subgroup(group, part)
    _require(group, last, name)
    found = group[last]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise H5Error(f"'{name}' is no dataset of the file")
    return found


def _require(group: h5py.Group, link: str, name: str) -> None:
    found = group.get(link, getlink=True)
    if found is None:
        raise H5Error(f"'{name}' is missing")
    if not isinstance(found, h5py.HardLink):
        raise H5Error(f"'{name}' points to another file or place")


def subgroup(group: h5py.Group, name: str) -> h5py.Group:
    """Return a group of the file itself; H5Error for none, or one that is elsewhere."""
    _require(group, name, name)
    found = group[name]
    if not isinstance(found, h5py.Group):
        raise H5Error(f"'{name}' is no group")
    return found


def checked(data: h5py.Dataset, most_bytes: int, kinds: str = "fiu") -> h5py.Dataset:
    """Return a dataset of numbers whose size can be true; H5Error for any other.

    Parameters
    ----------
    most_bytes : of memory that it may take.   kinds : of its type, as NumPy's ``dtype.kind``.
    """
    name = str(data.name).lstrip("/")
    if data.shape is None or data.dtype.kind not in kinds or data.dtype.subdtype is not None:
        raise H5Error(f"'{name}' holds no numbers")
    size = math.prod(data.shape) * data.dtype.itemsize
    if size > most_bytes or len(data.shape) > 4:
        raise H5Error(f"'{name}' claims an impossible size")
    stored = data.id.get_storage_size()
    if stored > Path(data.file.filename).stat().st_size:
        raise H5Error(f"'{name}' claims to be larger than its file")
    if size > _FREE_BYTES and size > _MAX_RATIO * stored:
        raise H5Error(f"'{name}' claims {size / 1e6:,.0f} MB and has {stored / 1e6:,.1f}")
    if data.chunks is not None:
        _check_chunks(data, name)
    return data


def _check_chunks(data: h5py.Dataset, name: str) -> None:
    chunk = math.prod(data.chunks) * data.dtype.itemsize
    if chunk > _MAX_CHUNK_BYTES:
        raise H5Error(f"'{name}' claims pieces of {chunk / 1e6:,.0f} MB")
    plan = data.id.get_create_plist()
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if any(one not in _KNOWN_FILTERS for one in filters):
        raise H5Error(f"'{name}' is packed in a way that is not known here")
    if _DEFLATE not in filters:
        return
    # The library unpacks a piece to wherever it ends; more than 2 MB of gzip may end beyond 2 GB.
    first = filters.index(_DEFLATE)
    for number in range(data.id.get_num_chunks()):
        facts = data.id.get_chunk_info(number)
        if facts.size <= max(2 << 20, chunk // 1000) or facts.filter_mask >> first & 1:
            continue
        _, packed = data.id.read_direct_chunk(facts.chunk_offset)
        if 3 in filters:
            packed = packed[:-4]
        unpacked = zlib.decompressobj()
        try:
            unpacked.decompress(packed, chunk + 8)
        except zlib.error as error:
            raise H5Error(f"'{name}' is damaged") from error
        if unpacked.unconsumed_tail:
            raise H5Error(f"'{name}' unpacks to more than it claims")


def array(group: h5py.Group, name: str, most_bytes: int, kinds: str = "fiu") -> NDArray[Any]:
    """Read a dataset of numbers; see :func:`dataset` and :func:`checked`."""
    return np.asarray(checked(dataset(group, name), most_bytes, kinds)[()])


def texts(group: h5py.Group, name: str, most: int, most_bytes: int) -> list[str]:
    """Read a dataset of at most ``most`` texts of variable or fixed length, together at most ``most_bytes``."""
    data = dataset(group, name)
    kind = h5py.check_string_dtype(data.dtype)
    if kind is None or data.shape is None or len(data.shape) > 1 or data.size > most:
        raise H5Error(f"'{name}' is no list of texts")
    if kind.length is not None and kind.length * data.size > most_bytes:
        raise H5Error(f"'{name}' claims an impossible size")
    if data.chunks is not None:
        _check_chunks(data, name)
    found: list[str] = []
    left = most_bytes
    for start in range(0, data.size, 64) if data.shape else [0]:
        # A few at a time: many entries may name the same long text.
        part = data[start : start + 64] if data.shape else [data[()]]
        for raw in part:
            left -= len(raw)
            if left < 0:
                raise H5Error(f"'{name}' is too long")
            found.append(raw.decode("utf-8") if isinstance(raw, bytes) else str(raw))
    return found


def text(group: h5py.Group, name: str, most_bytes: int) -> str:
    """Read a dataset of one text."""
    found = texts(group, name, 1, most_bytes)
    if len(found) != 1:
        raise H5Error(f"'{name}' is no text")
    return found[0]


def attributes(node: h5py.HLObject) -> dict[str, Any]:
    """Read the attributes of a file, group or dataset; H5Error where they are more than any tool writes."""
    if len(node.attrs) > _MAX_ATTRIBUTES:
        raise H5Error("it has more attributes than any tool writes")
    found: dict[str, Any] = {}
    for name in node.attrs:
        facts = node.attrs.get_id(name)
        count = math.prod(facts.shape) if facts.shape is not None else 0
        varying = facts.dtype.kind == "O"
        if count * facts.dtype.itemsize > _MAX_ATTRIBUTE_BYTES or (varying and count > _MAX_TEXTS):
            raise H5Error(f"its attribute '{name}' claims an impossible size")
        found[str(name)] = node.attrs[name]
    return found
