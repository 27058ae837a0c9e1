"""Weights that a user must obtain: where they lie, how they are fetched when asked for, and strict loading.

They are looked for in ``<weights folder>/<encoder id>/<file>`` (SURVPGC_WEIGHTS names another folder) and in the cache
of the Hugging Face hub, which TRIDENT and others fill too. Nothing is downloaded but by :func:`download_weights`; the
hub's own library finds the user's access token, and we neither read, print nor keep it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

from napari_survpgc.core.errors import EncoderError, OutputError, writing

_MAX_BYTES = 32 << 30
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher")
_SHOWN = 3


@dataclass(frozen=True)
class WeightSource:
    """Where the weights of an encoder come from.

    Attributes
    ----------
    encoder_id : name in the registry, and of the folder for local files.
    title : what its authors call it.
    files : the files that are needed, by the names that the hub gives them.
    repository : on the Hugging Face hub; None where the authors use no hub.
    page : where to read about it and to ask for access.
    licence : in one line.
    gated : the authors grant access one by one.
    also : name in ``files`` -> another name under which repositories keep the same.
    elsewhere : name in ``files`` -> where to get it, if not from ``repository``.
    """

    encoder_id: str
    title: str
    files: tuple[str, ...]
    repository: str | None
    page: str
    licence: str
    gated: bool = True
    also: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the folder of local files: the id with nothing in it that a file system may refuse."""
        return re.sub(r"[^\w.-]", "_", self.encoder_id)


def weights_folder() -> Path:
    """Return the folder for local weights (it may not exist yet)."""
    given = os.environ.get("SURVPGC_WEIGHTS")
    if given:
        return Path(given)
    return Path(platformdirs.user_data_dir("napari-survpgc", appauthor=False)) / "weights"


def find_weights(source: WeightSource) -> tuple[Path, ...]:
    """Return the files of an encoder, in the order of ``source.files``; no network is used.

    Raises
    ------
    EncoderError : a file is missing (the message says where to ask for it and where to put it), or is not what the
        hub says it is.
    """
    found = tuple(_find(source, name) for name in source.files)
    missing = [name for name, path in zip(source.files, found, strict=True) if path is None]
    if missing:
        raise EncoderError(
            f"The weights of {source.title} are not on this machine ({', '.join(missing)})",
            next_step(source, missing),
        )
    return tuple(path for path in found if path is not None)


def next_step(source: WeightSource, missing: Sequence[str]) -> str:
    """Say in one sentence where to get what is missing and what to do with it."""
    steps = []
    if any(name not in source.elsewhere for name in missing):
        steps.append(f"{'Ask for access at' if source.gated else 'See'} {source.page} ({source.licence})")
    steps += [f"get {name} from {source.elsewhere[name]}" for name in missing if name in source.elsewhere]
    local = f"give the file with 'survpgc weights {source.encoder_id} --file FILE'"
    fetched = source.repository is not None and any(name not in source.elsewhere for name in missing)
    steps.append(f"then run 'survpgc weights {source.encoder_id}' or {local}" if fetched else f"then {local}")
    text = "; ".join(steps)
    return text[0].upper() + text[1:]


def _find(source: WeightSource, name: str) -> Path | None:
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
            _check_blob(Path(cached), source)
            return Path(cached)
    return None


def _check_blob(path: Path, source: WeightSource) -> None:
    """Check a cached file against the SHA-256 by which the hub's library names large files; small ones have none."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and sha256_of(blob) != blob.name:
        raise EncoderError(
            f"The weights of {source.title} are damaged: {path.name} in the Hugging Face cache has another SHA-256"
            " than the hub gave",
            f"Delete {blob} and get it again with 'survpgc weights {source.encoder_id}'",
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file; each version of a file is read once a process."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download_weights(source: WeightSource) -> tuple[Path, ...]:
    """Fetch what is missing from the hub with the user's own access, because the user asked for it.

    Raises
    ------
    EncoderError : no access, no network, a broken or altered file.
    """
    if source.repository is None:
        raise EncoderError(f"{source.title} is not on the Hugging Face hub", next_step(source, source.files))
    for name in source.files:
        if _find(source, name) is None and name not in source.elsewhere:
            _download(source, source.repository, name)
    return find_weights(source)


def _download(source: WeightSource, repository: str, name: str) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    local = f"put the file into {weights_folder() / source.folder}"
    try:
        with writing(weights_folder()):
            hf_hub_download(repository, name)
    except (GatedRepoError, RepositoryNotFoundError) as error:
        # The hub answers 'not found' to those who are not logged in.
        raise EncoderError(
            f"The hub gives no access to {source.title}",
            f"Ask for it at {source.page} ({source.licence}), log in with 'hf auth login', and try again",
        ) from error
    except LocalEntryNotFoundError as error:
        raise EncoderError(
            f"{source.title} could not be downloaded: the hub cannot be reached",
            f"Check the network (and HF_HUB_OFFLINE), or {local}",
        ) from error
    except EntryNotFoundError as error:
        if name in source.also:
            return _download(replace(source, also={}), repository, source.also[name])
        raise EncoderError(
            f"{source.title} has no file {name} on the hub any more", f"See {source.page}, and {local}"
        ) from error
    except OutputError:
        raise
    except (
        Exception
    ) as error:  # the hub's library has changed its HTTP library, and with it its errors, twice
        raise EncoderError(
            f"{source.title} could not be downloaded ({(str(error) or type(error).__name__).splitlines()[0]})",
            f"Try again (a broken download is taken up where it stopped), or {local}",
        ) from error


def match_files(sources: Sequence[WeightSource], given: Sequence[Path]) -> dict[str, Path]:
    """Say which of the files that an encoder needs each given file is: by its name, or else by its kind.

    Raises
    ------
    EncoderError : a file that could be any of several, or none.
    """
    names = list(
        dict.fromkeys(n for s in sources for f in s.files for n in (f, *filter(None, [s.also.get(f)])))
    )
    tables = {".json", ".tsv", ".txt"}
    found: dict[str, Path] = {}
    for path in given:
        same = [name for name in names if name == path.name or name.endswith(f"/{path.name}")]
        alike = [n for n in names if (Path(n).suffix in tables) == (path.suffix.lower() in tables)]
        if path.suffix.lower() == ".safetensors" or len(alike) > 1:
            alike = [n for n in alike if Path(n).suffix == path.suffix.lower()] or alike
        fitting = same or [n for n in alike if n not in found]
        if len(fitting) != 1:
            raise EncoderError(
                f"{path.name} could be none or several of the files of {sources[0].title} ({', '.join(names)})",
                "Give it the name under which its authors publish it",
            )
        found[fitting[0]] = path
    return found


def install_weights(source: WeightSource, files: Mapping[str, Path]) -> None:
    """Copy files that the user has into the weights folder, under the names that are looked for.

    Parameters
    ----------
    files : name in ``source.files`` -> the user's file.

    Raises
    ------
    EncoderError : a file that is not there.   OutputError : it cannot be written.
    """
    folder = weights_folder() / source.folder
    for name, path in files.items():
        if not path.is_file():
            raise EncoderError(f"There is no file {path}", "Check the name and the folder")
        target = folder / name
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            try:
                shutil.copyfile(path, partial)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)


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

    Raises
    ------
    EncoderError : naming the first differences.
    """
    problems = differences(network.state_dict(), state)
    if problems:
        raise EncoderError(
            f"The file is not the weights of {what}: {'; '.join(problems)}",
            f"Choose the checkpoint that the authors of {what} publish",
        )
    # Casts to the network's own precision: a published file may be in float16.
    network.load_state_dict(dict(state), strict=True)


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
