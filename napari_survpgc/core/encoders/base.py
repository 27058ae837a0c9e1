"""What an encoder is, where it runs, and how the weights that come with a Python package are found and checked."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from napari_survpgc.core import log
from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.types import GeneValues, ProgressCallback, Resampling


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen image model that turns patches into feature rows.

    Attributes
    ----------
    id : name in the registry, kept with every feature file.
    dim : width of a row.
    patch_px, mpp : how patches are cut (256 px at 0.5 µm per px).
    input_px : side of the square that :meth:`encode` wants; patches are resampled to it in one step when read.
    resampling : "bilinear" or "bicubic", antialiased, as the model was trained.
    weights : SHA-256 of the user's file; "" for weights that come along, which the id already states.
    """

    id: str
    dim: int
    patch_px: int
    mpp: float
    input_px: int
    resampling: Resampling
    weights: str
    device: torch.device

    def encode(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode (b, input_px, input_px, 3) uint8 RGB patches into (b, dim) float32 rows."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen text model that turns sentences into tokens."""

    id: str
    dim: int

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Encode n sentences into (n, dim) float32 rows."""
        ...


@runtime_checkable
class GeneEncoder(Protocol):
    """A frozen model that turns expression into genomic tokens.

    Attributes
    ----------
    id : name in the registry.   n_tokens, dim : of what it returns.
    values : what it reads; one that reads expression itself is an :class:`ExpressionEncoder`.
    """

    id: str
    n_tokens: int
    dim: int
    values: GeneValues

    def encode(
        self,
        values: NDArray[np.float32],
        genes: Sequence[str],
        *,
        total: float | None = None,
        progress: ProgressCallback | None = None,
    ) -> NDArray[np.float32]:
        """Encode (n_genes,) values of named genes into (n_tokens, dim) float32.

        Parameters
        ----------
        values : of the kind that :attr:`values` says.
        total : what samples of the training cohort sum to, to which expression is scaled; of no use for z-scores.
        progress : called now and then by an encoder that takes minutes; it may raise to stop the work.
        """
        ...


@dataclass(frozen=True)
class GeneMatch:
    """Which genes of a file are which of an encoder's.

    Attributes
    ----------
    source : (n_found,) places among the given genes, ascending.   target : (n_found,) places in the encoder's list.
    missing : genes of the list that were not given.   dropped : given genes that the list does not have.
    renamed : (given, listed) names of those found under a former or later symbol.
    listed : length of the list.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    missing: tuple[str, ...]
    dropped: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    listed: int

    @property
    def overlap(self) -> float:
        """Share of the encoder's genes that were given, 0-1."""
        return len(self.source) / self.listed

    def describe(self) -> str:
        """Return the report in a sentence."""
        renamed = f" ({len(self.renamed)} under another symbol)" if self.renamed else ""
        return (
            f"{len(self.source)} of the encoder's {self.listed} genes were found{renamed};"
            f" {len(self.missing)} are absent and count as not expressed, {len(self.dropped)} others are not used."
        )


@runtime_checkable
class ExpressionEncoder(GeneEncoder, Protocol):
    """A gene encoder that reads expression itself, of the genes of its own list.

    Attributes
    ----------
    min_overlap : least share of its genes that a cohort or a file must have.
    """

    min_overlap: float

    def match(self, genes: Sequence[str], source: str = "The sample") -> GeneMatch:
        """Find genes by symbol; ExpressionError, naming ``source``, when fewer than :attr:`min_overlap` are there."""
        ...


def resolve_device(device: str = "auto") -> torch.device:
    """Return the torch device for "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises
    ------
    EncoderError : the device does not exist here.
    """
    chosen = _resolved(device)
    _tell(chosen)
    return chosen


@functools.cache
def _tell(device: torch.device) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    log.note("device", device=str(device), name=name, threads=str(torch.get_num_threads()))


def _resolved(device: str) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise EncoderError(f"There is no device named {device}", "Choose auto, cpu, cuda or mps") from error
    present = {
        "cpu": True,
        "meta": True,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(chosen.type, False):
        raise EncoderError(f"The device {device} is not available on this machine", "Choose auto or cpu")
    return chosen


def cpu_has_bf16() -> bool:
    """Return True when the processor multiplies bfloat16 faster than float32.

    On x86 those are the ones with AMX. AVX-512 alone has bf16 instructions too, but there float32 is as fast for a small
    CNN and nearly twice as fast for a vision transformer (torch 2.14); elsewhere bf16 is many times slower.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return platform.machine().lower() not in ("x86_64", "amd64") or bool(torch.cpu._is_amx_tile_supported())


@functools.cache
def tune_allocator() -> None:
    """Keep large tensors on glibc's heap instead of mapping and unmapping them for every layer.

    By default each large activation is a fresh mmap whose pages the kernel must clear: up to two thirds of the time
    of a small CNN on a CPU. Elsewhere than on glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def package_file(module: str, parts: tuple[str, ...], distribution: str, sha256: str) -> Path:
    """Find a weight file inside an installed package without running the package, and check its SHA-256.

    Raises
    ------
    EncoderError : the package is not installed, or the file is missing or altered.
    """
    spec = importlib.util.find_spec(module)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise EncoderError(f"The package {distribution} is not installed", f"pip install {distribution}")
    path = Path(folders[0]).joinpath(*parts)
    if not path.is_file():
        raise EncoderError(
            f"The package {distribution} lacks its file {parts[-1]}",
            f"pip install --force-reinstall {distribution}",
        )
    check_sha256(path, sha256, f"pip install --force-reinstall {distribution}")
    return path


def check_sha256(path: Path, sha256: str, next_step: str) -> None:
    """Raise EncoderError unless the file has the expected SHA-256; each version of a file is hashed once."""
    state = path.stat()
    if _sha256(path, state.st_size, state.st_mtime_ns) != sha256:
        raise EncoderError(f"The weights {path.name} are not the expected ones (SHA-256 differs)", next_step)


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
