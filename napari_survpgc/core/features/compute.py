"""PatchGrid + encoder -> PatchFeatures, overlapping reading with the model, and taking up where it was stopped.

Finished rows go to ``<out>.partial/rows.bin``, one fixed-size record a patch, appended batch by batch: whatever kills
the process, at most the last, incomplete record is lost, and no finished patch is computed again. The HDF5 file is
assembled from it at the end and renamed into place.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.encoders.base import ImageEncoder
from napari_survpgc.core.errors import FeatureError, SlideError, writing
from napari_survpgc.core.files import lock, write_text
from napari_survpgc.core.types import PatchFeatures, PatchGrid, ProgressCallback, Resampling, SlideInfo

from .feature_file import read_features, write_features

CPU_BATCH = 8  # larger batches only move activations out of the cache
GPU_BATCH = 128

WriteFeatures = Callable[[PatchFeatures, Path], None]
"""Writes a feature file in one step; it must be readable by read_features, or it is made again every time."""


class _Readable(Protocol):
    @property
    def info(self) -> SlideInfo: ...

    def read_square(
        self, x: int, y: int, size_level0: float, out_px: int, resampling: Resampling = "bilinear"
    ) -> NDArray[np.uint8]: ...


def compute_features(
    slide: _Readable,
    grid: PatchGrid,
    encoder: ImageEncoder,
    out: Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    write: WriteFeatures = write_features,
    progress: ProgressCallback | None = None,
) -> PatchFeatures:
    """Compute one feature row a patch into ``out`` (HDF5), or read it back when it is there already.

    Parameters
    ----------
    out : a file made from the same slide, grid and encoder is used as it is; a partial one is finished.
    batch_size : default 8 on a CPU, on a GPU as many as half of its free memory holds (at most 128); halved for good
        when the GPU's memory does not suffice.
    write : puts the result into ``out``; another layout than ours comes through here.
    workers : threads; default by processors. On a CPU each reads and encodes batches of its own, on a GPU they read.

    Raises
    ------
    FeatureError : no patch could be read.
    OutputError : disk full, no permission, or another process works on the same file.   CancelledError : from ``progress``; finished rows are kept.
    """
    identity = _identity(slide.info, grid, encoder)
    finished = _finished(out, identity)
    if finished is not None:
        if progress:
            progress("features", len(grid), len(grid))
        return finished
    on_cpu = getattr(encoder, "device", None) is None or encoder.device.type == "cpu"
    batch_size = batch_size or (CPU_BATCH if on_cpu else gpu_batch(encoder))
    workers = workers or max(1 if on_cpu else 2, min(64 if on_cpu else 8, os.cpu_count() or 2))
    partial = out.with_name(out.name + ".partial")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with lock(partial / "lock", f"computing {out.name}"):
            rows = _Rows(partial, identity, len(grid), encoder.dim)
            try:
                _fill(rows, slide, grid, encoder, batch_size, workers, on_cpu, progress)
                features, ok = rows.read()
            finally:
                rows.close()
            if not ok.any():
                raise FeatureError(
                    f"None of the {len(grid)} patches of {slide.info.path.name} could be read",
                    "The file is damaged: copy or download it again",
                )
            weights = {"encoder_weights_sha256": encoder.weights} if encoder.weights else {}
            result = PatchFeatures(
                features=features[ok],
                grid=PatchGrid(
                    grid.coords[ok], grid.patch_px, grid.mpp, grid.patch_px_level0, grid.slide_size
                ),
                encoder=encoder.id,
                failed_coords=grid.coords[~ok],
                slide_fingerprint=slide.info.fingerprint,
                attributes={"identity": identity, **weights, **(attributes or {})},
            )
            write(result, out)
        shutil.rmtree(partial, ignore_errors=True)
    return result


def _identity(info: SlideInfo, grid: PatchGrid, encoder: ImageEncoder) -> str:
    """Return a hash of everything that the rows depend on."""
    facts = json.dumps([info.fingerprint, encoder.id, encoder.dim, encoder.input_px, grid.patch_px_level0])
    if encoder.resampling != "bilinear":
        facts += encoder.resampling
    facts += encoder.weights
    return hashlib.sha256(facts.encode() + np.ascontiguousarray(grid.coords, "<i4").tobytes()).hexdigest()


def _finished(out: Path, identity: str) -> PatchFeatures | None:
    if not out.is_file():
        return None
    try:
        found = read_features(out)
    except FeatureError:
        return None  # damaged or not ours: it is made again, and replaced only when that has worked
    return found if found.attributes.get("identity") == identity else None


# --- the partial file ---------------------------------------------------------------------------------------


class _Rows:
    """The finished rows on disk: records of (index, ok, values), in any order."""

    def __init__(self, folder: Path, identity: str, count: int, dim: int) -> None:
        self.count, self.dim = count, dim
        self._record = np.dtype([("index", "<i4"), ("ok", "u1"), ("row", "<f4", (dim,))])
        header, path = folder / "identity", folder / "rows.bin"
        if not header.is_file() or header.read_bytes() != identity.encode():
            # Rows of another grid or encoder; or none yet. They go before the header says that they are this one's.
            path.unlink(missing_ok=True)
            write_text(header, identity)
        if path.is_file():
            whole = path.stat().st_size // self._record.itemsize * self._record.itemsize
            os.truncate(path, whole)
        self._path = path
        self._stream: IO[bytes] = path.open("ab")

    def done(self) -> NDArray[np.bool_]:
        done = np.zeros(self.count, bool)
        index = self._records()["index"]
        done[index[(index >= 0) & (index < self.count)]] = True
        return done

    def append(self, index: NDArray[np.int64], ok: NDArray[np.bool_], rows: NDArray[np.float32]) -> None:
        records = np.zeros(len(index), self._record)
        records["index"], records["ok"], records["row"] = index, ok, rows
        self._stream.write(records.tobytes())
        self._stream.flush()

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        records = self._records()
        rows = np.zeros((self.count, self.dim), np.float32)
        ok = np.zeros(self.count, bool)
        rows[records["index"]] = records["row"]
        ok[records["index"]] = records["ok"] == 1
        return rows, ok

    def _records(self) -> NDArray[np.void]:
        self._stream.flush()
        return np.fromfile(self._path, self._record)

    def close(self) -> None:
        self._stream.close()


# --- reading and encoding -----------------------------------------------------------------------------------


def _fill(
    rows: _Rows,
    slide: _Readable,
    grid: PatchGrid,
    encoder: ImageEncoder,
    batch_size: int,
    workers: int,
    on_cpu: bool,
    progress: ProgressCallback | None,
) -> None:
    todo = np.flatnonzero(~rows.done())
    done = len(grid) - len(todo)
    if progress:
        progress("features", done, len(grid))
    chunks = [todo[start : start + batch_size] for start in range(0, len(todo), batch_size)]

    def read(index: int) -> NDArray[np.uint8] | None:
        x, y = grid.coords[index]
        try:
            return slide.read_square(
                int(x), int(y), grid.patch_px_level0, encoder.input_px, encoder.resampling
            )
        except SlideError:
            return None  # marked as failed in the file and counted in the result

    one_writer = threading.Lock()
    run = _WithinMemory(encoder)

    def encode(index: NDArray[np.int64], patches: list[NDArray[np.uint8] | None]) -> int:
        values = np.zeros((len(index), encoder.dim), np.float32)
        ok = np.array([patch is not None for patch in patches])
        if ok.any():
            values[ok] = run(np.stack([patch for patch in patches if patch is not None]))
        # A model that overflows on a patch (float16 on odd input) has not encoded it.
        ok &= np.isfinite(values).all(1)
        values[~ok] = 0
        with one_writer:  # at once, so that what is finished is kept even when the work is stopped now
            rows.append(index, ok, values)
        return len(index)

    if on_cpu:
        batches = _on_cpu(chunks, read, encode, workers)
    else:
        batches = _on_gpu(chunks, read, encode, workers, getattr(encoder, "replicas", 1))
    with closing(batches):
        for count in batches:
            done += count
            if progress:
                progress("features", done, len(grid))


_Read = Callable[[int], NDArray[np.uint8] | None]
_Encode = Callable[[NDArray[np.int64], list[NDArray[np.uint8] | None]], int]


def _on_cpu(
    chunks: Sequence[NDArray[np.int64]], read: _Read, encode: _Encode, workers: int
) -> Generator[int, None, None]:
    """Read and encode whole batches side by side, each on one thread: cores that share one model wait for each other
    and for the readers, cores with a batch of their own do not.
    """
    import torch

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "patches", initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[int]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(lambda c=chunk: encode(c, [read(int(i)) for i in c])))  # type: ignore[misc]
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


def _on_gpu(
    chunks: Sequence[NDArray[np.int64]], read: _Read, encode: _Encode, workers: int, gpus: int
) -> Generator[int, None, None]:
    """Read a few batches ahead on all cores while each GPU encodes one after the other."""
    readers, encoders = ThreadPoolExecutor(workers, "patches"), _gpu_threads(gpus)
    pending: deque[Future[int]] = deque()

    def batch(index: NDArray[np.int64], futures: list[Future[NDArray[np.uint8] | None]]) -> int:
        return encode(index, [future.result() for future in futures])

    try:
        for chunk in chunks:
            reading = [readers.submit(read, int(i)) for i in chunk]
            pending.append(encoders.submit(batch, chunk, reading))
            if len(pending) > 2 * gpus:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        readers.shutdown(wait=True, cancel_futures=True)
        wait(pending)


@functools.cache
def _gpu_threads(gpus: int) -> ThreadPoolExecutor:
    """Return the threads that drive the GPUs, kept for the process: cuDNN plans its convolutions anew in every thread.

    A thread a slide cost 1.4 s each (EfficientNet-Lite0 on an H200: 72 patches in 1.5 s).
    """
    return ThreadPoolExecutor(gpus, "GPU")


def gpu_batch(encoder: ImageEncoder) -> int:
    """Return how many patches half of the GPU's free memory holds, a power of two of at most 128."""
    import torch

    cost = getattr(encoder, "patch_bytes", 0)
    if encoder.device.type != "cuda" or not cost:
        return GPU_BATCH
    free, _ = torch.cuda.mem_get_info(encoder.device)
    fitting = max(1, int(free / 2 / cost))
    return min(GPU_BATCH, 1 << (fitting.bit_length() - 1))


class _WithinMemory:
    """Encodes batches, in halves from the first time that the GPU's memory did not suffice."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder
        self._limit: int | None = None

    def __call__(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        parts: list[NDArray[np.float32]] = []
        start = 0
        while start < len(patches):
            count = min(self._limit or len(patches), len(patches) - start)
            try:
                parts.append(self._encoder.encode(patches[start : start + count]))
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
                torch.cuda.empty_cache()
                self._limit = count // 2
            else:
                start += count
        return np.concatenate(parts)
