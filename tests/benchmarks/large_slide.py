"""Slides as large as real ones and cheap to store: 40,000 x 30,000 px take 3 MB, 120,000 x 100,000 px 25 MB.

Every tile of the two fine levels is one of two stored tiles, glass or tissue; only the levels of 4 µm per px and coarser,
at which tissue is looked for, have pictures of their own. ``python -m tests.benchmarks.large_slide OUT.tiff 40000 30000``
"""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.simulation.noise import smooth_noise

MPP = 0.25
TILE_PX = 256
DOWNSAMPLES = (1, 4, 16, 64)
_DRAWN_FROM = 16
_GLASS = np.array([243, 242, 240], np.float32)


def write_large_slide(
    path: Path, width: int, height: int, *, seed: int = 0, noisy: bool = False, quality: int = 80
) -> Path:
    """Write a tiled JPEG pyramid with several pieces of tissue, holes, fat, a pen mark and dust.

    Parameters
    ----------
    width, height : level-0 px of 0.25 µm.
    noisy : a slide of crumbs: thousands of small pieces and holes, the worst case of everything that counts pieces.
    """
    rng = np.random.default_rng(seed)
    picture = _draw(width // _DRAWN_FROM, height // _DRAWN_FROM, rng, noisy)
    tissue = np.asarray(Image.fromarray(picture).convert("L")) < 225
    textures = [
        _jpeg(np.full((TILE_PX, TILE_PX, 3), _GLASS).astype(np.uint8), quality),
        _jpeg(_close_up(rng), quality),
    ]
    with path.open("wb") as file:
        writer = _BigTiff(file)
        fixed = [writer.blob(texture) for texture in textures]
        for downsample in DOWNSAMPLES:
            size = width // downsample, height // downsample
            if downsample < _DRAWN_FROM:
                tiles = [fixed[int(kind)] for kind in _at_tiles(tissue, size)]
            else:
                factor = downsample // _DRAWN_FROM
                level = (
                    picture
                    if factor == 1
                    else np.asarray(Image.fromarray(picture).reduce(factor))[: size[1], : size[0]]
                )
                tiles = [writer.blob(_jpeg(tile, quality)) for tile in _tiles(level)]
            writer.directory(size, tiles, 1e4 / (MPP * downsample), reduced=downsample > 1)
        writer.end()
    return path


def _draw(width: int, height: int, rng: np.random.Generator, noisy: bool) -> NDArray[np.uint8]:
    """Return (height, width, 3) of 4 µm per px."""
    shape = (height, width)
    if noisy:
        inside = smooth_noise(shape, 60, rng) > 0.3
    else:
        y, x = np.ogrid[:height, :width]
        frame = 1 - np.maximum(np.abs(2 * x / width - 1), np.abs(2 * y / height - 1)) ** 6
        inside = smooth_noise(shape, min(shape) / 4, rng) + 0.25 * smooth_noise(shape, 60, rng) + frame > 0.8
        inside &= smooth_noise(shape, 90, rng) < 1.7  # lumina and tears
    # Stain in octaves down to a nucleus: hematoxylin where it is high, eosin where it is low.
    grain = rng.standard_normal((512, 512)).astype(np.float32)
    grain = np.tile(grain, (height // 512 + 1, width // 512 + 1))[:height, :width]
    share = np.clip(
        0.45 + 0.18 * smooth_noise(shape, 120, rng) + 0.16 * smooth_noise(shape, 9, rng) + 0.1 * grain, 0, 1
    )
    image = np.empty((height, width, 3), np.uint8)
    for channel, (eosin, hematoxylin) in enumerate(((226, 96), (142, 66), (182, 142))):
        stained = eosin + (hematoxylin - eosin) * share
        image[..., channel] = np.where(inside, stained, _GLASS[channel] + 1.5 * grain)
    thick, top = max(6, height // 100), height // 30
    image[top : top + thick, width // 8 : width // 2] = (32, 58, 168)  # a stroke of blue ink
    for row, column in rng.integers(0, (height, width), (max(width * height // 20000, 20), 2)):
        image[row : row + 3, column : column + 3] = 90  # dust
    return image


def _close_up(rng: np.random.Generator) -> NDArray[np.uint8]:
    noise = smooth_noise((TILE_PX, TILE_PX), 12, rng)[..., None]
    return np.clip(np.where(noise > 0.8, [96, 66, 142], [226, 142, 182]) + 6 * noise, 0, 255).astype(np.uint8)


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _tiles(level: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    found = []
    for top in range(0, level.shape[0], TILE_PX):
        for left in range(0, level.shape[1], TILE_PX):
            tile = level[top : top + TILE_PX, left : left + TILE_PX]
            pad = TILE_PX - tile.shape[0], TILE_PX - tile.shape[1]
            found.append(np.pad(tile, ((0, pad[0]), (0, pad[1]), (0, 0)), mode="edge"))
    return found


def _at_tiles(tissue: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return whether the middle of each tile of a level is tissue, row by row."""
    columns, rows = (-(-length // TILE_PX) for length in size)
    y = np.minimum((np.arange(rows) + 0.5) / rows * tissue.shape[0], tissue.shape[0] - 1).astype(int)
    x = np.minimum((np.arange(columns) + 0.5) / columns * tissue.shape[1], tissue.shape[1] - 1).astype(int)
    return tissue[np.ix_(y, x)].ravel()


class _BigTiff:
    """Writes what tifffile does not: directories whose tiles share their bytes."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self._directories: list[tuple[tuple[int, int], list[tuple[int, int]], float, bool]] = []
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))

    def blob(self, data: bytes) -> tuple[int, int]:
        """Return offset and length of what was written."""
        place = self._file.tell()
        self._file.write(data)
        return place, len(data)

    def directory(
        self, size: tuple[int, int], tiles: list[tuple[int, int]], per_cm: float, *, reduced: bool
    ) -> None:
        self._directories.append((size, tiles, per_cm, reduced))

    def end(self) -> None:
        link = 8
        for size, tiles, per_cm, reduced in self._directories:
            offsets, _ = self.blob(np.array([tile[0] for tile in tiles], "<u8").tobytes())
            counts, _ = self.blob(np.array([tile[1] for tile in tiles], "<u8").tobytes())
            ratio = struct.unpack("<Q", struct.pack("<II", round(per_cm * 1000), 1000))[0]
            number = len(tiles)
            entries = [  # tag, type (3 short, 4 long, 5 rational, 16 long8), count, value
                (254, 4, 1, int(reduced)), (256, 4, 1, size[0]), (257, 4, 1, size[1]),
                (258, 3, 3, struct.unpack("<Q", struct.pack("<4H", 8, 8, 8, 0))[0]), (259, 3, 1, 7), (262, 3, 1, 6),
                (277, 3, 1, 3), (282, 5, 1, ratio), (283, 5, 1, ratio), (284, 3, 1, 1), (296, 3, 1, 3),
                (322, 4, 1, TILE_PX), (323, 4, 1, TILE_PX),
                (324, 16, number, offsets if number > 1 else tiles[0][0]),
                (325, 16, number, counts if number > 1 else tiles[0][1]),
                (530, 3, 2, struct.unpack("<Q", struct.pack("<4H", 2, 2, 0, 0))[0]),
            ]  # fmt: skip
            place = self._file.tell()
            self._file.write(struct.pack("<Q", len(entries)))
            for entry in entries:
                self._file.write(struct.pack("<HHQQ", *entry))
            self._file.write(struct.pack("<Q", 0))
            after = self._file.tell()
            self._file.seek(link)
            self._file.write(struct.pack("<Q", place))
            self._file.seek(after)
            link = after - 8


if __name__ == "__main__":
    write_large_slide(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), noisy="--noisy" in sys.argv)
