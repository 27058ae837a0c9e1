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
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.encoders.base import ImageEncoder
from napari_survpgc.core.errors import FeatureError, OutputError, SlideError, SlideGoneError, writing
from napari_survpgc.core.files import sweep
from napari_survpgc.core.hdf5 import unreachable
from napari_survpgc.core.locks import lock
from napari_survpgc.core.slide.reachable import check_reachable
from napari_survpgc.core.types import PatchFeatures, PatchGrid, ProgressCallback, Resampling, SlideInfo

from .failed import FAILED
from .feature_file import read_features, write_features
from .rows import Rows, remove_without_rows

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
    out : a file made from the same slide, grid and encoder is used as it is, but for its patches that failed, which are
        tried again; a partial one is finished. Features of another slide are not replaced.
    batch_size : default 8 on a CPU, on a GPU as many as half of its free memory holds (at most 128); halved for good
        when the GPU's memory does not suffice.
    write : puts the result into ``out``; another layout than ours comes through here.
    workers : threads; default by processors. On a CPU each reads and encodes batches of its own, on a GPU they read.

    Raises
    ------
    FeatureError : no patch could be read.   SlideGoneError : the slide cannot be reached any more; finished rows are kept.
    OutputError : disk full, no permission, another process works on the same file, or it is another slide's.
    CancelledError : from ``progress``; finished rows are kept.
    """
    identity = _identity(slide.info, grid, encoder)
    finished = _finished(out, identity, slide.info)
    if finished is not None and not _is_to_retry(finished):
        _remove_rows_of(out, identity)
        if progress:
            progress("features", len(grid), len(grid))
        return finished
    on_cpu = getattr(encoder, "device", None) is None or encoder.device.type == "cpu"
    batch_size = batch_size or (CPU_BATCH if on_cpu else gpu_batch(encoder))
    workers = workers or max(1 if on_cpu else 2, min(64 if on_cpu else 8, os.cpu_count() or 2))
    partial = out.with_name(out.name + ".partial")
    with _working_in(partial, out):
        finished = _finished(out, identity, slide.info)  # by the process that held the lock until now
        if finished is not None and not _is_to_retry(finished):
            return finished
        rows = Rows(partial, identity, slide.info.fingerprint, len(grid), encoder.dim)
        try:
            if finished is not None:
                _take_over(rows, finished, grid)
            _fill(rows, slide, grid, encoder, batch_size, workers, on_cpu, progress)
            features, ok = rows.read()
        except SlideGoneError as error:
            done = int(rows.done().sum())
            raise SlideGoneError(
                f"{error.problem}; {done} of {len(grid)} patches are done and kept", error.next_step
            ) from error
        finally:
            rows.close()
        if not ok.any():
            shutil.rmtree(partial, ignore_errors=True)  # nothing in it is worth going on from
            raise FeatureError(
                f"None of the {len(grid)} patches of {slide.info.path.name} could be read",
                "The file is damaged: copy or download it again",
            )
        if finished is not None and FAILED in finished.attributes and int(ok.sum()) == len(finished.grid):
            result = finished  # the same ones failed once more
        else:
            weights = {"encoder_weights_sha256": encoder.weights} if encoder.weights else {}
            result = PatchFeatures(
                features=features[ok],
                grid=PatchGrid(
                    grid.coords[ok], grid.patch_px, grid.mpp, grid.patch_px_level0, grid.slide_size
                ),
                encoder=encoder.id,
                failed_coords=grid.coords[~ok],
                slide_fingerprint=slide.info.fingerprint,
                attributes={"identity": identity, **weights, **(attributes or {}), FAILED: int((~ok).sum())},
            )
            write(result, out)
        shutil.rmtree(partial, ignore_errors=True)
    return result


@contextmanager
def _working_in(partial: Path, out: Path) -> Iterator[None]:
    """Hold the folder of the finished rows alone; without a row in it, it goes."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep(out.parent, out.name)
        try:
            with lock(partial / "lock", f"computing {out.name}"):
                yield
        finally:
            remove_without_rows(partial)


def _remove_rows_of(out: Path, identity: str) -> None:
    """Remove the rows of a finished file, which a kill between the two has left; those of others stay."""
    partial = out.with_name(out.name + ".partial")
    header = partial / "identity"
    if partial.is_dir() and (not header.is_file() or header.read_bytes() == identity.encode()):
        with suppress(OutputError), _working_in(partial, out):  # another process may be removing them
            shutil.rmtree(partial, ignore_errors=True)


def _is_to_retry(found: PatchFeatures) -> bool:
    return len(found.failed_coords) > 0


def _take_over(rows: Rows, found: PatchFeatures, grid: PatchGrid) -> None:
    """Keep the rows of a file some of whose patches had failed."""
    place = {(int(x), int(y)): index for index, (x, y) in enumerate(grid.coords)}
    done = rows.done()
    known = [(place[int(x), int(y)], row) for row, (x, y) in enumerate(found.grid.coords)]
    todo = [(index, row) for index, row in known if not done[index]]
    if todo:
        index, row = np.array(todo, np.int64).T
        rows.append(index, np.ones(len(index), bool), found.features[row])


def _identity(info: SlideInfo, grid: PatchGrid, encoder: ImageEncoder) -> str:
    """Return a hash of everything that the rows depend on."""
    facts = json.dumps([info.fingerprint, encoder.id, encoder.dim, encoder.input_px, grid.patch_px_level0])
    if encoder.resampling != "bilinear":
        facts += encoder.resampling
    facts += encoder.weights
    return hashlib.sha256(facts.encode() + np.ascontiguousarray(grid.coords, "<i4").tobytes()).hexdigest()


def _finished(out: Path, identity: str, info: SlideInfo) -> PatchFeatures | None:
    """Return the features that are there already; OutputError where they are another slide's, or another program's."""
    if not out.is_file():
        return None
    try:
        found = read_features(out)
    except FeatureError as error:
        if reason := unreachable(error.__cause__ or error):
            raise OutputError(f"{out} cannot be read ({reason})", "Check that you may read it") from error
        return None  # damaged or not ours: it is made again, and replaced only when that has worked
    if found.slide_fingerprint != info.fingerprint:
        whose = "of another slide" if found.slide_fingerprint else "that another program has made"
        raise OutputError(
            f"{out} holds features {whose}, and {info.path.name} would replace them",
            "Choose another --out folder, or rename one of the two",
        )
    return found if found.attributes.get("identity") == identity else None


# --- reading and encoding -----------------------------------------------------------------------------------


def _fill(
    rows: Rows,
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
        except SlideGoneError:
            raise
        except SlideError as error:
            check_reachable(slide.info, error)
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
