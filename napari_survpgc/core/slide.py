"""An open slide: levels, pixel size, and pixels as RGB arrays.

Levels are the stored ones plus virtual ones, so that no step is larger than 2x and the coarsest level is at most
2048 px: viewers load a whole level at a time, and a step of 4x costs them 16 times the pixels of the screen.
The label and macro image of a slide may show a patient's name; nothing here reads them unless asked to.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import MissingMppError, SlideError
from .slide_backends import Handle, fingerprint, open_handle, pixel_size
from .types import Level, MppSource, Resampling, SlideInfo

COARSEST_PX = 2048
_STRIP_PX = 16 << 20  # source pixels read at once for a virtual level: 64 MB


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
        if mpp is not None and not 0.01 <= mpp <= 100:
            raise SlideError(
                f"A pixel size of {mpp} µm is not possible", "Give µm per pixel, e.g. 0.5 for 20x"
            )
        self._handle: Handle | None = open_handle(path)
        self._lock = threading.Lock()
        self._reading: dict[int, int] = {}  # reads under way, by handle
        self._to_close: dict[int, Handle] = {}
        try:
            self.info, self._sources = _describe(path, self._handle, mpp)
        except SlideError:
            self.close()
            raise

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
        if factor == 1:
            return np.asarray(self._read_stored(x, y, source, size))
        width, height = size
        out = np.empty((height, width, 3), np.uint8)
        rows = max(1, _STRIP_PX // max(1, width * factor * factor))
        step = self.info.levels[level].downsample
        for top in range(0, height, rows):
            count = min(rows, height - top)
            block = self._read_stored(x, y + round(top * step), source, (width * factor, count * factor))
            # PIL's reduce is an exact box average, much faster than a reshaped mean.
            out[top : top + count] = np.asarray(block.reduce(factor))
        return out

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

    def _read_stored(self, x: int, y: int, stored: int, size: tuple[int, int]) -> Image.Image:
        with self._in_use() as handle:
            return self._read_with(handle, x, y, stored, size)

    def _read_with(self, handle: Handle, x: int, y: int, stored: int, size: tuple[int, int]) -> Image.Image:
        try:
            image = handle.slide.read_region((int(x), int(y)), stored, (int(size[0]), int(size[1])))
        except Exception as error:
            self._reopen(handle)
            raise SlideError(
                f"{self.info.path.name} is damaged at x={x}, y={y} ({str(error).splitlines()[0][:80] if str(error) else type(error).__name__})",
                "Copy or download it again, or go on without this part",
            ) from error
        return self._over_background(image)

    def _reopen(self, failed: Handle) -> None:
        """OpenSlide refuses every read after an error; a fresh handle goes on with the parts that are sound."""
        with self._lock:
            if self._handle is failed:
                self._handle = open_handle(self.info.path)
                self._to_close[id(failed)] = failed  # by its last reader: other threads may be inside it

    def _over_background(self, image: Image.Image) -> Image.Image:
        """Return RGB; unscanned (transparent) pixels get the slide's background color."""
        if image.mode != "RGBA":
            return image.convert("RGB")
        lowest = image.getchannel("A").getextrema()[0]
        if lowest == 255:
            return image.convert("RGB")
        backdrop = Image.new("RGBA", image.size, (*self.info.background, 255))
        return Image.alpha_composite(backdrop, image).convert("RGB")

    # --- what may identify a patient -----------------------------------------------------------------------

    def associated_names(self) -> tuple[str, ...]:
        """Return the names of label, macro and the like, without reading them."""
        if self._handle is None:
            return ()
        return tuple(sorted(self._handle.slide.associated_images))

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """Read a label or macro image. It may show a patient's name: call this only when the user asks for it."""
        if self._handle is None or name not in self._handle.slide.associated_images:
            raise SlideError(f"{self.info.path.name} has no image named {name}", "Choose one that it has")
        return np.asarray(self._over_background(self._handle.slide.associated_images[name]))


class LazyLevel:
    """One level as an array-like (h, w, 3) uint8 that reads only what is asked for; for viewers."""

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, slide: Slide, level: int) -> None:
        self._slide, self._level = slide, level
        width, height = slide.info.levels[level].size
        self.shape = (height, width, 3)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy level is always read into a new array")
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (4 - len(keys))
        keys += [slice(None)] * (3 - len(keys))
        if len(keys) != 3:
            raise IndexError(f"too many indices for an array of {self.ndim} dimensions")
        rows, columns = (_span(k, n) for k, n in zip(keys[:2], self.shape[:2], strict=True))
        block = self._block(rows, columns)
        inner = [0 if isinstance(k, (int, np.integer)) else slice(None, None, k.step) for k in keys[:2]]
        return block[inner[0], inner[1]][..., keys[2]]

    def _block(self, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
        downsample = self._slide.info.levels[self._level].downsample
        return self._slide.read_region(
            round(columns[0] * downsample),
            round(rows[0] * downsample),
            self._level,
            (columns[1] - columns[0], rows[1] - rows[0]),
        )


def _span(key: Any, length: int) -> tuple[int, int]:
    if isinstance(key, (int, np.integer)):
        index = int(key) + length if key < 0 else int(key)
        if not 0 <= index < length:
            raise IndexError(f"index {key} is out of range for {length} px")
        return index, index + 1
    start, stop, step = key.indices(length)
    if step < 1:
        raise IndexError("a lazy level is read forwards only")
    return start, max(start, stop)


def lazy_levels(slide: Slide) -> list[LazyLevel]:
    """Return all levels, finest first, as array-likes for a multiscale viewer layer."""
    return [LazyLevel(slide, index) for index in range(len(slide.info.levels))]


def _describe(path: Path, handle: Handle, mpp: float | None) -> tuple[SlideInfo, list[tuple[int, int]]]:
    slide, properties = handle.slide, handle.properties
    size = (int(slide.dimensions[0]), int(slide.dimensions[1]))
    if min(size) < 1:
        raise SlideError(f"{path.name} has no pixels", "Copy or download it again")
    levels, sources = _pyramid(slide.level_dimensions, slide.level_downsamples)
    stated = pixel_size(properties)
    if mpp is not None:
        mpp_x = mpp_y = mpp
        source: MppSource | None = MppSource.USER
    elif stated is not None:
        mpp_x, mpp_y = stated
        source = MppSource.FILE
    else:
        mpp_x = mpp_y = 0.0
        source = None
    power = properties.get("openslide.objective-power") or properties.get("tiffslide.objective-power")
    info = SlideInfo(
        path=path,
        fingerprint=fingerprint(path),
        backend=handle.backend,
        vendor=properties.get("openslide.vendor") or properties.get("tiffslide.vendor") or "unknown",
        size=size,
        levels=levels,
        mpp=(mpp_x + mpp_y) / 2 if source else None,
        mpp_x=mpp_x if source else None,
        mpp_y=mpp_y if source else None,
        mpp_source=source,
        bounds=_bounds(properties, size),
        background=_background(properties),
        objective_power=_number(power),
        properties=properties,
    )
    return info, sources


def _pyramid(
    sizes: Sequence[tuple[int, int]], downsamples: Sequence[float]
) -> tuple[tuple[Level, ...], list[tuple[int, int]]]:
    """Fill the gaps of a pyramid; return the levels and, for each, (stored level, reduction factor)."""
    levels: list[Level] = []
    sources: list[tuple[int, int]] = []
    for index, (size, downsample) in enumerate(zip(sizes, downsamples, strict=True)):
        levels.append(Level((int(size[0]), int(size[1])), float(downsample)))
        sources.append((index, 1))
        last = index + 1 == len(sizes)
        factor = 2
        while True:
            smaller = (int(size[0]) // factor, int(size[1]) // factor)
            # A virtual level close to the next stored one would be a step of almost nothing.
            wanted = (
                max(int(size[0]), int(size[1])) * 2 // factor > COARSEST_PX
                if last
                else downsample * factor * 1.3 < downsamples[index + 1]
            )
            if not wanted or min(smaller) < 1:
                break
            levels.append(Level(smaller, float(downsample) * factor, stored=False))
            sources.append((index, factor))
            factor *= 2
    return tuple(levels), sources


def _bounds(properties: Any, size: tuple[int, int]) -> tuple[int, int, int, int]:
    names = [f"openslide.bounds-{n}" for n in ("x", "y", "width", "height")]
    try:
        x, y, width, height = (int(properties[name]) for name in names)
    except (KeyError, ValueError):
        return (0, 0, *size)
    if width < 1 or height < 1 or x < 0 or y < 0 or x >= size[0] or y >= size[1]:
        return (0, 0, *size)
    return x, y, min(width, size[0] - x), min(height, size[1] - y)


def _background(properties: Any) -> tuple[int, int, int]:
    text = properties.get("openslide.background-color", "")
    if len(text) == 6:
        try:
            return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)
        except ValueError:
            return (255, 255, 255)
    return (255, 255, 255)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
