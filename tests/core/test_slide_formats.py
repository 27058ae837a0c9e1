"""Files of other people open as what they are: pixels, sizes and levels as stored, labels never, the rest said to be so."""

from __future__ import annotations

import random
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_survpgc.core.errors import SeveralSlidesError, SlideError
from napari_survpgc.core.slide import open_slide, plain_tiff
from napari_survpgc.core.slide.dicom import read_header
from napari_survpgc.core.slide.dicom_folder import dicom_files, holds_dicom
from napari_survpgc.core.slide.formats import find_slide
from napari_survpgc.core.slide.pixel_kinds import ome_images
from napari_survpgc.core.slide.pixel_size import micrometers
from napari_survpgc.core.slide.tiff import read_pages
from tests.builders import tissue_image, write_tiff
from tests.formats import slides
from tests.formats.compare_levels import compare_levels
from tests.formats.dicom_files import ANNOTATIONS, element, write_dicom

LOSSLESS = [
    "TIFF, tiled, RGB, LZW, resolution in inches",
    "TIFF, tiled, one color after the other",
    "TIFF, strips, RGB",
    "TIFF, strips, one color after the other",
    "TIFF, RGB, pixel size of ImageJ",
    "OME-TIFF, strips, one color after the other",
    "OME-TIFF, the label as first picture",
    "DICOM, folder with annotations, label and overview beside the slide",
    "DICOM, folder of a study with the series below it",
]


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_pixels_are_those_that_were_written(name: str, tmp_path: Path) -> None:
    write = next(case.write for case in slides.CASES if case.name == name)
    assert write is not None
    with open_slide(write(tmp_path)) as slide:
        for part in ((0, 0, 300, 200), (130, 70, 60, 90)):
            x, y, width, height = part
            got = slide.read_region(x, y, 0, (width, height))
            np.testing.assert_array_equal(got, slides.picture()[y : y + height, x : x + width])
        outside = slide.read_region(-40, -40, 0, (80, 80))
    assert (outside[:40] == 255).all()
    assert (outside[:, :40] == 255).all()
    np.testing.assert_array_equal(outside[40:, 40:], slides.picture()[:40, :40])


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("planar", [False, True])
def test_a_picture_in_one_strip_is_read_once_or_where_it_lies(
    compression: str | None, planar: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_survpgc.core.slide.backends.LARGE_SEGMENT", 1000)
    monkeypatch.setattr(plain_tiff, "LARGE_SEGMENT", 1000)
    image = tissue_image(500, 400)
    path = tmp_path / "strip.tif"
    settings = {"planarconfig": "separate"} if planar else {}
    pixels = np.moveaxis(image, -1, 0) if planar else image
    tifffile.imwrite(path, pixels, photometric="rgb", compression=compression, metadata=None, **settings)
    with open_slide(path) as slide:
        assert slide.info.backend == "tifffile"
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, (400, 500)), image)
        decoded = slide._handle.slide._arrays[0]
        assert isinstance(decoded, np.memmap) is (compression is None)
        monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda *a, **k: pytest.fail("decoded again"))
        np.testing.assert_array_equal(slide.read_region(30, 20, 0, (99, 88)), image[20:108, 30:129])


def test_a_strip_that_is_too_large_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    import tracemalloc

    path = slides._huge_strip(tmp_path)
    tracemalloc.start()
    with pytest.raises(SlideError, match="too large for memory"):
        open_slide(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


# --- levels -----------------------------------------------------------------------------------------------


def test_every_level_is_shown_as_the_file_has_it(tmp_path: Path) -> None:
    made = [
        slides.write_pyramid(tmp_path),
        write_tiff(tmp_path / "b.tif", tissue_image(1111, 1487), levels=2),
    ]
    for path in made:
        found = compare_levels(path)
        assert len(found) == 2
        assert {difference.tifffile for difference in found} == {0.0}
        assert {difference.openslide for difference in found} <= {0.0, None}


@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs", "test3-DAPI-2-(387).ndpi"]
)
def test_every_level_of_a_real_slide_is_shown_as_the_file_has_it(shared_dir: Path, name: str) -> None:
    """The corner of each; ``python -m tests.formats.compare_levels`` does the whole slide."""
    found = compare_levels(shared_dir / "slides" / name, side=900)
    assert {difference.openslide for difference in found} == {0.0}
    assert {difference.tifffile for difference in found} <= {0.0, None}
    assert found[0].tifffile == 0.0


# --- pixel size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("µm", 1), ("\u03bcm", 1), ("microns", 1), ("nm", 1e-3), ("pm", 1e-6), ("mm", 1e3), ("cm", 1e4), ("dm", 1e5), ("m", 1e6),
        ("km", 1e9), ("Å", 1e-4), ("\u212b", 1e-4), ("in", 25400), ("inches", 25400), ("thou", 25.4), ("ft", 304800),
        ("pt", 25400 / 72), ("pixel", None), ("reference frame", None), ("", None), ("furlong", None),
    ],
)  # fmt: skip
def test_a_unit_of_length_is_known_or_not_taken(unit: str, size: float | None) -> None:
    assert micrometers(unit) == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [("micron", 2.0), ("\\u00B5m", 2.0), ("nm", 0.002), ("cm", 20000.0), ("inch", 50800.0), ("pixel", None)],
)
def test_imagejs_pixel_size_is_read_in_its_unit(unit: str, per_unit: float | None, tmp_path: Path) -> None:
    path = tmp_path / "ij.tif"
    tifffile.imwrite(
        path,
        slides.picture(),
        photometric="rgb",
        description=f"ImageJ=1.54f\nunit={unit}\nloop=false\n",
        resolution=(per_unit or 2.0,) * 2,
        resolutionunit=1,
        metadata=None,
    )
    with open_slide(path) as slide:
        assert slide.info.mpp == (None if per_unit is None else pytest.approx(0.5, rel=1e-3))


def test_the_size_in_ome_xml_wins_over_the_tags_beside_it(tmp_path: Path) -> None:
    path = slides.ome(250.0, "nm", resolution=(2000, 2000), resolutionunit=3)(tmp_path)  # 5 µm
    with open_slide(path) as slide:
        assert slide.info.mpp == pytest.approx(0.25)


# --- DICOM ------------------------------------------------------------------------------------------------


def test_of_several_dicom_slides_one_is_opened_by_a_file_of_it(tmp_path: Path) -> None:
    folder = slides.dicom_folder(tmp_path, slides=2)
    with pytest.raises(SeveralSlidesError) as error:
        open_slide(folder)
    assert len(error.value.choices) == 2
    assert "\n" not in str(error.value)
    again = error.value.__reduce__()
    assert str(again[0](*again[1])) == str(error.value)  # as it comes out of another process
    write_dicom(folder / "2d.dcm", 255 - slides.picture(), series="1.2.3.2", description="Block 2")
    with open_slide(error.value.choices[1][0]) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, (300, 200)), 255 - slides.picture())


def test_a_file_beside_the_slide_opens_the_slide_and_another_slides_label_does_not(tmp_path: Path) -> None:
    folder = slides.dicom_folder(tmp_path)
    with open_slide(folder / "1b.dcm") as slide:  # its label: of the same series
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, (300, 200)), slides.picture())
    stray = write_dicom(folder / "0.dcm", np.zeros((64, 64, 3), np.uint8), kind="LABEL", series="9.9")
    with pytest.raises(SlideError, match="is the label of a slide"):
        open_slide(stray)
    with open_slide(folder) as slide:
        assert slide.info.size == (300, 200)


def test_a_study_is_the_series_in_it_with_its_fingerprint(tmp_path: Path) -> None:
    study = slides.dicom_folder(tmp_path, below="series")
    with open_slide(study) as above, open_slide(study / "series") as below:
        assert above.info.fingerprint == below.info.fingerprint
    (study / "DICOMDIR").write_bytes(
        b"\0" * 128 + b"DICM" + element(2, 2, "UI", "1.2.840.10008.1.3.10") + element(2, 16, "UI", "1.2.840.10008.1.2.1")
    )  # fmt: skip
    with open_slide(study / "DICOMDIR") as slide:
        assert slide.info.size == (300, 200)


def test_the_search_for_dicom_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slides.dicom_folder(tmp_path, below="1/2/3/4")
    assert not holds_dicom(tmp_path)  # study/1/2/3/4 is five deep
    assert holds_dicom(tmp_path / "study")
    (tmp_path / "turn").symlink_to(tmp_path, target_is_directory=True)
    assert not holds_dicom(tmp_path)
    monkeypatch.setattr("napari_survpgc.core.slide.dicom_folder._MAX_FILES", 2)
    assert len(list(dicom_files(tmp_path / "study"))) == 2


@pytest.mark.parametrize(("kind", "what"), [("LABEL", "the label"), ("OVERVIEW", "the overview"), ("THUMBNAIL", "the thumbnail")])  # fmt: skip
def test_a_folder_without_a_slide_says_what_it_holds(kind: str, what: str, tmp_path: Path) -> None:
    write_dicom(tmp_path / "a" / "1.dcm", slides.picture(), kind=kind)
    write_dicom(tmp_path / "a" / "2.dcm", slides.picture(), sop_class=ANNOTATIONS, series="1.2")
    with pytest.raises(SlideError, match=f"no slide, only a file of annotations .*{what} of a slide"):
        open_slide(tmp_path / "a")


# --- not read ---------------------------------------------------------------------------------------------


def test_a_list_of_slides_names_a_file_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "A.kfb").write_bytes(b"\0" * 10)
    found = find_slide(tmp_path, "A")
    assert found == tmp_path / "A.kfb"
    with pytest.raises(SlideError, match="KFB"):
        open_slide(found)
    shutil.copy(slides.write_pyramid(tmp_path), tmp_path / "A.tif")
    assert find_slide(tmp_path, "A") == tmp_path / "A.tif"


# --- files that are damaged or made to hurt -----------------------------------------------------------------


def test_directories_that_turn_in_a_circle_end(tmp_path: Path) -> None:
    path = slides._pages("a.tif", *[(slides.picture(), {"photometric": "rgb"})] * 2)(tmp_path)
    with tifffile.TiffFile(path) as file:
        first, second = (page.offset for page in file.pages)
        entries = len(file.pages[1].tags)
    with path.open("r+b") as stream:
        stream.seek(second + 2 + entries * 12)
        stream.write(struct.pack("<I", first))
    assert len(read_pages(path)) == 2


@pytest.mark.parametrize(
    "text",
    ["<Image" * 200_000, "<Image>" + "<Pixels " + "a" * 1_000_000 + ">", "<" + "a" * 1_000_000, "<Image Name=" + '"' * 500_000,
     '<Image><Pixels SizeX="\u00b2" SizeC="99999999999999"></Image>'],
)  # fmt: skip
def test_a_description_made_to_hurt_is_read_in_no_time(text: str) -> None:
    start = time.process_time()
    assert len(ome_images(f"<OME>{text}")) <= 1
    assert time.process_time() - start < 2


@pytest.mark.parametrize("kind", ["tiff", "dicom"])
def test_a_damaged_header_is_said_or_read_and_nothing_else(kind: str, tmp_path: Path) -> None:
    """400 files with some bytes changed in what is read first; deterministic."""
    if kind == "tiff":
        path, reader, span = (
            slides.ome(axes="CYX", planarconfig="separate", rowsperstrip=16)(tmp_path),
            read_pages,
            400,
        )
    else:
        path, reader, span = write_dicom(tmp_path / "a.dcm", slides.picture()), read_header, 900
    whole, source = path.read_bytes(), random.Random(20)
    broken = tmp_path / f"b{path.suffix}"
    for number in range(400):
        content = bytearray(whole if number % 4 else whole[: source.randrange(len(whole))])
        for _ in range(source.randrange(1, 6)):
            if content:
                content[source.randrange(min(span, len(content)))] = source.randrange(256)
        broken.write_bytes(content)
        reader(broken)
