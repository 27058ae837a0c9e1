"""The endings of slide files, and the slide of an id in a folder."""

from __future__ import annotations

from pathlib import Path

SCANNER_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu")
"""Endings that only scanners write; whether another file is a slide, its content tells."""
READABLE_SUFFIXES = (*SCANNER_SUFFIXES, ".czi", ".tif", ".tiff", ".btf", ".dcm")
"""Endings that are offered for opening; napari.yaml and the README list the same."""
SLIDE_SUFFIXES = (*READABLE_SUFFIXES, ".zvi")
"""Endings that an id or a file in a folder of slides may bear; nothing here reads a ZVI."""


def find_slide(folder: Path, slide_id: str) -> Path | None:
    """Return the slide file of that id in a folder, whatever its format, or None."""
    if not folder.is_dir():
        return None
    stem = slide_id
    for suffix in SLIDE_SUFFIXES:
        stem = stem.removesuffix(suffix)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SLIDE_SUFFIXES and path.stem == stem:
            return path
    dicom = folder / stem
    return dicom if dicom.is_dir() else None
