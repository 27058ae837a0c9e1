"""Tensors out of a PyTorch checkpoint, without running anything that the file says.

A checkpoint is a pickle: a program that may import and call whatever it likes. Here that program runs on dead parts:

* No name in it is ever imported. The few that stand for tensors, storages and containers get counterparts of our own,
  which only take notes; every other name becomes one class whose objects keep what they are given and do nothing. So a
  whole module, as ``torch.save(model)`` writes it, can be walked although none of its classes is here.
* A note is sealed: nothing in the file can set an attribute of it, or of anything that exists in this process.
* The bytes of a tensor are read at the end, after its size, strides and offset were found to lie within its storage.

The opcodes are looked through before they run, for the few that could crash or starve the interpreter.

Formats: PyTorch's zip files (1.6 and later), the one-stream format before it, and safetensors.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn

from .errors import BundleError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_FILE_BYTES = 4 << 30
MAX_PICKLE_BYTES = 64 << 20
MAX_OPCODES = 5_000_000
MAX_TUPLES = 50_000
"""Hashing a tuple in a tuple in a tuple ... ends the process somewhere above 100,000; SurvPath needs 7,000."""
MAX_DEPTH = 100
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 8
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
"""Entries under which training scripts keep the weights, beside optimizer and epoch."""
_ASK = "Ask for a plain state dict of it, saved with torch.save(model.state_dict(), FILE)"


class CheckpointError(BundleError):
    """A checkpoint file is damaged, hostile, or holds no tensors under names."""


class _NotACheckpointError(Exception):
    """What is wrong with the file, as half a sentence; becomes a CheckpointError with the file's name."""


# --- what the pickle sees -----------------------------------------------------------------------------------


class _Storage(NamedTuple):
    """One run of numbers in the file; ``dtype`` is None for bytes whose type the tensor tells."""

    key: str
    dtype: str | None
    numel: int


class _StorageType(NamedTuple):
    dtype: str | None


class _Tensor(NamedTuple):
    """A tensor that is not read yet: ``offset``, ``size`` and ``stride`` count elements of ``storage``."""

    storage: _Storage
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
        raise _NotACheckpointError("it tries to change the program")

    def __setstate__(self, state: object) -> NoReturn:
        raise _NotACheckpointError("it tries to change the program")


class _Inert:
    """An object of a class that is not admitted: it keeps the state that the file gives it and does nothing.

    Calling it, or its class, gives another such object: so a chain like getattr(os, "system")("...") ends here.
    """

    __slots__ = ("items", "state")
    state: object
    items: list[object]

    def __new__(cls, *arguments: object, **named: object) -> _Inert:
        made = object.__new__(cls)
        made.state, made.items = None, []
        return made

    def __init__(self, *arguments: object, **named: object) -> None:
        """Take anything."""

    def __call__(self, *arguments: object, **named: object) -> _Inert:
        return _Inert()

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
_ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1,
}  # fmt: skip
_DTYPE_NAMES = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32"}


def _tensor(
    storage: object, offset: object, size: object, stride: object, *_: object, dtype: object = None
) -> _Tensor:
    """Note a tensor after checking that all of it lies within its storage."""
    if not isinstance(storage, _Storage):
        raise _NotACheckpointError("a tensor in it has no storage")
    if storage.dtype is not None:
        dtype = storage.dtype
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise _NotACheckpointError("a tensor in it is of an unknown kind of number")
    sizes, strides = _counts(size), _counts(stride)
    if len(sizes) != len(strides) or len(sizes) > MAX_DIMENSIONS or not _is_count(offset):
        raise _NotACheckpointError("a tensor in it has an impossible shape")
    start = int(offset)  # type: ignore[call-overload]
    numel = storage.numel if storage.dtype is not None else storage.numel // _ITEM_BYTES[dtype]
    last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    # Weights are never expanded views: more elements than the storage has would only be made to fill the memory.
    if 0 in sizes or last >= numel or math.prod(sizes) > numel:
        raise _NotACheckpointError("a tensor in it is empty or reaches beyond the numbers stored for it")
    return _Tensor(storage, dtype, start, sizes, strides)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(map(_is_count, values)):
        raise _NotACheckpointError("a tensor in it has an impossible shape")
    return tuple(values)


def _tensor_v3(
    storage: object, offset: object, size: object, stride: object, grad: object = None, hooks: object = None,
    dtype: object = None, *_: object,
) -> _Tensor:  # fmt: skip
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
        self.storages: dict[str, _Storage] = {}

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
            if module == "torch" and plain in _ITEM_BYTES:
                return plain
        if module == "collections" and name == "OrderedDict":
            return _Dict
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return _Items
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        """Note a storage; the class of a module, which old files keep with its source, is what find_class gave."""
        if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], type):
            return pid[1]
        if type(pid) is not tuple or not 5 <= len(pid) <= 6 or pid[0] != "storage":
            raise _NotACheckpointError("it refers to something that is no storage")
        _, kind, key, _, numel, *view = pid
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or not _is_count(numel):
            raise _NotACheckpointError("a storage in it is described wrongly")
        if view and view[0] is not None:
            raise _NotACheckpointError("it was written by a version of PyTorch before 0.4")
        storage = self.storages.setdefault(key, _Storage(key, kind.dtype, numel))
        if storage != (key, kind.dtype, numel):
            raise _NotACheckpointError("a storage in it is described twice")
        return storage


def _unpickle(content: bytes) -> tuple[object, dict[str, _Storage]]:
    """Run one pickle on dead parts; return what it makes and the storages that it mentions."""
    reader = _Reader(io.BytesIO(content))
    return reader.load(), reader.storages


def _pickle_at(stream: IO[bytes]) -> bytes:
    """Cut the pickle at the stream's position out of it, after looking through its opcodes.

    Refused are the extension registry, which would lead past find_class, memo places beyond any number of objects,
    for which the interpreter would allocate room, and more nesting than it can hash.
    """
    start = stream.tell()
    tuples = 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPCODES or (position or start) - start > MAX_PICKLE_BYTES:
            raise _NotACheckpointError("it describes more objects than any model has")
        if opcode.name in ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"):
            raise _NotACheckpointError("it uses a part of the pickle format that no model needs")
        if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= MAX_OPCODES:
            raise _NotACheckpointError("it counts more objects than any model has")
        if opcode.name.startswith("TUPLE"):
            tuples += 1
            if tuples > MAX_TUPLES:
                raise _NotACheckpointError("it describes more objects than any model has")
    end = stream.tell()
    if end - start > MAX_PICKLE_BYTES:
        raise _NotACheckpointError("it describes more objects than any model has")
    stream.seek(start)
    return stream.read(end - start)


# --- the file -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Opened:
    """A checkpoint before its tensors are read.

    Attributes
    ----------
    root : what the pickle made.   read : storage -> its bytes.
    """

    root: object
    read: Callable[[_Storage], bytes]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint under their dotted names.

    Parameters
    ----------
    path : a state dict, a whole pickled module, or a dictionary that holds one of them beside other things;
        in PyTorch's zip or older format, or safetensors. A leading ``module.`` (DataParallel) is removed.

    Returns
    -------
    name -> tensor on the CPU, contiguous; floating-point numbers as float32.

    Raises
    ------
    CheckpointError : damaged, no checkpoint, too large, or weights that are not finite. Nothing in the file is
        executed in any case.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"There is no checkpoint {path}", "Check the name and the folder")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CheckpointError(
                f"{path.name} is larger than {MAX_FILE_BYTES >> 30} GiB", "Give the checkpoint of one model"
            )
        with path.open("rb") as stream:
            if path.suffix.lower() == ".safetensors":
                tensors = _read_safetensors(stream)
            else:
                opened = _open_zip(stream) if zipfile.is_zipfile(stream) else _open_legacy(stream)
                tensors = _materialize(_find_tensors(opened.root), opened.read, path.stat().st_size)
    except CheckpointError:
        raise
    except _NotACheckpointError as error:
        raise CheckpointError(f"{path.name} cannot be read as a checkpoint: {error}", _ASK) from error
    except Exception as error:  # a pickle made of anything fails in any way
        raise CheckpointError(
            f"{path.name} cannot be read as a checkpoint: it is damaged, cut off or of another format",
            "Download or copy it again; PyTorch (.pt, .pth, .bin) and safetensors are read",
        ) from error
    return {name: _plain(name, tensor, path) for name, tensor in _without_prefix(tensors).items()}


def _plain(name: str, tensor: Tensor, path: Path) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.float()
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"The weights {name} of {path.name} are not all numbers (NaN or infinite)",
                "Give a checkpoint of a training that did not fail",
            )
    return tensor.contiguous()


def _read_safetensors(stream: IO[bytes]) -> dict[str, Tensor]:
    import safetensors.torch

    tensors = safetensors.torch.load(stream.read())
    if not tensors or any(t.numel() == 0 for t in tensors.values()):
        raise _NotACheckpointError("it holds no tensors, or empty ones")
    return tensors


def _open_zip(stream: IO[bytes]) -> _Opened:
    archive = zipfile.ZipFile(stream)
    names = set(archive.namelist())
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _NotACheckpointError("it is a zip file, but not one of PyTorch")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in names:
        raise _NotACheckpointError("it is a TorchScript program, not a model's weights")

    def content(name: str, at_least: int = 0) -> bytes:
        info = archive.getinfo(name)
        # PyTorch stores without compression; a compressed record could unfold to any size.
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size < at_least:
            raise _NotACheckpointError(
                "a tensor in it is shorter than it claims, or packed in an unknown way"
            )
        return archive.read(info)

    if folder + "byteorder" in names and content(folder + "byteorder") != b"little":
        raise _NotACheckpointError("it was written on a machine with another byte order")
    program = content(pickles[0])
    if len(program) > MAX_PICKLE_BYTES:
        raise _NotACheckpointError("it describes more objects than any model has")
    root, _ = _unpickle(_pickle_at(io.BytesIO(program)))
    return _Opened(root, lambda s: content(f"{folder}data/{s.key}", _storage_bytes(s)))


def _storage_bytes(storage: _Storage) -> int:
    return storage.numel * (1 if storage.dtype is None else _ITEM_BYTES[storage.dtype])


def _open_legacy(stream: IO[bytes]) -> _Opened:
    """Open the older format: magic number, version, facts of the machine, the pickle, keys, then all storages."""
    stream.seek(0)
    if _unpickle(_pickle_at(stream))[0] != _LEGACY_MAGIC:
        raise _NotACheckpointError("it is no file of PyTorch")
    version, machine = _unpickle(_pickle_at(stream))[0], _unpickle(_pickle_at(stream))[0]
    if (
        version != _LEGACY_PROTOCOL
        or not isinstance(machine, dict)
        or machine.get("little_endian") is not True
    ):
        raise _NotACheckpointError(
            "it was written by an unknown version of PyTorch or with another byte order"
        )
    root, storages = _unpickle(_pickle_at(stream))
    keys = _unpickle(_pickle_at(stream))[0]
    if not isinstance(keys, list) or len(keys) > MAX_TENSORS:
        raise _NotACheckpointError("its list of storages is damaged")
    places: dict[str, int] = {}
    position = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    for key in keys:
        storage = storages[key]
        stream.seek(position)
        (numel,) = struct.unpack("<q", stream.read(8))
        if numel != storage.numel or position + 8 + _storage_bytes(storage) > end:
            raise _NotACheckpointError("a tensor in it is shorter than it claims")
        places[key] = position + 8
        position += 8 + _storage_bytes(storage)

    def read(storage: _Storage) -> bytes:
        stream.seek(places[storage.key])
        return stream.read(_storage_bytes(storage))

    return _Opened(root, read)


# --- from objects to tensors --------------------------------------------------------------------------------


def _find_tensors(root: object) -> dict[str, _Tensor]:
    """Return the tensors of a module, a state dict, or a dictionary that holds one of them."""
    found = dict(_tensors_of(root))
    if not found and isinstance(root, dict):
        for name in _WRAPPERS:
            found = dict(_tensors_of(root.get(name)))
            if found:
                break
    if not found:
        raise _NotACheckpointError("it holds neither a state dict nor a module")
    return found


def _tensors_of(value: object) -> Iterator[tuple[str, _Tensor]]:
    if isinstance(value, dict):
        # Where not even half of the entries are tensors it is not a state dict but something that may hold one.
        tensors = [(k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, _Tensor)]
        if 2 * len(tensors) >= len(value):
            yield from tensors
    elif _module_state(value) is not None:
        yield from _walk(value, "", [], [0])


def _module_state(value: object) -> Mapping[str, object] | None:
    """Return the attributes of an object that is a pickled nn.Module."""
    if not isinstance(value, _Inert):
        return None
    state = value.state
    if isinstance(state, tuple) and state:
        state = state[0]  # attributes, then slots
    if not isinstance(state, dict) or not isinstance(state.get("_parameters"), dict):
        return None
    return state


def _walk(
    module: object, prefix: str, above: list[object], count: list[int]
) -> Iterator[tuple[str, _Tensor]]:
    """Yield parameters and buffers as ``Module.state_dict`` would name them.

    Parameters
    ----------
    above : the modules on the way here, so that a circle ends.   count : of modules and tensors seen, in place.
    """
    state = _module_state(module)
    if state is None:
        return
    if len(above) > MAX_DEPTH or any(module is other for other in above):
        raise _NotACheckpointError("its modules contain themselves or are nested too deep")
    unsaved = state.get("_non_persistent_buffers_set")
    unsaved = unsaved if isinstance(unsaved, (list, set, frozenset)) else ()
    for group in ("_parameters", "_buffers"):
        entries = state.get(group)
        for name, value in entries.items() if isinstance(entries, dict) else ():
            count[0] += 1
            kept = group == "_parameters" or name not in unsaved
            if kept and isinstance(name, str) and isinstance(value, _Tensor):
                yield f"{prefix}{name}", value
    children = state.get("_modules")
    for name, child in children.items() if isinstance(children, dict) else ():
        count[0] += 1
        if count[0] > MAX_TENSORS:
            raise _NotACheckpointError("it describes more objects than any model has")
        if isinstance(name, str):
            yield from _walk(child, f"{prefix}{name}.", [*above, module], count)


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what DataParallel puts before every name."""
    names = dict(tensors)
    while names and all(name.startswith("module.") for name in names):
        names = {name.removeprefix("module."): value for name, value in names.items()}
    return names


def _materialize(
    found: Mapping[str, _Tensor], read: Callable[[_Storage], bytes], file_bytes: int
) -> dict[str, Tensor]:
    """Read the tensors; views of one storage are copied apart."""
    import torch

    total = sum(math.prod(t.size) * _ITEM_BYTES[t.dtype] for t in found.values())
    stored = sum(map(_storage_bytes, {t.storage for t in found.values()}))
    if len(found) > MAX_TENSORS or stored > file_bytes or total > min(MAX_FILE_BYTES, 4 * file_bytes):
        raise _NotACheckpointError("its tensors are larger than the file")
    tensors: dict[str, Tensor] = {}
    by_storage: dict[_Storage, list[str]] = {}
    for name, tensor in found.items():
        by_storage.setdefault(tensor.storage, []).append(name)
    for storage, names in by_storage.items():
        content = bytearray(read(storage))
        for name in names:
            note = found[name]
            dtype: torch.dtype = getattr(torch, note.dtype)  # one of _ITEM_BYTES, not the file's word
            count = _storage_bytes(storage) // _ITEM_BYTES[note.dtype]
            flat = torch.frombuffer(content, dtype=dtype, count=count)
            tensors[name] = flat.as_strided(note.size, note.stride, note.offset).clone(
                memory_format=torch.contiguous_format
            )
    return {name: tensors[name] for name in found}
