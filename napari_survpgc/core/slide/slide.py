"""An open slide: levels, pixel size, and pixels as RGB arrays.

Levels are the stored ones plus virtual ones, so that no step is larger than 2x and the coarsest level is at most
2048 px: viewers load a whole level at a time, and a step of 4x costs them 16 times the pixels of the screen.
The label and macro image of a slide may show a patient's name; nothing here reads them unless asked to.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.errors import MissingMppError, SlideError
from napari_survpgc.core.types import MPP_RANGE, Resampling, SlideInfo

from .backends import Handle
from .describe import COARSEST_PX, describe
from .guard import open_guarded
from .reachable import check_reachable

_Read = Callable[[Handle], Image.Image]
_STRIP_PX = 16 << 20  # source pixels read at once for a virtual level: 64 MB


class _ReadError(Exception):
    """A read of a handle failed; the library's own error is the cause."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle


def open_slide(path: Path | str, *, mpp: float | None = None) -> Slide:
    """Open a slide.

    Parameters
    ----------
    path : slide file, or the folder of a DICOM slide.
    mpp : µm per level-0 px given by the user; wins over the file and is recorded as such.

    Raises
    ------
    SlideError : the file is missing, damaged or no slide.
    """
    return Slide(Path(path), mpp)


def require_mpp(info: SlideInfo) -> float:
    """Return µm per level-0 px, or raise MissingMppError that says how to give it."""
    if info.mpp is None:
        raise MissingMppError(
            f"{info.path.name} does not say how large its pixels are",
            "Give µm per pixel (20x is about 0.5, 40x about 0.25) with --mpp-override, or in Slide > Pixel size",
        )
    return info.mpp


class Slide:
    """An open slide; safe to use from several threads. Use it in a ``with`` statement or call :meth:`close`."""

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        if mpp is not None and not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
            raise SlideError(
                f"A pixel size of {mpp:g} µm is not possible",
                f"Give µm per pixel, from {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g} (20x is about 0.5, 40x about 0.25)",
            )
        self._handle: Handle | None = open_guarded(path)
        self._lock = threading.Lock()
        self._reading: dict[int, int] = {}  # reads under way, by handle
        self._to_close: dict[int, Handle] = {}
        self.isolated = self._handle.isolated
        """Whether a helper process reads it, because this one must not."""
        try:
            self.info, self._sources = describe(path, self._handle, mpp)
        except SlideError:
            self.close()
            raise
        except OSError as error:  # of a file beside it, or of a drive that drops
            self.close()
            raise SlideError(
                f"{path} cannot be read ({error.strerror or error})",
                "Check its drive, and that you may read it",
            ) from error

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; reading afterwards is an error. A read under way in another thread ends first."""
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is not None and self._reading.get(id(handle), 0):
                # OpenSlide ends the process when a file is closed under a reader: the last reader closes it.
                self._to_close[id(handle)] = handle
                return
        if handle is not None:
            handle.slide.close()

    @contextmanager
    def _in_use(self) -> Iterator[Handle]:
        """Hold the file open for one read."""
        with self._lock:
            handle = self._handle
            if handle is None:
                raise SlideError(f"{self.info.path.name} was closed", "Open it again")
            self._reading[id(handle)] = self._reading.get(id(handle), 0) + 1
        try:
            yield handle
        finally:
            with self._lock:
                self._reading[id(handle)] -= 1
                last = not self._reading[id(handle)]
                if last:
                    del self._reading[id(handle)]
                leave = self._to_close.pop(id(handle), None) if last else None
            if leave is not None:
                leave.slide.close()

    def source(self, level: int) -> tuple[int, int]:
        """Return the number of the stored level that a level is read from, and by how much it is reduced."""
        return self._sources[level]

    def level_of(self, stored: int) -> int:
        """Return the place of a stored level in ``info.levels``."""
        return self._sources.index((stored, 1))

    # --- pixels --------------------------------------------------------------------------------------------

    def read_region(self, x: int, y: int, level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read part of a level.

        Parameters
        ----------
        x, y : top-left corner in level-0 px; may lie outside the slide.
        level : index into ``info.levels``.
        size : (width, height) in px of that level.

        Returns
        -------
        (height, width, 3) uint8; what lies outside the slide has its background color.

        Raises
        ------
        SlideError : that part of the file is damaged; other parts can still be read.
        """
        source, factor = self._sources[level]
        step = self.info.levels[level].downsample
        return _reduced(
            size, factor, lambda top, wanted: self._read_stored(x, y + round(top * step), source, wanted)
        )

    def read_level(self, x: int, y: int, level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Read part of a level pixel by pixel as the file has it: no step between parts that are read one by one.

        Level-0 px, which :meth:`read_region` takes, fall between those of a level that is 1/4.0012 of the finest.

        Parameters
        ----------
        x, y : top-left corner in px of that level.   level, size : as for :meth:`read_region`, which also says what is raised.

        Returns
        -------
        (height, width, 3) uint8.
        """
        source, factor = self._sources[level]

        def read(top: int, wanted: tuple[int, int]) -> Image.Image:
            return self._read_stored(x * factor, (y + top) * factor, source, wanted, in_level=True)

        return _reduced(size, factor, read)

    def read_square(
        self, x: int, y: int, size_level0: float, out_px: int, resampling: Resampling = "bilinear"
    ) -> NDArray[np.uint8]:
        """Read the square with top-left (x, y) and side ``size_level0`` level-0 px, resampled to ``out_px``.

        It is read from the nearest finer stored level and resized once, antialiased (the filter's support widened by
        the scale, as PIL does), with the exact fractional side.
        """
        wanted = size_level0 / out_px
        levels = self.info.levels
        stored = [i for i, level in enumerate(levels) if level.stored and level.downsample <= wanted * 1.001]
        index = stored[-1] if stored else 0
        side = size_level0 / levels[index].downsample
        read = math.ceil(side - 1e-6)
        block = self._read_stored(x, y, self._sources[index][0], (read, read))
        if read != out_px or abs(side - out_px) >= 1e-6:
            box = (0, 0, min(side, read), min(side, read))
            block = block.resize((out_px, out_px), Image.Resampling[resampling.upper()], box=box)
        return np.asarray(block)

    def thumbnail(self, max_px: int = COARSEST_PX) -> NDArray[np.uint8]:
        """Return the whole slide with its longer side at most ``max_px``, never upsampled."""
        levels = self.info.levels
        fitting = [i for i, level in enumerate(levels) if max(level.size) >= max_px]
        index = fitting[-1] if fitting else 0
        image = Image.fromarray(self.read_region(0, 0, index, levels[index].size))
        scale = max_px / max(levels[0].size)
        if scale < 1:
            size = (max(1, round(levels[0].size[0] * scale)), max(1, round(levels[0].size[1] * scale)))
            image = image.resize(size, Image.Resampling.BOX)
        return np.asarray(image)

    def _read_stored(
        self, x: int, y: int, stored: int, size: tuple[int, int], *, in_level: bool = False
    ) -> Image.Image:
        def read(handle: Handle) -> Image.Image:
            part = handle.read_level if in_level else handle.read
            return part(int(x), int(y), stored, (int(size[0]), int(size[1])))

        try:
            with self._in_use() as handle:
                image = self._read_with(handle, read)
        except _ReadError as failure:
            image = self._read_alone(failure, read, x, y)
        return self._over_background(image)

    def _read_with(self, handle: Handle, read: _Read) -> Image.Image:
        try:
            return read(handle)
        except Exception as error:  # the libraries and their codecs raise anything at all on damaged files
            raise _ReadError(handle) from error

    def _read_alone(self, failure: _ReadError, read: _Read, x: int, y: int) -> Image.Image:
        """Read once more, with a handle that nobody else uses.

        OpenSlide refuses every read after an error, also those of other threads: only a read that fails on its own has
        met damage. A file that is gone is another thing, and is said first.
        """
        error = failure.__cause__
        check_reachable(self.info, error)
        try:
            if failure.handle.isolated:  # a helper opens it anew for every read after an error
                raise failure
            alone = open_guarded(self.info.path)
            try:
                image = self._read_with(alone, read)
                self._reopen(failure.handle)
                return image
            finally:
                alone.slide.close()
        except (_ReadError, SlideError) as again:
            error = again.__cause__ or again
            check_reachable(self.info, error)
            self._reopen(failure.handle)
        said = (str(error).splitlines() or [""])[0][:80] or type(error).__name__
        raise SlideError(
            f"{self.info.path.name} is damaged at x={x}, y={y} ({said})",
            "Copy or download it again, or go on without this part",
        ) from error

    def _reopen(self, failed: Handle) -> None:
        """Let a fresh handle go on with the parts that are sound."""
        if failed.isolated:  # opens itself again
            return
        with self._lock:
            if self._handle is failed:
                self._handle = open_guarded(self.info.path)
                self._to_close[id(failed)] = failed  # by its last reader: other threads may be inside it
                if not self._reading.get(id(failed), 0):
                    self._to_close.pop(id(failed)).slide.close()

    def _over_background(self, image: Image.Image) -> Image.Image:
        """Return RGB; unscanned (transparent) pixels get the slide's background color."""
        if image.mode != "RGBA":
            return image.convert("RGB")
        lowest = image.getchannel("A").getextrema()[0]
        if lowest == 255:
            return image.convert("RGB")
        backdrop = Image.new("RGBA", image.size, (*self.info.background, 255))
        return Image.alpha_composite(backdrop, image).convert("RGB")


def _reduced(
    size: tuple[int, int], factor: int, read: Callable[[int, tuple[int, int]], Image.Image]
) -> NDArray[np.uint8]:
    """Return (height, width, 3) of a level from one that is ``factor`` times finer, read in strips of 64 MB.

    Parameters
    ----------
    read : of the row of the level from which on, and (width, height) in px of the finer one.
    """
    width, height = size
    if factor == 1:
        return np.asarray(read(0, size))
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PX // max(1, width * factor * factor))
    for top in range(0, height, rows):
        count = min(rows, height - top)
        # PIL's reduce is an exact box average, much faster than a reshaped mean.
        out[top : top + count] = np.asarray(read(top, (width * factor, count * factor)).reduce(factor))
    return out
