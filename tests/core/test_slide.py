"""Slides open, read and refuse as people expect."""

from __future__ import annotations

import gc
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_survpgc.core.errors import MissingMppError, SlideError
from napari_survpgc.core.output.case_file import SUFFIX
from napari_survpgc.core.slide.formats import FORMAT_NAMES, SLIDE_SUFFIXES, find_slide
from napari_survpgc.core.slide.lazy_level import LazyLevel
from napari_survpgc.core.slide.slide import open_slide, require_mpp
from napari_survpgc.core.types import MppSource
from tests.builders import tissue_image, write_tiff

REAL = ("CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return tissue_image(1500, 5000)


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "made.tiff", image, levels=2)


def test_pixels_come_back_in_rgb_rows_and_columns(tiff: Path, image: np.ndarray) -> None:
    with open_slide(tiff) as slide:
        got = slide.read_region(1200, 300, 0, (400, 200))
    assert got.shape == (200, 400, 3)
    np.testing.assert_array_equal(got, image[300:500, 1200:1600])


def test_gaps_of_the_pyramid_are_filled_to_steps_of_two(tiff: Path) -> None:
    with open_slide(tiff) as slide:
        levels = slide.info.levels
    assert [level.downsample for level in levels] == [1.0, 2.0, 4.0]
    assert [level.stored for level in levels] == [True, False, True]
    assert max(levels[-1].size) <= 2048


def test_a_virtual_level_is_the_mean_of_the_finer_one(tiff: Path, image: np.ndarray) -> None:
    with open_slide(tiff) as slide:
        got = slide.read_region(1000, 400, 1, (50, 40))
    want = image[400:480, 1000:1100].reshape(40, 2, 50, 2, 3).mean((1, 3))
    assert np.abs(got - want).max() <= 1


def test_a_single_huge_level_gets_a_small_coarsest_one(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "one.tiff", tissue_image(300, 9000))
    with open_slide(path) as slide:
        assert max(slide.info.levels[-1].size) <= 2048
        assert slide.thumbnail(900).shape == (30, 900, 3)


def test_outside_the_slide_is_background(tiff: Path) -> None:
    with open_slide(tiff) as slide:
        got = slide.read_region(-100, -100, 0, (90, 90))
    assert (got == 255).all()


def test_a_square_of_fractional_side_is_resampled_once(tiff: Path, image: np.ndarray) -> None:
    with open_slide(tiff) as slide:
        np.testing.assert_array_equal(slide.read_square(1300, 500, 256.0, 256), image[500:756, 1300:1556])
        assert slide.read_square(1300, 500, 256.5, 224).shape == (224, 224, 3)
        coarse = slide.read_square(0, 0, 1024.0, 128)
    want = image[:1024, :1024].astype(float).mean((0, 1))
    assert np.abs(coarse.mean((0, 1)) - want).max() < 4


def test_a_lazy_level_slices_like_an_array(tiff: Path, image: np.ndarray) -> None:
    with open_slide(tiff) as slide:
        level = LazyLevel(slide, 0)
        assert level.shape == image.shape
        np.testing.assert_array_equal(level[10:20, 30:50], image[10:20, 30:50])
        np.testing.assert_array_equal(level[700:720:5, 2000], image[700:720:5, 2000])
        np.testing.assert_array_equal(level[..., 1][5:6], image[5:6, :, 1])
        with pytest.raises(IndexError):
            level[5000]
        coarsest = LazyLevel(slide, len(slide.info.levels) - 1)
        assert np.asarray(coarsest).shape == coarsest.shape


def test_pixel_size_of_the_user_wins_and_is_recorded(tiff: Path) -> None:
    with open_slide(tiff) as slide:
        assert slide.info.mpp == pytest.approx(0.5)
        assert slide.info.mpp_source is MppSource.FILE
    with open_slide(tiff, mpp=0.25) as slide:
        assert require_mpp(slide.info) == 0.25
        assert slide.info.mpp_source is MppSource.USER


@pytest.mark.parametrize("mpp", [None, 352.8])
def test_a_missing_or_impossible_pixel_size_is_asked_for(tmp_path: Path, mpp: float | None) -> None:
    path = write_tiff(tmp_path / "nompp.tiff", tissue_image(400, 400), mpp=mpp)
    with open_slide(path) as slide, pytest.raises(MissingMppError, match=r"nompp\.tiff.*--mpp-override"):
        require_mpp(slide.info)


@pytest.mark.parametrize(
    "content", [b"", b"just some words", b"\x89PNG\r\n\x1a\n....", b"II*\0\xff\xff\xff\xff" * 4]
)
def test_what_is_no_slide_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.svs"
    path.write_bytes(content)
    with pytest.raises(SlideError, match=r"words\.svs") as error:
        open_slide(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no file"):
        open_slide(tmp_path / "nowhere.svs")
    with pytest.raises(SlideError, match="no DICOM"):
        open_slide(tmp_path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("name", REAL)
def test_a_real_slide_cut_short_is_refused(shared_dir: Path, tmp_path: Path, name: str, share: float) -> None:
    whole = (shared_dir / "slides" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SlideError, match=name), open_slide(path, mpp=1.0) as slide:
        slide.thumbnail()


def test_a_damaged_tile_fails_alone(tmp_path: Path) -> None:
    image = tissue_image(1024, 1024)
    path = write_tiff(tmp_path / "hole.tiff", image)
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\xff" * count
    path.write_bytes(content)
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match="damaged at"):
            slide.read_region(256, 256, 0, (256, 256))
        np.testing.assert_array_equal(slide.read_region(512, 512, 0, (256, 256)), image[512:768, 512:768])


def test_real_slides_say_what_they_are(shared_dir: Path) -> None:
    with open_slide(shared_dir / "slides" / REAL[0]) as slide:
        assert slide.info.size == (2220, 2967)
        assert slide.info.mpp == pytest.approx(0.499)
        assert slide.info.vendor == "aperio"
    with open_slide(shared_dir / "slides" / REAL[1]) as slide:
        assert slide.info.mpp is None
        assert slide.info.levels[1].downsample == pytest.approx(4443 / 2221, rel=1e-3)


@pytest.mark.parametrize("ending", [".czi", ".SVS", ".vms"])
def test_a_slide_is_found_by_its_id_with_or_without_the_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"A{ending}"
    path.write_bytes(b"")
    (tmp_path / "A.json").write_bytes(b"")
    assert find_slide(tmp_path, "A") == path
    assert find_slide(tmp_path, f"A{ending.lower()}") == path
    assert find_slide(tmp_path, "B") is None


def test_a_fingerprint_follows_the_content_not_the_name(tmp_path: Path) -> None:
    a = write_tiff(tmp_path / "a.tiff", tissue_image(600, 600, 1))
    b = tmp_path / "b.tiff"
    b.write_bytes(a.read_bytes())
    c = write_tiff(tmp_path / "c.tiff", tissue_image(600, 600, 2))
    prints = []
    for path in (a, b, c):
        with open_slide(path) as slide:
            prints.append(slide.info.fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_fifty_slides_leave_no_handle_open(tiff: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("counting open files needs /proc")
    with open_slide(tiff) as slide:
        slide.read_region(0, 0, 0, (64, 64))
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with open_slide(tiff) as slide:
            slide.read_region(0, 0, 0, (64, 64))
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_closing_under_a_reader_waits_for_it(tiff: Path) -> None:
    """OpenSlide ends the process when a file is closed while another thread reads it."""
    from concurrent.futures import ThreadPoolExecutor

    def read(slide) -> str:
        try:
            slide.read_region(0, 0, 0, slide.info.size)
        except SlideError as error:
            return error.problem
        return "read"

    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            slide = open_slide(tiff)
            futures = [pool.submit(read, slide) for _ in range(4)]
            slide.close()
            outcomes = {future.result() for future in futures}
            assert outcomes <= {"read", f"{tiff.name} was closed"}
            assert not slide._to_close


def test_manifest_and_readme_follow_the_list_of_formats() -> None:
    root = Path(__file__).resolve().parents[2]
    manifest = (root / "napari_survpgc" / "napari.yaml").read_text(encoding="utf-8")
    patterns = json.loads(re.findall(r"filename_patterns:\s*(\[.*?\])", manifest, re.DOTALL)[0])
    assert patterns == [f"*{suffix}" for suffix in (*SLIDE_SUFFIXES, SUFFIX)]
    assert f"| slide | {FORMAT_NAMES} |" in (root / "README.md").read_text(encoding="utf-8")


def test_a_format_that_looks_like_a_picture_is_asked_of_its_own_reader(tmp_path: Path) -> None:
    picture = tmp_path / "slide.mrxs"
    Image.new("RGB", (64, 64)).save(picture, "JPEG")
    with pytest.raises(SlideError, match="plain picture"):  # no folder beside it: a picture with a wrong name
        open_slide(picture)
    (tmp_path / "slide").mkdir()
    (tmp_path / "slide" / "Slidedat.ini").write_text("[GENERAL]\n")
    for place in (picture, tmp_path / "slide"):
        with pytest.raises(
            SlideError, match="damaged or incomplete"
        ):  # MIRAX by OpenSlide's rules, and broken
            open_slide(place)
