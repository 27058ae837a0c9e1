"""A checkpoint's pickle, run on dead parts: tensors and containers become notes, everything else does nothing.

* No name in it is ever imported. The few that stand for tensors, storages and containers get counterparts of our own,
  which only take notes; every other name becomes one class whose objects keep what they are given and do nothing. So a
  whole module, as ``torch.save(model)`` writes it, can be walked although none of its classes is here.
* A note is sealed: nothing in the file can set an attribute of it, or of anything that exists in this process.

The opcodes are looked through before they run, for the few that could crash or starve the interpreter.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any, NamedTuple, NoReturn

MAX_PICKLE_BYTES = 64 << 20
MAX_OPCODES = 5_000_000
MAX_TUPLES = 50_000
"""Hashing a tuple in a tuple in a tuple ... ends the process somewhere above 100,000; SurvPath needs 7,000."""
MAX_DIMENSIONS = 8


class NotACheckpointError(Exception):
    """What is wrong with the file, as half a sentence; becomes a CheckpointError with the file's name."""


class Storage(NamedTuple):
    """One run of numbers in the file; ``dtype`` is None for bytes whose type the tensor tells."""

    key: str
    dtype: str | None
    numel: int


class _StorageType(NamedTuple):
    dtype: str | None


class TensorNote(NamedTuple):
    """A tensor that is not read yet: ``offset``, ``size`` and ``stride`` count elements of ``storage``."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Dict(dict):
    """Stands for OrderedDict; attributes that the file sets on it (``_metadata``) are dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        return None


class _Items(list):
    """Stands for sets."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        return None


class _Admitted:
    """A counterpart of one of the functions that rebuild tensors; nothing can be set on it."""

    __slots__ = ("_make",)
    _make: Callable[..., object]

    def __init__(self, make: Callable[..., object]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise NotACheckpointError("it tries to change the program")

    def __setstate__(self, state: object) -> NoReturn:
        raise NotACheckpointError("it tries to change the program")


class Inert:
    """An object of a class that is not admitted: it keeps the state that the file gives it and does nothing.

    Calling it, or its class, gives another such object: so a chain like getattr(os, "system")("...") ends here.
    """

    __slots__ = ("items", "state")
    state: object
    items: list[object]

    def __new__(cls, *arguments: object, **named: object) -> Inert:
        made = object.__new__(cls)
        made.state, made.items = None, []
        return made

    def __init__(self, *arguments: object, **named: object) -> None:
        """Take anything."""

    def __call__(self, *arguments: object, **named: object) -> Inert:
        return Inert()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Drop what a mapping of an unknown class holds; weights are never in one."""

    def append(self, value: object) -> None:
        self.items.append(value)

    def extend(self, values: list[object]) -> None:
        self.items.extend(values)

    add = append


_DTYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1,
}  # fmt: skip
_DTYPE_NAMES = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32"}


def _tensor(
    storage: object, offset: object, size: object, stride: object, *_: object, dtype: object = None
) -> TensorNote:
    """Note a tensor after checking that all of it lies within its storage."""
    if not isinstance(storage, Storage):
        raise NotACheckpointError("a tensor in it has no storage")
    if storage.dtype is not None:
        dtype = storage.dtype
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise NotACheckpointError("a tensor in it is of an unknown kind of number")
    sizes, strides = _counts(size), _counts(stride)
    if len(sizes) != len(strides) or len(sizes) > MAX_DIMENSIONS or not _is_count(offset):
        raise NotACheckpointError("a tensor in it has an impossible shape")
    start = int(offset)  # type: ignore[call-overload]
    numel = storage.numel if storage.dtype is not None else storage.numel // ITEM_BYTES[dtype]
    last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    # Weights are never expanded views: more elements than the storage has would only be made to fill the memory.
    if 0 in sizes or last >= numel or math.prod(sizes) > numel:
        raise NotACheckpointError("a tensor in it is empty or reaches beyond the numbers stored for it")
    return TensorNote(storage, dtype, start, sizes, strides)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(map(_is_count, values)):
        raise NotACheckpointError("a tensor in it has an impossible shape")
    return tuple(values)


def _tensor_v3(
    storage: object, offset: object, size: object, stride: object, grad: object = None, hooks: object = None,
    dtype: object = None, *_: object,
) -> TensorNote:  # fmt: skip
    return _tensor(storage, offset, size, stride, dtype=dtype)


def _parameter(data: object = None, *_: object) -> object:
    return data


def _size(values: object = (), *_: object) -> tuple[int, ...]:
    return _counts(values)


_REBUILD: dict[str, Callable[..., object]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
}


class _Reader(pickle.Unpickler):
    """Unpickles into the parts above. No name leads to an import, and none to anything that acts."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, fix_imports=False, encoding="utf-8", errors="replace")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return our counterpart of a name, compared as text; never what it names."""
        if module == "torch._utils" and name in _REBUILD:
            return _Admitted(_REBUILD[name])
        if module == "torch" and name == "Size":
            return _Admitted(_size)
        if module in ("torch", "torch.cuda", "torch.storage"):
            if name in _DTYPES:
                return _StorageType(_DTYPES[name])
            if name == "UntypedStorage":
                return _StorageType(None)
            plain = _DTYPE_NAMES.get(name, name)
            if module == "torch" and plain in ITEM_BYTES:
                return plain
        if module == "collections" and name == "OrderedDict":
            return _Dict
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return _Items
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        """Note a storage; the class of a module, which old files keep with its source, is what find_class gave."""
        if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], type):
            return pid[1]
        if type(pid) is not tuple or not 5 <= len(pid) <= 6 or pid[0] != "storage":
            raise NotACheckpointError("it refers to something that is no storage")
        _, kind, key, _, numel, *view = pid
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or not _is_count(numel):
            raise NotACheckpointError("a storage in it is described wrongly")
        if view and view[0] is not None:
            raise NotACheckpointError("it was written by a version of PyTorch before 0.4")
        storage = self.storages.setdefault(key, Storage(key, kind.dtype, numel))
        if storage != (key, kind.dtype, numel):
            raise NotACheckpointError("a storage in it is described twice")
        return storage


def unpickle(content: bytes) -> tuple[object, dict[str, Storage]]:
    """Run one pickle on dead parts; return what it makes and the storages that it mentions."""
    reader = _Reader(io.BytesIO(content))
    return reader.load(), reader.storages


def cut_pickle(stream: IO[bytes]) -> bytes:
    """Cut the pickle at the stream's position out of it, after looking through its opcodes.

    Refused are the extension registry, which would lead past find_class, memo places beyond any number of objects,
    for which the interpreter would allocate room, and more nesting than it can hash.
    """
    start = stream.tell()
    tuples = 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPCODES or (position or start) - start > MAX_PICKLE_BYTES:
            raise NotACheckpointError("it describes more objects than any model has")
        if opcode.name in ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"):
            raise NotACheckpointError("it uses a part of the pickle format that no model needs")
        if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= MAX_OPCODES:
            raise NotACheckpointError("it counts more objects than any model has")
        if opcode.name.startswith("TUPLE"):
            tuples += 1
            if tuples > MAX_TUPLES:
                raise NotACheckpointError("it describes more objects than any model has")
    end = stream.tell()
    if end - start > MAX_PICKLE_BYTES:
        raise NotACheckpointError("it describes more objects than any model has")
    stream.seek(start)
    return stream.read(end - start)
