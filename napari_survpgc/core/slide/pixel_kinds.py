"""Which pixels the models can be shown: 8-bit color. Everything else is named, with the export that helps.

Viewers make something of any picture: 16 bits become white, three fluorescence channels pass for red, green and blue. A
prediction on that would be wrong without a word, so the kind of the pixels is looked at before the picture is.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Sequence

from napari_survpgc.core.errors import SlideError

from .tiff import TiffPage

EXPORT = "Export it as a tiled, 8-bit RGB OME-TIFF (QuPath, or bfconvert with -precision 8), or open the scanner's file"
_COLOR = "Choose the brightfield (H&E) scan in color"
_GRAY, _RGB, _YCBCR = (0, 1), 2, 6
_PHOTOMETRICS = {
    3: "a palette of colors instead of RGB", 4: "a mask instead of colors", 5: "colors for printing (CMYK) instead of RGB",
    8: "CIE L*a*b* colors instead of RGB", 9: "ICC L*a*b* colors instead of RGB", 10: "ITU L*a*b* colors instead of RGB",
    32803: "the raw values of a camera instead of RGB", 32844: "LogL values instead of RGB", 32845: "LogLuv values instead of RGB",
    34892: "linear raw values of a camera instead of RGB",
}  # fmt: skip
_COMPRESSIONS = {
    1: "without compression", 5: "with LZW", 8: "with deflate", 32946: "with deflate", 32773: "with PackBits",
    33003: "in Aperio's JPEG 2000", 33005: "in Aperio's JPEG 2000", 34712: "in JPEG 2000",
    2: "CCITT fax", 3: "CCITT fax", 4: "CCITT fax", 6: "old-style JPEG", 9: "JBIG", 10: "JBIG", 22610: "JPEG XR", 32766: "NeXT",
    32809: "ThunderScan", 34661: "JBIG", 34676: "SGI Log", 34677: "SGI Log", 34887: "LERC", 34892: "lossy JPEG", 34925: "LZMA",
    34926: "Zstandard", 34927: "WebP", 34933: "PNG", 34934: "JPEG XR", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
    52546: "JPEG XL",
}  # fmt: skip
# No tag of XML has another's beginning in it: each is looked at once, however long the text.
_IMAGE = re.compile(r"<(?:\w+:)?Image\b([^<>]*)>")
_PIXELS = re.compile(r"<(?:\w+:)?(?:Pixels\b([^<>]*)>|/?Image\b)")
_TAG = 4000  # characters of a tag's attributes
_GLASS = re.compile(r"^(?:.*\n)?\s*(label|macro)(?:\s|$)", re.IGNORECASE)


def check_tiff(name: str, pages: Sequence[TiffPage]) -> None:
    """Refuse a TIFF whose picture is not one plane of 8-bit color.

    Parameters
    ----------
    name : of the file, for the sentence.   pages : all of the file; none is no TIFF, and passes.

    Raises
    ------
    SlideError : what the pixels are, and what to export.
    """
    if not pages:
        return
    page = main_page(pages)
    glass = glass_kind(page)
    if glass:
        raise SlideError(
            f"{name} is the {glass} of a slide, not the slide (it may show a patient's name, and is not shown)",
            "Choose the file of the scan itself",
        )
    _check_samples(name, page, pages)
    _check_planes(name, page, pages)


def main_page(pages: Sequence[TiffPage]) -> TiffPage:
    """Return the page that is the slide: Aperio's first, else the largest that is no label or macro."""
    if pages[0].text.startswith("Aperio"):
        return pages[0]
    named = ome_images(pages[0].text)
    tissue = [page for page in pages if not glass_kind(page) and not page.reduced]
    if named and any(image.glass for image in named):
        # A label is never the largest for its pixels alone: OME-XML says which picture is which.
        sizes = {image.size for image in named if not image.glass}
        tissue = [page for page in tissue if page.size in sizes] or tissue
    return max(tissue or pages, key=lambda page: page.width * page.height)  # the first of several


def glass_kind(page: TiffPage) -> str:
    """Return "label" or "macro" for a page that shows the glass instead of the tissue, else ""."""
    if page.ndpi_lens < 0:
        return "macro" if page.ndpi_lens == -1 else "map"
    found = _GLASS.match(page.text) if not page.text.lstrip().startswith("<") else None
    if found:
        return found[1].lower()
    named = ome_images(page.text)
    return next((i.glass for i in named if i.size == page.size), "") if len(named) == 1 else ""


def _check_samples(name: str, page: TiffPage, pages: Sequence[TiffPage]) -> None:
    kind = {2: "signed ", 3: "floating-point "}.get(page.sample_format, "")
    what = "gray" if page.samples == 1 else f"{page.samples}-channel"
    if page.photometric in (_RGB, _YCBCR) and page.samples in (3, 4):
        what = "RGB"
    if page.bits != 8 or kind:
        raise SlideError(
            f"{name} has {kind}{page.bits}-bit {what} pixels; slides with 8-bit RGB pixels are read",
            EXPORT if what == "RGB" else f"{_COLOR}, exported as 8-bit RGB",
        )
    if page.photometric in _PHOTOMETRICS:
        raise SlideError(
            f"{name} has {_PHOTOMETRICS[page.photometric]}; slides with 8-bit RGB pixels are read", EXPORT
        )
    if page.samples == 1:
        channels = _channels(page, pages)
        if channels > 1:
            raise SlideError(
                f"{name} has {channels} channels of gray (fluorescence or multiplex, or colors stored as separate"
                " channels), which are no colors of a stain",
                f"{_COLOR}; colors stored as channels become RGB with raw2ometiff --rgb or QuPath's RGB export",
            )
        raise SlideError(
            f"{name} is gray (one 8-bit channel); the models are trained on stained tissue in color",
            f"{_COLOR}, exported as RGB",
        )
    if page.photometric in _GRAY or page.samples == 2 or page.samples > 4:
        raise SlideError(
            f"{name} has {page.samples} channels that are not said to be colors (fluorescence or multiplex)",
            f"{_COLOR}, exported as RGB",
        )


def _channels(page: TiffPage, pages: Sequence[TiffPage]) -> int:
    image = next((i for i in ome_images(pages[0].text) if i.size == page.size), None)
    if image is not None and image.channels > 1:
        return image.channels
    return sum(other.size == page.size and other.samples == 1 and not other.reduced for other in pages)


def _check_planes(name: str, page: TiffPage, pages: Sequence[TiffPage]) -> None:
    image = next((i for i in ome_images(pages[0].text) if i.size == page.size and not i.glass), None)
    if image is not None and image.planes > 1:
        raise SlideError(
            f"{name} holds {image.planes} planes of the section (a z-stack or a time series), and which one to take is not known",
            "Export one plane, the one in focus (bfconvert -z N, or QuPath's OME-TIFF of the present plane)",
        )
    if page.text.startswith("ImageJ="):
        stated = re.search(r"^(?:slices|frames)=(\d{1,9})", page.text, re.MULTILINE)
        if stated and int(stated[1]) > 1:
            raise SlideError(
                f"{name} is a stack of {stated[1]} pictures from ImageJ, and which one to take is not known",
                "Export one of them (Image > Duplicate, one slice), in RGB",
            )


def check_pictures(name: str, pages: Sequence[TiffPage]) -> None:
    """Refuse a TIFF of no scanner's with several color pictures of the same size: planes, or sections, and none of them chosen.

    Raises
    ------
    SlideError : how many there are, and what to export.
    """
    page = main_page(pages)
    same = sum(other.size == page.size and not other.reduced for other in pages)
    if same > 1:
        raise SlideError(
            f"{name} holds {same} pictures of the same size (a z-stack, or several sections), and which one to take is not known",
            "Export the one that is meant to a file of its own",
        )


class OmeImage:
    """What OME-XML says of one picture: size (w, h), channels, planes, its name and "label" or "macro" where it is one."""

    def __init__(self, name: str, pixels: str) -> None:
        self.name = name
        self.attributes = dict(re.findall(r'(\w+)\s*=\s*"([^"]{0,200})"', html.unescape(pixels[:_TAG])))
        found = re.search(r"\b(label|macro|overview|thumbnail|barcode)\b", name.lower())
        self.glass = found[1] if found else ""
        self.size = (self._count("SizeX"), self._count("SizeY"))
        self.channels = self._count("SizeC")
        self.planes = self._count("SizeZ") * self._count("SizeT")

    def _count(self, name: str) -> int:
        text = self.attributes.get(name, "1")
        return int(text) if text.isdecimal() and len(text) < 12 else 1


def ome_images(text: str) -> tuple[OmeImage, ...]:
    """Return the pictures that OME-XML lists, at most 1000; none for another text."""
    return _ome_images(text) if "OME" in text[:2000] else ()


@functools.lru_cache(maxsize=2)  # asked several times while a file is opened
def _ome_images(text: str) -> tuple[OmeImage, ...]:
    found = []
    for match in _IMAGE.finditer(text):
        pixels = _PIXELS.search(text, match.end())
        if pixels is None or pixels[1] is None:
            continue
        name = re.search(r'\bName\s*=\s*"([^"]*)"', match[1][:_TAG])
        found.append(OmeImage(html.unescape(name[1]) if name else "", pixels[1]))
        if len(found) == 1000:
            break
    return tuple(found)


def compression_name(number: int) -> str:
    """Return how pixels are compressed, in words that follow "stored", or by its number."""
    name = _COMPRESSIONS.get(number, f"compression number {number}")
    return name if name.startswith(("with", "in ")) else f"in {name}"
