"""Slides: what opens, and with which sentence the others are refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_survpgc.core.slide import open_slide
from tests.builders import tissue_image, write_tiff

from .case import Case
from .dicom_files import ANNOTATIONS, write_dicom

QPTIFF = "<PerkinElmer-QPI-ImageDescription><ImageType>FullResolution</ImageType></PerkinElmer-QPI-ImageDescription>"
APERIO = (
    "Aperio Image Library v12.0.16\r\n300x200 [0,0 300x200] (256x256) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"
)


def _open(path: Path) -> str:
    with open_slide(path) as slide:
        info = slide.info
        slide.read_region(0, 0, len(info.levels) - 1, (64, 64))
    stored = sum(level.stored for level in info.levels)
    size = f"{info.mpp:.4g} µm/px" if info.mpp else "pixel size asked for"
    return f"{info.size[0]} x {info.size[1]} px, {stored} level{'s' * (stored > 1)}, {size} ({info.backend})"


@functools.cache
def picture() -> NDArray[np.uint8]:
    """Return the drawn tissue that most files hold."""
    return tissue_image(200, 300)


def planes() -> NDArray[np.uint8]:
    """Return the same with one color after the other."""
    return np.ascontiguousarray(np.moveaxis(picture(), -1, 0))


def tiff(name: str, image: Callable[[], NDArray[Any]], **settings: Any) -> Callable[[Path], Path]:
    """Return what writes a picture with tifffile's own settings; tiled unless it is said to be in strips."""

    def write(folder: Path) -> Path:
        strips = settings.get("rowsperstrip") or settings.get("imagej")
        tile = {} if strips else {"tile": (128, 128)}
        tifffile.imwrite(folder / name, image(), **{**tile, "metadata": None, **settings})
        return folder / name

    return write


def ome(
    size: float | None = 0.5, unit: str | None = "µm", axes: str = "YXS", **settings: Any
) -> Callable[[Path], Path]:
    """Return what writes an OME-TIFF of one level whose pixels have a size in a unit."""
    stated: dict[str, Any] = {"axes": axes}
    for axis in "XY" if size else "":
        stated[f"PhysicalSize{axis}"] = size
        if unit:
            stated[f"PhysicalSize{axis}Unit"] = unit
    image = planes if axes == "CYX" else picture
    return tiff(
        "slide.ome.tif", image, photometric="rgb", compression="zlib", **{"metadata": stated, **settings}
    )


def write_pyramid(folder: Path, name: str = "slide.ome.tif") -> Path:
    """Write an OME-TIFF whose 1/4 level is not exactly a quarter, in tiles whose corners fall between level-0 px."""
    path, image = folder / name, tissue_image(1487, 1111)
    settings: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib"}
    size = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path) as file:
        file.write(image, subifds=1, metadata={"axes": "YXS", **size}, **settings)
        file.write(image[::4, ::4][:371, :277], subfiletype=1, metadata=None, **settings)
    return path


def _pages(name: str, *pages: tuple[NDArray[Any], dict[str, Any]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with tifffile.TiffWriter(folder / name) as file:
            for image, settings in pages:
                file.write(image, **{"tile": (128, 128), "metadata": None, **settings})
        return folder / name

    return write


def label_first(folder: Path) -> Path:
    """Write an OME-TIFF whose first picture is the label: as large as the slide, so that size alone tells nothing."""
    path = folder / "slide.ome.tif"
    label = np.zeros_like(picture())
    settings: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb"}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(label[:160, :160], metadata={"axes": "YXS", "Name": "label"}, **settings)
        size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        file.write(picture(), metadata={"axes": "YXS", "Name": "section", **size}, **settings)
    return path


def _dicom(**settings: Any) -> Callable[[Path], Path]:
    return lambda folder: write_dicom(folder / "slide.dcm", picture(), **settings)


def dicom_folder(folder: Path, *, slides: int = 1, below: str = "") -> Path:
    """Write a folder of DICOM slides, each with annotations, a label and an overview that sort before it."""
    place = folder / "study" / below
    for number in range(1, slides + 1):
        series = {"series": f"1.2.3.{number}", "description": f"Block {number}"}
        write_dicom(place / f"{number}a.dcm", picture(), sop_class=ANNOTATIONS, series=f"1.2.4.{number}")
        write_dicom(place / f"{number}b.dcm", picture(), kind="LABEL", instance="1.2.3.5", **series)
        write_dicom(place / f"{number}c.dcm", picture(), kind="OVERVIEW", instance="1.2.3.6", **series)
        write_dicom(place / f"{number}d.dcm", picture(), instance="1.2.3.7", **series)
    return folder / "study"


def _named_compression(number: int) -> Callable[[Path], Path]:
    """Return what writes a TIFF that says it is compressed in some way."""

    def write(folder: Path) -> Path:
        path = tiff("slide.tif", picture, **_RGB)(folder)
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags["Compression"].overwrite(number)
        return path

    return write


def _huge_strip(folder: Path) -> Path:
    """Write a TIFF of 30,000 x 30,000 px in one compressed strip, of which the file has some bytes."""
    path = tiff("slide.tif", picture, **_RGB, compression="lzw", rowsperstrip=200)(folder)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[name].overwrite(30000)
    return path


def _bytes(name: str, content: bytes = b"\0" * 64, beside: str = "") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        if beside:
            (folder / beside).parent.mkdir(parents=True)
            (folder / beside).write_bytes(b"SIS\0")
        return folder / name

    return write


def _jpeg(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        Image.fromarray(picture()).save(folder / name, "JPEG")
        return folder / name

    return write


def _gray(dtype: str = "u1") -> Callable[[], NDArray[Any]]:
    return lambda: picture()[..., 0].astype(dtype) * (257 if dtype == "u2" else 1)


def _color16() -> NDArray[np.uint16]:
    return picture().astype(np.uint16) * 257


def _stack() -> NDArray[np.uint8]:
    return np.stack([picture()] * 3)


_RGB = {"photometric": "rgb"}
_GRAY = {"photometric": "minisblack"}
_channel = (_gray()(), {"photometric": "minisblack", "description": QPTIFF})
OPENED = [
    ("TIFF, tiled, RGB, pyramid", "libvips, QuPath", lambda f: write_tiff(f / "slide.tif", tissue_image(700, 900), levels=2), "900 x 700 px, 2 levels, 0.5 µm/px (openslide)"),
    ("TIFF, tiled, RGB, LZW, resolution in inches", "ASAP, libvips", tiff("slide.tif", picture, **_RGB, compression="lzw", resolution=(50800, 50800), resolutionunit=2), "300 x 200 px, 1 level, 0.5 µm/px (openslide)"),
    ("TIFF, tiled, RGB, resolution in mm", "tifffile", tiff("slide.tif", picture, **_RGB, resolution=(4000, 4000), resolutionunit=4), "300 x 200 px, 1 level, 0.25 µm/px (openslide)"),
    ("TIFF, tiled, YCbCr, JPEG", "libvips, QuPath", tiff("slide.tif", picture, photometric="ycbcr", compression="jpeg"), "300 x 200 px, 1 level, pixel size asked for (openslide)"),
    ("TIFF, tiled, RGBA", "libvips", tiff("slide.tif", lambda: np.dstack([picture(), np.full((200, 300), 255, np.uint8)]), **_RGB), "300 x 200 px, 1 level, pixel size asked for (openslide)"),
    ("TIFF, tiled, RGB, JPEG 2000", "Bio-Formats", tiff("slide.tif", picture, **_RGB, compression="jpeg2000"), "300 x 200 px, 1 level, pixel size asked for (tiffslide)"),
    ("TIFF, tiled, RGB, JPEG XL", "tifffile", tiff("slide.tif", picture, **_RGB, compression="jpegxl"), "300 x 200 px, 1 level, pixel size asked for (tiffslide)"),
    ("TIFF, tiled, RGB, WebP", "libvips", tiff("slide.tif", picture, **_RGB, compression="webp"), "300 x 200 px, 1 level, pixel size asked for (tiffslide)"),
    ("TIFF, tiled, RGB, Zstandard", "libvips", tiff("slide.tif", picture, **_RGB, compression="zstd"), "300 x 200 px, 1 level, pixel size asked for (openslide)"),
    ("TIFF, tiled, one color after the other", "libtiff", tiff("slide.tif", planes, **_RGB, planarconfig="separate", compression="zlib"), "300 x 200 px, 1 level, pixel size asked for (openslide)"),
    ("TIFF, strips, RGB", "Photoshop, libtiff", tiff("slide.tif", picture, **_RGB, rowsperstrip=16, compression="lzw"), "300 x 200 px, 1 level, pixel size asked for (tiffslide)"),
    ("TIFF, strips, one color after the other", "libtiff", tiff("slide.tif", planes, **_RGB, planarconfig="separate", rowsperstrip=16, compression="lzw"), "300 x 200 px, 1 level, pixel size asked for (tifffile)"),
    ("TIFF, RGB, pixel size of ImageJ", "ImageJ, Fiji", tiff("slide.tif", lambda: picture()[None], imagej=True, resolution=(2.0, 2.0), metadata={"unit": "um", "axes": "ZYXS"}), "300 x 200 px, 1 level, 0.5 µm/px (tiffslide)"),
    ("OME-TIFF, pyramid in SubIFDs", "QuPath, Bio-Formats", write_pyramid, "1111 x 1487 px, 2 levels, 0.25 µm/px (tiffslide)"),
    ("OME-TIFF, strips, one color after the other", "Bio-Formats", ome(axes="CYX", planarconfig="separate", rowsperstrip=16), "300 x 200 px, 1 level, 0.5 µm/px (tifffile)"),
    ("OME-TIFF, the label as first picture", "Bio-Formats", label_first, "300 x 200 px, 1 level, 0.5 µm/px (tifffile)"),
    *(
        (f"OME-TIFF, pixel size in {unit or 'no unit (µm)'}", "Bio-Formats", ome(0.5 * per, unit), "300 x 200 px, 1 level, 0.5 µm/px (openslide)")
        for unit, per in ((None, 1.0), ("nm", 1e3), ("mm", 1e-3), ("cm", 1e-4), ("inch", 1 / 25400), ("in", 1 / 25400), ("Å", 1e4), ("m", 1e-6), ("um", 1.0))
    ),
    ("OME-TIFF, pixel size in pixels", "Bio-Formats", ome(0.5, "pixel"), "300 x 200 px, 1 level, pixel size asked for (openslide)"),
    ("QPTIFF, brightfield", "Akoya, PerkinElmer", tiff("slide.qptiff", picture, **_RGB, description=QPTIFF, resolution=(20000, 20000), resolutionunit=3), "300 x 200 px, 1 level, 0.5 µm/px (openslide)"),
    ("DICOM, one file", "scanners, wsidicomizer", _dicom(), "300 x 200 px, 1 level, 0.5 µm/px (openslide)"),
    ("DICOM, folder with annotations, label and overview beside the slide", "scanners, highdicom", dicom_folder, "300 x 200 px, 1 level, 0.5 µm/px (openslide)"),
    ("DICOM, folder of a study with the series below it", "PACS, IDC", functools.partial(dicom_folder, below="case/series"), "300 x 200 px, 1 level, 0.5 µm/px (openslide)"),
]  # fmt: skip
REFUSED = [
    ("TIFF, 16-bit gray, tiles", "fluorescence scanners", tiff("slide.tif", _gray("u2"), **_GRAY), "slide.tif has 16-bit gray pixels; slides with 8-bit RGB pixels are read. Choose the brightfield (H&E) scan in color, exported as 8-bit RGB."),
    ("TIFF, 16-bit gray, strips, LZW", "microscopes", tiff("slide.tif", _gray("u2"), **_GRAY, rowsperstrip=16, compression="lzw"), "slide.tif has 16-bit gray pixels; slides with 8-bit RGB pixels are read. Choose the brightfield (H&E) scan in color, exported as 8-bit RGB."),
    ("TIFF, 16-bit gray of ImageJ", "ImageJ, Fiji", tiff("slide.tif", lambda: _gray("u2")()[None], imagej=True, metadata={"axes": "ZYX"}), "slide.tif has 16-bit gray pixels; slides with 8-bit RGB pixels are read. Choose the brightfield (H&E) scan in color, exported as 8-bit RGB."),
    ("TIFF, 16-bit RGB", "microscopes", tiff("slide.tif", _color16, **_RGB), "slide.tif has 16-bit RGB pixels; slides with 8-bit RGB pixels are read. Export it as a tiled, 8-bit RGB OME-TIFF (QuPath, or bfconvert with -precision 8), or open the scanner's file."),
    ("TIFF, signed 8-bit", "ImageJ, Fiji", tiff("slide.tif", _gray("i1"), **_GRAY), "slide.tif has signed 8-bit gray pixels; slides with 8-bit RGB pixels are read. Choose the brightfield (H&E) scan in color, exported as 8-bit RGB."),
    ("TIFF, floating-point", "analysis software", tiff("slide.tif", _gray("f4"), **_GRAY), "slide.tif has floating-point 32-bit gray pixels; slides with 8-bit RGB pixels are read. Choose the brightfield (H&E) scan in color, exported as 8-bit RGB."),
    ("TIFF, black and white (1 bit)", "masks", tiff("slide.tif", lambda: _gray()() > 128, **_GRAY, rowsperstrip=16), "slide.tif has 1-bit gray pixels; slides with 8-bit RGB pixels are read. Choose the brightfield (H&E) scan in color, exported as 8-bit RGB."),
    ("TIFF, 8-bit gray", "microscopes, scans in gray", tiff("slide.tif", _gray(), **_GRAY), "slide.tif is gray (one 8-bit channel); the models are trained on stained tissue in color. Choose the brightfield (H&E) scan in color, exported as RGB."),
    ("TIFF, palette", "masks, GIS", tiff("slide.tif", _gray(), photometric="palette", colormap=np.zeros((3, 256), np.uint16)), "slide.tif has a palette of colors instead of RGB; slides with 8-bit RGB pixels are read. Export it as a tiled, 8-bit RGB OME-TIFF (QuPath, or bfconvert with -precision 8), or open the scanner's file."),
    ("TIFF, CMYK", "Photoshop", tiff("slide.tif", lambda: np.dstack([picture(), _gray()()]), photometric="separated"), "slide.tif has colors for printing (CMYK) instead of RGB; slides with 8-bit RGB pixels are read. Export it as a tiled, 8-bit RGB OME-TIFF (QuPath, or bfconvert with -precision 8), or open the scanner's file."),
    ("TIFF, CIE L*a*b*", "Photoshop", tiff("slide.tif", picture, photometric="cielab"), "slide.tif has CIE L*a*b* colors instead of RGB; slides with 8-bit RGB pixels are read. Export it as a tiled, 8-bit RGB OME-TIFF (QuPath, or bfconvert with -precision 8), or open the scanner's file."),
    ("TIFF, three channels in one page", "tifffile", tiff("slide.tif", planes, **_GRAY, planarconfig="separate"), "slide.tif has 3 channels that are not said to be colors (fluorescence or multiplex). Choose the brightfield (H&E) scan in color, exported as RGB."),
    ("TIFF, five channels", "multispectral cameras", tiff("slide.tif", lambda: np.dstack([picture(), picture()[..., :2]]), **_GRAY, planarconfig="contig"), "slide.tif has 5 channels that are not said to be colors (fluorescence or multiplex). Choose the brightfield (H&E) scan in color, exported as RGB."),
    ("TIFF, several pictures of one size", "z-stacks", _pages("slide.tif", *[(picture(), _RGB)] * 3), "slide.tif holds 3 pictures of the same size (a z-stack, or several sections), and which one to take is not known. Export the one that is meant to a file of its own."),
    ("OME-TIFF, three channels", "fluorescence scanners", tiff("slide.ome.tif", planes, **_GRAY, metadata={"axes": "CYX"}), "slide.ome.tif has 3 channels of gray (fluorescence or multiplex, or colors stored as separate channels), which are no colors of a stain. Choose the brightfield (H&E) scan in color; colors stored as channels become RGB with raw2ometiff --rgb or QuPath's RGB export."),
    ("OME-TIFF, z-stack", "Bio-Formats", tiff("slide.ome.tif", _stack, **_RGB, metadata={"axes": "ZYXS"}), "slide.ome.tif holds 3 planes of the section (a z-stack or a time series), and which one to take is not known. Export one plane, the one in focus (bfconvert -z N, or QuPath's OME-TIFF of the present plane)."),
    ("TIFF, RGB stack of ImageJ", "ImageJ, Fiji", tiff("slide.tif", _stack, imagej=True, metadata={"axes": "ZYXS"}), "slide.tif is a stack of 3 pictures from ImageJ, and which one to take is not known. Export one of them (Image > Duplicate, one slice), in RGB."),
    ("QPTIFF, three channels of fluorescence", "Akoya, PerkinElmer", _pages("slide.qptiff", *[_channel] * 3), "slide.qptiff has 3 channels of gray (fluorescence or multiplex, or colors stored as separate channels), which are no colors of a stain. Choose the brightfield (H&E) scan in color; colors stored as channels become RGB with raw2ometiff --rgb or QuPath's RGB export."),
    ("TIFF, JBIG", "faxes", _named_compression(34661), "slide.tif is stored in JBIG, which is not read. Export it as a tiled, 8-bit RGB OME-TIFF (QuPath, or bfconvert with -precision 8), or open the scanner's file."),
    ("TIFF, one compressed strip of 2.7 GB", "libtiff, ImageMagick", _huge_strip, "slide.tif is stored in strips of 2,575 MB that would be decoded again for every patch, and as a whole (2.5 GB) it is too large for memory. Export it as a tiled, 8-bit RGB OME-TIFF (QuPath, or bfconvert with -precision 8), or open the scanner's file."),
    ("TIFF, the label of an SVS alone", "tifffile, tiffsplit", tiff("slide.tif", picture, **_RGB, description="Aperio Image Library v12\r\nlabel 300x200"), "slide.tif is the label of a slide, not the slide (it may show a patient's name, and is not shown). Choose the file of the scan itself."),
    ("TIFF, the macro of an SVS alone", "tifffile, tiffsplit", tiff("slide.svs", picture, **_RGB, rowsperstrip=16, description="Aperio Image Library v12\r\nmacro 300x200"), "slide.svs is the macro of a slide, not the slide (it may show a patient's name, and is not shown). Choose the file of the scan itself."),
    ("OME-TIFF of a label alone", "Bio-Formats", tiff("slide.ome.tif", picture, **_RGB, metadata={"axes": "YXS", "Name": "label image"}), "slide.ome.tif is the label of a slide, not the slide (it may show a patient's name, and is not shown). Choose the file of the scan itself."),
    ("JPEG named .tif", "holiday pictures", _jpeg("slide.tif"), "slide.tif is a plain picture or document, not a slide. Choose a slide file (SVS, NDPI, MRXS, SCN, BIF, SVSLIDE, VMS, VMU, CZI, tiled and OME pyramidal TIFF, DICOM (file or folder))."),
    ("JPEG named .svs", "holiday pictures", _jpeg("slide.svs"), "slide.svs is a plain picture or document, not a slide. Choose a slide file (SVS, NDPI, MRXS, SCN, BIF, SVSLIDE, VMS, VMU, CZI, tiled and OME pyramidal TIFF, DICOM (file or folder))."),
    ("MRXS without its folder", "3DHISTECH", _jpeg("slide.mrxs"), "slide.mrxs is only the index of a MIRAX slide, and the folder slide with its pixels (Slidedat.ini, Data0000.dat ...) is missing beside it. Copy that folder next to it; without one it is a plain picture, not a slide."),
    ("DICOM, folder of two slides", "PACS, wsi-to-dicom-converter", functools.partial(dicom_folder, slides=2), "The folder study holds 2 slides: 1d.dcm (Block 1, 300 x 200 px); 2d.dcm (Block 2, 300 x 200 px). Name a file of the one that is meant, e.g. study/1d.dcm."),
    ("DICOM, 16-bit gray", "highdicom", _dicom(bits=16, samples=1, photometric="MONOCHROME2"), "slide.dcm has 16-bit gray pixels; DICOM slides in 8-bit color are read. Choose the brightfield (H&E) scan in color."),
    ("DICOM, 8-bit gray", "fluorescence scanners", _dicom(samples=1, photometric="MONOCHROME2"), "slide.dcm is gray (one channel: fluorescence, or a scan without color); DICOM slides in 8-bit color are read. Choose the brightfield (H&E) scan in color."),
    ("DICOM, palette", "converters", _dicom(photometric="PALETTE COLOR"), "slide.dcm has palette color pixels instead of RGB; DICOM slides in 8-bit color are read. Convert it to 8-bit RGB, uncompressed or in JPEG or JPEG 2000 (dcmdjpls of DCMTK for JPEG-LS, gdcmconv, wsidicomizer)."),
    ("DICOM, JPEG-LS", "highdicom", _dicom(syntax="1.2.840.10008.1.2.4.80"), "slide.dcm is stored as JPEG-LS, which is not read; DICOM slides in 8-bit color are read. Convert it to 8-bit RGB, uncompressed or in JPEG or JPEG 2000 (dcmdjpls of DCMTK for JPEG-LS, gdcmconv, wsidicomizer)."),
    ("DICOM, a label alone", "EZ-WSI-DICOMweb", _dicom(kind="LABEL"), "slide.dcm is the label of a slide. Choose the files of the slide itself (VOLUME), or their folder."),
    ("DICOM, an overview alone", "scanners", _dicom(kind="OVERVIEW"), "slide.dcm is the overview of a slide. Choose the files of the slide itself (VOLUME), or their folder."),
    ("DICOM, annotations alone", "highdicom, wsidicom", _dicom(sop_class=ANNOTATIONS), "slide.dcm is a file of annotations of a slide (bulk simple annotations). Choose the files of the slide itself (VOLUME), or their folder."),
    ("DICOM, computed tomography", "radiology", _dicom(sop_class="1.2.840.10008.5.1.4.1.1.2"), "slide.dcm is a DICOM file of another kind (SM), not a slide. Choose the files of the slide itself (VOLUME), or their folder."),
    ("VSI without its pixel files", "Olympus, Evident", _bytes("slide.vsi", b"II*\0" + b"\0" * 60), "slide.vsi is Olympus/Evident VSI, a format that is not read; and the folder _slide_ (stack1/frame_t.ets) with its pixels is missing beside it: what the file itself shows is a preview or the label, not the slide. Copy that folder next to it, then export it with OlyVIA, bfconvert (Bio-Formats) or QuPath as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)."),
    ("VSI with its pixel files", "Olympus, Evident", _bytes("slide.vsi", b"II*\0" + b"\0" * 60, "_slide_/stack1/frame_t.ets"), "slide.vsi is Olympus/Evident VSI, a format that is not read: its pixels lie in _slide_, and what the file itself shows is a preview or the label. Export it with OlyVIA, bfconvert (Bio-Formats) or QuPath as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)."),
    ("VSI named .tif", "Olympus, Evident", _bytes("slide.tif", b"II*\0\0\0\0\0\x18\0IS" + b"\0" * 60), "slide.tif is Olympus/Evident VSI, a format that is not read; and the folder _slide_ (stack1/frame_t.ets) with its pixels is missing beside it: what the file itself shows is a preview or the label, not the slide. Copy that folder next to it, then export it with OlyVIA, bfconvert (Bio-Formats) or QuPath as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)."),
    ("iSyntax", "Philips", _bytes("slide.isyntax", b'<DataObject ObjectType="DPUfsImport">'), "slide.isyntax is Philips iSyntax, a format that is not read. Export it from Philips IMS or with isyntax2raw and raw2ometiff as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)."),
    ("SDPC", "SQRAY", _bytes("slide.sdpc"), "slide.sdpc is SQRAY SDPC, a format that is not read. Export it with the scanner's viewer as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)."),
    ("KFB", "KFBIO", _bytes("slide.kfb"), "slide.kfb is KFBIO KFB, a format that is not read. Export it with K-Viewer as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)."),
    ("TRON", "scanners", _bytes("slide.tron"), "slide.tron is TRON, a format that is not read. Export it with the scanner's viewer as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)."),
    ("NDPIS", "Hamamatsu, fluorescence", _bytes("slide.ndpis"), "slide.ndpis is Hamamatsu NDPIS (a list of fluorescence channels), a format that is not read. Open the .ndpi file of the brightfield (H&E) scan."),
]  # fmt: skip
SHARED = [
    ("SVS, JPEG", "Aperio (OpenSlide's test data, CC0)", "slides/CMU-1-Small-Region.svs", "2220 x 2967 px, 1 level, 0.499 µm/px (openslide)", False),
    ("SVS, JPEG 2000, no pixel size", "Aperio (TCGA)", "slides/TCGA-CR-7395-01A-01-TS1.svs", "4443 x 3567 px, 2 levels, pixel size asked for (openslide)", False),
    ("NDPI (fluorescence in color)", "Hamamatsu (Bio-Formats' sample files, CC BY 4.0)", "slides/test3-DAPI-2-(387).ndpi", "3968 x 4864 px, 7 levels, 0.2282 µm/px (openslide)", False),
    ("DICOM, annotations sort before the slide", "wsi-to-dicom-converter, highdicom", "cases/formats/dicom/annotation_first", "2220 x 2967 px, 1 level, 0.499 µm/px (openslide)", False),
    ("DICOM, a study with one series", "wsi-to-dicom-converter", "cases/formats/dicom/study", "2220 x 2967 px, 1 level, 0.499 µm/px (openslide)", False),
    ("text named .svs", "a download that failed", "slides/broken.svs", "broken.svs is not a slide that can be read. Choose a slide file (SVS, NDPI, MRXS, SCN, BIF, SVSLIDE, VMS, VMU, CZI, tiled and OME pyramidal TIFF, DICOM (file or folder)).", True),
    ("DICOM, two slides of two programs", "napari-wsi, wsi-to-dicom-converter", "cases/formats/dicom/two_slides", "The folder two_slides holds 2 slides: 0_other.dcm (test13, 957 x 715 px); 1.2.826.0.1.3680043.8.498.58740178995208579534253317996600852419.dcm (2220 x 2967 px). Name a file of the one that is meant, e.g. two_slides/0_other.dcm.", True),
    ("DICOM, gray, of a program's tests", "highdicom", "cases/formats/dicom/sm_image_grayscale.dcm", "sm_image_grayscale.dcm has 16-bit gray pixels; DICOM slides in 8-bit color are read. Choose the brightfield (H&E) scan in color.", True),
    ("DICOM, JPEG-LS, of a program's tests", "highdicom", "cases/formats/dicom/sm_image_jpegls.dcm", "sm_image_jpegls.dcm is stored as JPEG-LS, which is not read; DICOM slides in 8-bit color are read. Convert it to 8-bit RGB, uncompressed or in JPEG or JPEG 2000 (dcmdjpls of DCMTK for JPEG-LS, gdcmconv, wsidicomizer).", True),
    ("DICOM, label instance", "EZ-WSI-DICOMweb", "cases/formats/dicom/label_instance.dcm", "label_instance.dcm is the label of a slide. Choose the files of the slide itself (VOLUME), or their folder.", True),
    ("VSI, a real index", "slideio's tutorial", "cases/formats/vsi/vsi-ets-test-jpg2k.vsi", "vsi-ets-test-jpg2k.vsi is Olympus/Evident VSI, a format that is not read; and the folder _vsi-ets-test-jpg2k_ (stack1/frame_t.ets) with its pixels is missing beside it: what the file itself shows is a preview or the label, not the slide. Copy that folder next to it, then export it with OlyVIA, bfconvert (Bio-Formats) or QuPath as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB).", True),
]  # fmt: skip
CASES = [
    Case(name, origin, _open, result, refused, write)
    for rows, refused in ((OPENED, False), (REFUSED, True))
    for name, origin, write, result in rows
] + [
    Case(name, origin, _open, result, refused, shared=place)
    for name, origin, place, result, refused in SHARED
]
