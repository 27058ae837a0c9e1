"""Formats that are not read, by their ending or their first bytes, with what to export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_survpgc.core.errors import SlideError

_BEYOND = "as SVS, DICOM or pyramidal OME-TIFF (8-bit RGB)"


@dataclass(frozen=True)
class NotRead:
    """A format of slides or microscope pictures that is not read.

    Attributes
    ----------
    name : of the format and who writes it.   suffixes : lower case.   export : what to do instead.
    scanner : written by scanners of slides alone, not by microscopes that other plugins may read.
    """

    name: str
    suffixes: tuple[str, ...]
    export: str
    scanner: bool = True


_BIO_FORMATS = "bfconvert (Bio-Formats) or QuPath"
NOT_READ = (
    NotRead("Olympus/Evident VSI", (".vsi", ".ets"), f"Export it with OlyVIA, {_BIO_FORMATS} {_BEYOND}"),
    NotRead("Philips iSyntax", (".isyntax", ".i2syntax"), f"Export it from Philips IMS or with isyntax2raw and raw2ometiff {_BEYOND}"),
    NotRead("SQRAY SDPC", (".sdpc", ".dyqx"), f"Export it with the scanner's viewer {_BEYOND}"),
    NotRead("KFBIO KFB", (".kfb", ".kfbf"), f"Export it with K-Viewer {_BEYOND}"),
    NotRead("TRON", (".tron",), f"Export it with the scanner's viewer {_BEYOND}"),
    NotRead("Motic MDS", (".mds", ".mdsx"), f"Export it with Motic DSAssistant {_BEYOND}"),
    NotRead("Unic TMAP", (".tmap",), f"Export it with the scanner's viewer {_BEYOND}"),
    NotRead("Hamamatsu NDPIS (a list of fluorescence channels)", (".ndpis",), "Open the .ndpi file of the brightfield (H&E) scan"),
    NotRead("Aperio AFI (a list of fluorescence channels)", (".afi",), "Open the .svs file of the brightfield (H&E) scan"),
    NotRead("Leica LIF", (".lif", ".xlef", ".lof"), f"Export it with LAS X, {_BIO_FORMATS} {_BEYOND}", scanner=False),
    NotRead("Nikon ND2", (".nd2",), f"Export it with NIS-Elements, {_BIO_FORMATS} {_BEYOND}", scanner=False),
    NotRead("Zeiss ZVI", (".zvi",), f"Export it with ZEN, {_BIO_FORMATS} {_BEYOND}", scanner=False),
    NotRead("Olympus OIR/OIB", (".oir", ".oib", ".oif"), f"Export it with {_BIO_FORMATS} {_BEYOND}", scanner=False),
    NotRead("a bare JPEG 2000", (".jp2", ".j2k", ".jpx"), f"Export it with {_BIO_FORMATS} {_BEYOND}", scanner=False),
    NotRead("OME-Zarr", (".zarr",), f"Export it with raw2ometiff or QuPath {_BEYOND}", scanner=False),
)  # fmt: skip
NOT_READ_SUFFIXES = tuple(suffix for each in NOT_READ for suffix in each.suffixes)
SCANNERS_NOT_READ = tuple(suffix for each in NOT_READ if each.scanner for suffix in each.suffixes)
_BY_SUFFIX = {suffix: each for each in NOT_READ for suffix in each.suffixes}
_SIGNATURES = (
    (0, b'<DataObject ObjectType="DPUfsImport"', ".isyntax"),
    (8, b"\x18\0IS", ".vsi"),  # a TIFF of Olympus Soft Imaging that is an index
    (0, b"KFB\0", ".kfb"),
    (0, b"SIS\0", ".ets"),
)


def refuse_not_read(path: Path) -> None:
    """Raise a SlideError that says what to do for a file or folder of a format that is not read; pass all others."""
    suffix = path.suffix.lower()
    found = _BY_SUFFIX.get(suffix)
    if found is None and path.is_file():
        with path.open("rb") as stream:
            head = stream.read(256)
        suffix = next((s for at, mark, s in _SIGNATURES if head[at:].startswith(mark)), "")
        found = _BY_SUFFIX.get(suffix)
    elif found is None and path.is_dir():
        found = _BY_SUFFIX[".vsi"] if _is_folder_of_vsi(path) else None
    if found is None:
        return
    problem = f"{path.name} is {found.name}, a format that is not read"
    if suffix == ".vsi":
        folder = path.with_name(f"_{path.stem}_")
        there = folder.is_dir() and any(folder.glob("*/*.ets"))
        if there:
            problem += (
                f": its pixels lie in {folder.name}, and what the file itself shows is a preview or the label"
            )
        else:
            problem += (
                f"; and the folder {folder.name} (stack1/frame_t.ets) with its pixels is missing beside it: what the file itself"
                " shows is a preview or the label, not the slide"
            )
            raise SlideError(problem, f"Copy that folder next to it, then e{found.export[1:]}")
    raise SlideError(problem, found.export)


def _is_folder_of_vsi(path: Path) -> bool:
    return path.name.startswith("_") and path.name.endswith("_") and any(path.glob("stack*/*.ets"))
