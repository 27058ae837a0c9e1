"""Weights that a user must obtain: where they lie, and strict loading.

They are looked for in ``<weights folder>/<encoder id>/<file>`` (SURVPGC_WEIGHTS names another folder) and in the cache
of the Hugging Face hub, which TRIDENT and others fill too. Nothing here uses the network; :mod:`napari_survpgc.core.encoders.weight_files` fetches
them when the user asks for it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.types import EncoderKind

_MAX_BYTES = 32 << 30
_ALWAYS_CHECKED = 64 << 20
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher")
_SHOWN = 3


@dataclass(frozen=True)
class WeightSource:
    """Where the weights of an encoder come from.

    Attributes
    ----------
    card : of the encoder; its id also names the folder for local files.
    files : the files that are needed, by the names that the hub gives them.
    repository : on the Hugging Face hub; None where the authors use no hub.
    site : where to read about an encoder without a repository.
    gated : the authors grant access one by one.
    optional : files that not every repository has, see :func:`find_optional`.
    also : name in ``files`` -> another name under which repositories keep the same.
    elsewhere : name in ``files`` -> where to get it, if not from ``repository``.
    """

    card: EncoderCard
    files: tuple[str, ...]
    repository: str | None
    site: str = ""
    gated: bool = True
    optional: tuple[str, ...] = ()
    also: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Where to read about it and to ask for access."""
        return f"https://huggingface.co/{self.repository}" if self.repository else self.site

    @property
    def folder(self) -> str:
        """Name of the folder of local files: the id with nothing in it that a file system may refuse."""
        return re.sub(r"[^\w.-]", "_", self.card.id)

    @property
    def command(self) -> str:
        """What to run to fetch or keep the files."""
        # The id of a hub does not tell what is meant; the image encoder is taken.
        said = ":" in self.card.id and self.card.kind is not EncoderKind.IMAGE
        return f"survpgc weights {self.card.id}" + (f" --kind {self.card.kind}" if said else "")

    def of_width(self, dim: int) -> WeightSource:
        """Return it for another width, as the files state it."""
        return replace(self, card=replace(self.card, dim=dim))


def weights_folder() -> Path:
    """Return the folder for local weights (it may not exist yet)."""
    given = os.environ.get("SURVPGC_WEIGHTS")
    if given:
        return Path(given)
    return Path(platformdirs.user_data_dir("napari-survpgc", appauthor=False)) / "weights"


class MissingWeightsError(EncoderError):
    """Files of an encoder are not on this machine.

    Attributes
    ----------
    by_request : one of them is given out by the authors to those who ask.   where : to get them.
    """

    by_request = False
    where = ""


class DamagedWeightsError(EncoderError):
    """A file is not what the hub says it is; ``path`` is where it lies."""

    path: Path


def find_weights(source: WeightSource, *, check: bool = True) -> tuple[Path, ...]:
    """Return the files of an encoder, in the order of ``source.files``.

    Parameters
    ----------
    check : compare files of the hub's cache with their SHA-256; large ones take seconds. Those up to 64 MiB always are.

    Raises
    ------
    MissingWeightsError : the message says where to ask for them and where to put them.
    DamagedWeightsError : a file is not what the hub says it is.
    """
    found = tuple(_find(source, name, check) for name in source.files)
    missing = [name for name, path in zip(source.files, found, strict=True) if path is None]
    if missing:
        error = MissingWeightsError(
            f"The weights of {source.card.title} are not on this machine ({', '.join(missing)})",
            next_step(source, missing),
        )
        error.where = where_to_get(source, missing)
        error.by_request = source.gated and any(name not in source.elsewhere for name in missing)
        raise error
    return tuple(path for path in found if path is not None)


def find_optional(source: WeightSource, name: str) -> Path | None:
    """Return one of ``source.optional`` if it is on this machine."""
    return _find(source, name, True)


def where_to_get(source: WeightSource, missing: Sequence[str]) -> str:
    """Say where to get what is missing, without a full stop."""
    steps = []
    if any(name not in source.elsewhere for name in missing):
        steps.append(
            f"{'Ask for access at' if source.gated else 'See'} {source.page} ({source.card.licence})"
        )
    steps += [f"get {name} from {source.elsewhere[name]}" for name in missing if name in source.elsewhere]
    text = "; ".join(steps)
    return text[0].upper() + text[1:]


def next_step(source: WeightSource, missing: Sequence[str]) -> str:
    """Say in one sentence where to get what is missing and what to do with it."""
    local = f"give the file with '{source.command} --file FILE'"
    fetched = source.repository is not None and any(name not in source.elsewhere for name in missing)
    then = f"run '{source.command}' or {local}" if fetched else local
    return f"{where_to_get(source, missing)}; then {then}"


def _find(source: WeightSource, name: str, check: bool) -> Path | None:
    names = [name] + ([source.also[name]] if name in source.also else [])
    for each in names:
        local = weights_folder() / source.folder / each
        if local.is_file():
            return local
    if source.repository is None or name in source.elsewhere:
        return None
    from huggingface_hub import try_to_load_from_cache

    for each in names:
        cached = try_to_load_from_cache(source.repository, each)
        if isinstance(cached, str):
            path = Path(cached)
            if check or path.stat().st_size <= _ALWAYS_CHECKED:
                _check_blob(path, source)
            return path
    return None


def _check_blob(path: Path, source: WeightSource) -> None:
    """Check a cached file against the SHA-256 by which the hub's library names large files; small ones have none."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and sha256_of(blob) != blob.name:
        error = DamagedWeightsError(
            f"The weights of {source.card.title} are damaged: {path.name} in the Hugging Face cache has another SHA-256"
            " than the hub gave",
            f"Delete {blob} and get it again with '{source.command}'",
        )
        error.path = blob
        raise error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file; each version of a file is read once a process."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a safetensors or torch file, tensors and plain containers only: no code of the file is run.

    Raises
    ------
    EncoderError : missing, damaged, or holding anything else.
    """
    if not path.is_file():
        raise EncoderError(f"There is no file {path}", "Check the name and the folder")
    if path.stat().st_size > _MAX_BYTES:
        raise EncoderError(f"{path.name} is too large to be weights", "Choose the file of the weights")
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"PK"
        if path.suffix.lower() == ".safetensors":
            import safetensors.torch

            return dict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
        if not isinstance(content, dict):
            raise ValueError("no dictionary")
        return dict(content)
    except Exception as error:  # torch and safetensors raise anything on a bad file
        raise EncoderError(
            f"{path.name} cannot be read as weights: it is damaged, incomplete, or holds more than tensors",
            "Download it again and compare its size with the authors' page",
        ) from error


def state_dict_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: out of 'state_dict' or 'model', without a leading 'module.'.

    Raises
    ------
    EncoderError : no table of tensors in it.
    """
    for name in _WRAPPERS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            content = inner
            break
    state = {
        str(key).removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)
    }
    if not state:
        raise EncoderError(f"{path.name} holds no weights", "Choose the file with the weights of the encoder")
    return state


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Put tensors into a network whose keys and shapes must be the same.

    A network made on the device "meta" comes to life on the CPU: a billion random numbers are not drawn first.

    Raises
    ------
    EncoderError : naming the first differences.
    """
    check_state(network, state, what)
    expected = network.state_dict()
    if any(tensor.is_meta for tensor in expected.values()):
        # A copy, so that nothing hangs on the file, in the network's own precision: a published one may be in float16.
        own = {key: state[key].to(tensor.dtype, copy=True) for key, tensor in expected.items()}
        network.load_state_dict(own, strict=True, assign=True)
    else:
        network.load_state_dict(dict(state), strict=True)


def check_state(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Raise EncoderError, naming the first differences, unless keys and shapes are those of a network.

    The network may be on the device "meta", where it takes neither time nor memory.
    """
    problems = differences(network.state_dict(), state)
    if problems:
        raise EncoderError(
            f"The file is not the weights of {what}: {'; '.join(problems)}",
            f"Choose the checkpoint that the authors of {what} publish",
        )


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Say which keys are missing, which are too many and which have another shape, the first of each by name."""
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    shapes = [
        f"{key} is {_shape(found[key])} instead of {_shape(value)}"
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    return [
        f"{text} {first_of(items)}"
        for text, items in (("missing", missing), ("not expected", extra), ("other shapes:", shapes))
        if items
    ]


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def first_of(items: Sequence[str]) -> str:
    """Return the first items in words, and how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
