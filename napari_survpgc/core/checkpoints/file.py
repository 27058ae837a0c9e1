"""Tensors out of a PyTorch checkpoint, without running anything that the file says.

A checkpoint is a pickle: a program that may import and call whatever it likes. Here that program runs on dead parts,
the counterparts of :mod:`.pickled`. The bytes of a tensor are read at the end, after its size, strides and
offset were found to lie within its storage.

Formats: PyTorch's zip files (1.6 and later), the one-stream format before it, and safetensors.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from napari_survpgc.core.errors import BundleError

from .names import plain_names
from .pickled import (
    ITEM_BYTES,
    MAX_PICKLE_BYTES,
    Inert,
    NotACheckpointError,
    Storage,
    TensorNote,
    cut_pickle,
    unpickle,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_FILE_BYTES = 4 << 30
MAX_DEPTH = 100
MAX_TENSORS = 20_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "checkpoint", "params",
    "model_ema", "state_dict_ema", "ema",
)  # fmt: skip
"""Entries under which training scripts keep the weights, beside optimizer and epoch."""
_MAX_WRAPPED = 4  # {"checkpoint": {"model": {"state_dict": ...}}}
_ASK = "Ask for a plain state dict of it, saved with torch.save(model.state_dict(), FILE)"


class CheckpointError(BundleError):
    """A checkpoint file is damaged, hostile, or holds no tensors under names."""


@dataclass(frozen=True)
class _Opened:
    """A checkpoint before its tensors are read.

    Attributes
    ----------
    root : what the pickle made.   read : storage -> its bytes.
    """

    root: object
    read: Callable[[Storage], bytes]


@dataclass(frozen=True)
class CheckpointTensors:
    """The tensors of a checkpoint under the model's own names, and what was removed from the names in the file."""

    tensors: dict[str, Tensor]
    removed: tuple[str, ...]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint under their dotted names, see :func:`open_checkpoint`."""
    return open_checkpoint(path).tensors


def open_checkpoint(path: Path) -> CheckpointTensors:
    """Read the tensors of a checkpoint under their dotted names.

    Parameters
    ----------
    path : a state dict, a whole pickled module, or a dictionary that holds one of them beside other things;
        in PyTorch's zip or older format, or safetensors. What DataParallel, Lightning and torch.compile put into names
        is removed, see :mod:`.names`.

    Returns
    -------
    Tensors on the CPU, contiguous; floating-point numbers as float32.

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
    except NotACheckpointError as error:
        raise CheckpointError(f"{path.name} cannot be read as a checkpoint: {error}", _ASK) from error
    except Exception as error:  # a pickle made of anything fails in any way
        raise CheckpointError(
            f"{path.name} cannot be read as a checkpoint: it is damaged, cut off or of another format",
            "Download or copy it again; PyTorch (.pt, .pth, .bin) and safetensors are read",
        ) from error
    names, removed = plain_names(tensors)
    return CheckpointTensors(
        {names[name]: _plain(name, tensor, path) for name, tensor in tensors.items()}, removed
    )


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
        raise NotACheckpointError("it holds no tensors, or empty ones")
    return tensors


def _open_zip(stream: IO[bytes]) -> _Opened:
    archive = zipfile.ZipFile(stream)
    names = set(archive.namelist())
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise NotACheckpointError("it is a zip file, but not one of PyTorch")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in names:
        raise NotACheckpointError("it is a TorchScript program, not a model's weights")

    def content(name: str, at_least: int = 0) -> bytes:
        info = archive.getinfo(name)
        # PyTorch stores without compression; a compressed record could unfold to any size.
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size < at_least:
            raise NotACheckpointError("a tensor in it is shorter than it claims, or packed in an unknown way")
        return archive.read(info)

    if folder + "byteorder" in names and content(folder + "byteorder") != b"little":
        raise NotACheckpointError("it was written on a machine with another byte order")
    program = content(pickles[0])
    if len(program) > MAX_PICKLE_BYTES:
        raise NotACheckpointError("it describes more objects than any model has")
    root, _ = unpickle(cut_pickle(io.BytesIO(program)))
    return _Opened(root, lambda s: content(f"{folder}data/{s.key}", _storage_bytes(s)))


def _storage_bytes(storage: Storage) -> int:
    return storage.numel * (1 if storage.dtype is None else ITEM_BYTES[storage.dtype])


def _open_legacy(stream: IO[bytes]) -> _Opened:
    """Open the older format: magic number, version, facts of the machine, the pickle, keys, then all storages."""
    stream.seek(0)
    if unpickle(cut_pickle(stream))[0] != _LEGACY_MAGIC:
        raise NotACheckpointError("it is no file of PyTorch")
    version, machine = unpickle(cut_pickle(stream))[0], unpickle(cut_pickle(stream))[0]
    if (
        version != _LEGACY_PROTOCOL
        or not isinstance(machine, dict)
        or machine.get("little_endian") is not True
    ):
        raise NotACheckpointError(
            "it was written by an unknown version of PyTorch or with another byte order"
        )
    root, storages = unpickle(cut_pickle(stream))
    keys = unpickle(cut_pickle(stream))[0]
    if not isinstance(keys, list) or len(keys) > MAX_TENSORS:
        raise NotACheckpointError("its list of storages is damaged")
    places: dict[str, int] = {}
    position = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    for key in keys:
        storage = storages[key]
        stream.seek(position)
        (numel,) = struct.unpack("<q", stream.read(8))
        if numel != storage.numel or position + 8 + _storage_bytes(storage) > end:
            raise NotACheckpointError("a tensor in it is shorter than it claims")
        places[key] = position + 8
        position += 8 + _storage_bytes(storage)

    def read(storage: Storage) -> bytes:
        stream.seek(places[storage.key])
        return stream.read(_storage_bytes(storage))

    return _Opened(root, read)


# --- from objects to tensors --------------------------------------------------------------------------------


def _find_tensors(root: object) -> dict[str, TensorNote]:
    """Return the tensors of a module, a state dict, or a dictionary that holds one of them."""
    found = dict(_tensors_of(root))
    for _ in range(_MAX_WRAPPED):
        if found or not isinstance(root, dict):
            break
        held = [root[name] for name in _WRAPPERS if root.get(name) is not None]
        found = next((tensors for value in held if (tensors := dict(_tensors_of(value)))), {})
        root = next((value for value in held if isinstance(value, dict)), None)
    if not found:
        raise NotACheckpointError("it holds neither a state dict nor a module")
    return found


def _tensors_of(value: object) -> Iterator[tuple[str, TensorNote]]:
    if isinstance(value, dict):
        # Where not even half of the entries are tensors it is not a state dict but something that may hold one.
        tensors = [(k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, TensorNote)]
        if 2 * len(tensors) >= len(value):
            yield from tensors
    elif _module_state(value) is not None:
        yield from _walk(value, "", [], [0])


def _module_state(value: object) -> Mapping[str, object] | None:
    """Return the attributes of an object that is a pickled nn.Module."""
    if not isinstance(value, Inert):
        return None
    state = value.state
    if isinstance(state, tuple) and state:
        state = state[0]  # attributes, then slots
    if not isinstance(state, dict) or not isinstance(state.get("_parameters"), dict):
        return None
    return state


def _walk(
    module: object, prefix: str, above: list[object], count: list[int]
) -> Iterator[tuple[str, TensorNote]]:
    """Yield parameters and buffers as ``Module.state_dict`` would name them.

    Parameters
    ----------
    above : the modules on the way here, so that a circle ends.   count : of modules and tensors seen, in place.
    """
    state = _module_state(module)
    if state is None:
        return
    if len(above) > MAX_DEPTH or any(module is other for other in above):
        raise NotACheckpointError("its modules contain themselves or are nested too deep")
    unsaved = state.get("_non_persistent_buffers_set")
    unsaved = unsaved if isinstance(unsaved, (list, set, frozenset)) else ()
    for group in ("_parameters", "_buffers"):
        entries = state.get(group)
        for name, value in entries.items() if isinstance(entries, dict) else ():
            count[0] += 1
            kept = group == "_parameters" or name not in unsaved
            if kept and isinstance(name, str) and isinstance(value, TensorNote):
                yield f"{prefix}{name}", value
    children = state.get("_modules")
    for name, child in children.items() if isinstance(children, dict) else ():
        count[0] += 1
        if count[0] > MAX_TENSORS:
            raise NotACheckpointError("it describes more objects than any model has")
        if isinstance(name, str):
            yield from _walk(child, f"{prefix}{name}.", [*above, module], count)


def _materialize(
    found: Mapping[str, TensorNote], read: Callable[[Storage], bytes], file_bytes: int
) -> dict[str, Tensor]:
    """Read the tensors; views of one storage are copied apart."""
    import torch

    total = sum(math.prod(t.size) * ITEM_BYTES[t.dtype] for t in found.values())
    stored = sum(map(_storage_bytes, {t.storage for t in found.values()}))
    if len(found) > MAX_TENSORS or stored > file_bytes or total > min(MAX_FILE_BYTES, 4 * file_bytes):
        raise NotACheckpointError("its tensors are larger than the file")
    tensors: dict[str, Tensor] = {}
    by_storage: dict[Storage, list[str]] = {}
    for name, tensor in found.items():
        by_storage.setdefault(tensor.storage, []).append(name)
    for storage, names in by_storage.items():
        content = bytearray(read(storage))
        for name in names:
            note = found[name]
            dtype: torch.dtype = getattr(torch, note.dtype)  # one of ITEM_BYTES, not the file's word
            count = _storage_bytes(storage) // ITEM_BYTES[note.dtype]
            flat = torch.frombuffer(content, dtype=dtype, count=count)
            tensors[name] = flat.as_strided(note.size, note.stride, note.offset).clone(
                memory_format=torch.contiguous_format
            )
    return {name: tensors[name] for name in found}
