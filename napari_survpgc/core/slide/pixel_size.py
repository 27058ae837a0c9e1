"""The pixel size that a file states, in whatever unit; never a guess."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .pixel_kinds import OmeImage, main_page, ome_images
from .tiff import TiffPage

_MAX_MPP, _MIN_MPP = 20.0, 0.05

# OME 2016-06, enumeration UnitsLength, and the words that ImageJ and others write; µm of each.
_SI = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "": 0, "d": -1, "c": -2, "m": -3,
    "µ": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}  # fmt: skip
MICROMETERS: dict[str, float] = {f"{prefix}m": 10.0 ** (power + 6) for prefix, power in _SI.items()}
MICROMETERS |= {
    "um": 1.0, "Å": 1e-4, "A": 1e-4, "thou": 25.4, "mil": 25.4, "li": 25400 / 12, "in": 25400.0, '"': 25400.0, "ft": 304800.0,
    "yd": 914400.0, "mi": 1609344e3, "pt": 25400 / 72, "ua": 1.495978707e17, "ly": 9.4607304725808e21, "pc": 3.0856775814913673e22,
}  # fmt: skip
_WORDS = {
    "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0, "nanometer": 1e-3, "nanometre": 1e-3, "millimeter": 1e3,
    "millimetre": 1e3, "centimeter": 1e4, "centimetre": 1e4, "meter": 1e6, "metre": 1e6, "inch": 25400.0, "inche": 25400.0,
    "angstrom": 1e-4, "ångström": 1e-4, "point": 25400 / 72,
}  # fmt: skip
_TIFF_UNITS = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}


def micrometers(unit: str) -> float | None:
    """Return how many µm a unit of length is, None for a pixel or an unknown one."""
    unit = unit.strip().replace("\u03bc", "µ").replace("\u212b", "Å").replace("A\u030a", "Å")
    return MICROMETERS.get(unit) or _WORDS.get(unit.lower().rstrip("s")) or _WORDS.get(unit.lower())


def pixel_size(
    properties: Mapping[str, str], size: tuple[int, int], pages: Sequence[TiffPage] = ()
) -> tuple[float, float] | None:
    """Return (mpp_x, mpp_y) that the file states, or None; resolution tags of 72 dpi and the like do not count.

    Parameters
    ----------
    properties : of the library that reads the slide.   size : of level 0, px.   pages : of a TIFF.
    """
    text = properties.get("tiff.ImageDescription", "") or properties.get("openslide.comment", "")
    if pages and not text:
        text = pages[0].text
    images = ome_images(text)
    fitting = [image for image in images if image.size == size] or images[:1]
    if fitting:
        found = _of_ome(fitting[0])
        if found:  # OME-XML has the unit; the tags beside it are often those of a screen
            return found
    if text.startswith("ImageJ=") and re.search(r"^unit=\S", text, re.MULTILINE):
        return _of_imagej(text, pages)
    for x_name, y_name in (("openslide.mpp-x", "openslide.mpp-y"), ("tiffslide.mpp-x", "tiffslide.mpp-y")):
        found = _plausible(_number(properties.get(x_name)), _number(properties.get(y_name)))
        if found:
            return found
    if not pages:
        return None
    page = main_page(pages)
    scale = _TIFF_UNITS.get(page.unit, 0.0)
    return _plausible(*(scale / value if value else 0.0 for value in page.resolution))


def _of_ome(image: OmeImage) -> tuple[float, float] | None:
    sizes = []
    for axis in "XY":
        scale = micrometers(image.attributes.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append((scale or 0.0) * _number(image.attributes.get(f"PhysicalSize{axis}")))
    return _plausible(*sizes)


def _of_imagej(text: str, pages: Sequence[TiffPage]) -> tuple[float, float] | None:
    """ImageJ's resolution is px per its own unit, whatever the tag of the unit says."""
    stated = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    unit = stated.get("unit", "").strip()
    unit = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda m: chr(int(m[1], 16)), unit)  # written as \u00B5m
    scale_x = micrometers(unit)
    if scale_x is None or not pages:
        return None
    scale_y = micrometers(stated.get("yunit", unit)) or scale_x
    x, y = main_page(pages).resolution
    return _plausible(scale_x / x if x else 0.0, scale_y / y if y else 0.0)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _plausible(x: float, y: float) -> tuple[float, float] | None:
    if not (_MIN_MPP <= x <= _MAX_MPP and _MIN_MPP <= y <= _MAX_MPP):
        return None
    return x, y
