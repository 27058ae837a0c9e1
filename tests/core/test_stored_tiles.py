"""Stored tiles decoded directly show what OpenSlide shows, or are not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_survpgc.core.slide import stored_tiles as module
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.slide.stored_tiles import stored_tiles
from napari_survpgc.core.slide.tiles import DAMAGED, TileCache, tiled_levels
from tests.builders import tissue_image, write_tiff


def _jpeg(path: Path, side: int = 240) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 4):
            tiff.write(
                np.ascontiguousarray(tissue_image(1100, 1500)[::step, ::step]),
                tile=(side, side) if step == 1 else (256, 256),
                photometric="ycbcr",
                compression="jpeg",
                subfiletype=step > 1,
                metadata=None,
            )
    return path


@pytest.mark.parametrize("kind", ["zlib", "jpeg", "CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"])
def test_the_pixels_are_openslides(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.endswith(".svs"):
        path = request.getfixturevalue("shared_dir") / "slides" / kind
    elif kind == "jpeg":
        path = _jpeg(tmp_path / "a.tiff")
    else:
        path = write_tiff(tmp_path / "a.tiff", tissue_image(1100, 1500), levels=2)
    with open_slide(path) as slide:
        tiles = TileCache(slide)
        assert tiles._stored is not None
        assert tiles._stored.side(0) == {"jpeg": 240, "CMU-1-Small-Region.svs": 240}.get(kind, 256)
        for name in ("read_region", "read_level"):
            monkeypatch.setattr(slide, name, lambda *a: pytest.fail("OpenSlide was asked"))
        width, height = slide.info.levels[0].size
        left, top = width // 3, height // 3
        seen = tiled_levels(tiles)[0][top : top + 530, left : left + 610]
        edge = tiled_levels(tiles)[0][height - 50 :, width - 300 :]
        monkeypatch.undo()
        np.testing.assert_array_equal(seen, slide.read_region(left, top, 0, (610, 530)))
        np.testing.assert_array_equal(edge, slide.read_region(width - 300, height - 50, 0, (300, 50)))
        half = tiled_levels(tiles)[1]
        if not slide.info.levels[1].stored:
            np.testing.assert_array_equal(half[100:300, 50:400], slide.read_region(100, 200, 1, (350, 200)))
        tiles.close()


def test_tiles_that_differ_from_openslides_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "a.tiff", tissue_image(600, 700), levels=2)
    tile = module.StoredTiles._tile
    monkeypatch.setattr(
        module.StoredTiles, "_tile", lambda self, d, n: None if (t := tile(self, d, n)) is None else t ^ 1
    )
    with open_slide(path) as slide:
        assert stored_tiles(slide) is None
        tiles = TileCache(slide)
        whole = np.asarray(tiled_levels(tiles)[0])
        np.testing.assert_array_equal(whole, slide.read_region(0, 0, 0, slide.info.size))
        tiles.close()


def test_a_damaged_tile_is_gray_and_the_others_are_there(tmp_path: Path) -> None:
    path = _jpeg(tmp_path / "a.tiff")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0].aspage()
        counts = np.array(page.databytecounts)
        number = int(np.argsort(counts)[-2])  # not the one that is compared when the slide is opened
        offset, count, columns = page.dataoffsets[number], int(counts[number]), -(-page.imagewidth // 240)
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\0" * count)
    with open_slide(path) as slide:
        tiles = TileCache(slide)
        assert tiles._stored is not None
        level = tiled_levels(tiles)[0]
        y, x = number // columns * 240, number % columns * 240
        assert (level[y + 5, x + 5] == DAMAGED).all()
        assert tiles.damaged == 1
        far = 1000 if x < 700 else 10
        assert not (level[10:20, far : far + 10] == DAMAGED).all()
        tiles.close()


def test_closing_lets_go_of_the_file(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", tissue_image(600, 700), levels=2)
    with open_slide(path) as slide:
        tiles = stored_tiles(slide)
        assert tiles is not None
        assert tiles.region(0, 0, 0, 10, 10) is not None
        tiles.close()
        assert tiles.region(0, 0, 0, 10, 10) is None
