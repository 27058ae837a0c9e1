"""What is kept between sessions on this machine: finished features, pixel sizes that a person has given, places.

Nothing here leaves the machine, and slides are named by their fingerprint only. SURVPGC_CACHE names another folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import platformdirs

from .errors import SurvPGCError
from .files import read_json, write_json
from .types import MPP_RANGE, SlideInfo, TissueMask


def user_folder() -> Path:
    """Return the folder (it may not exist yet)."""
    given = os.environ.get("SURVPGC_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("napari-survpgc", appauthor=False))


def features_file(info: SlideInfo, encoder: str, tissue: TissueMask | None) -> Path:
    """Return where the features of a slide are kept; other outlines or another pixel size are other features."""
    facts = [info.fingerprint, encoder, f"{info.mpp}"]
    if tissue is not None:
        facts += [
            hashlib.sha256(
                b"".join(ring.tobytes() for ring in (polygon.exterior, *polygon.holes))
            ).hexdigest()
            for polygon in tissue.polygons
        ]
    name = hashlib.sha256("|".join(facts).encode()).hexdigest()[:24]
    return user_folder() / "features" / f"{name}.h5"


def remembered_mpp(fingerprint: str) -> float | None:
    """Return the pixel size that a person gave for this slide before."""
    value = _pixel_sizes().get(fingerprint)
    return value if value is not None and MPP_RANGE[0] <= value <= MPP_RANGE[1] else None


def remember_mpp(fingerprint: str, mpp: float) -> None:
    """Keep a pixel size for the next time; OutputError when the folder cannot be written."""
    write_json(_pixel_sizes_file(), _pixel_sizes() | {fingerprint: float(mpp)})


def remember_place(key: str, place: Path) -> None:
    """Keep where a slide, its features or a model lies, for cases that say no more than its name.

    Parameters
    ----------
    key : a fingerprint, or what is made of one.

    Raises
    ------
    OutputError : the folder cannot be written.
    """
    write_json(_place_file(key), str(place))


def remembered_place(key: str) -> Path | None:
    """Return where it was, see :func:`remember_place`; it may be gone."""
    try:
        said = read_json(_place_file(key), 1 << 14, SurvPGCError, "")
    except SurvPGCError:
        return None
    return Path(said) if isinstance(said, str) and "\0" not in said else None


def _place_file(key: str) -> Path:
    return user_folder() / "places" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _pixel_sizes_file() -> Path:
    return user_folder() / "pixel_sizes.json"


def _pixel_sizes() -> dict[str, float]:
    try:
        document = read_json(_pixel_sizes_file(), 16 << 20, SurvPGCError, "")
    except SurvPGCError:
        return {}  # none yet, or spoilt: the person is asked again
    if not isinstance(document, dict):
        return {}
    return {
        key: float(value)
        for key, value in document.items()
        if re.fullmatch(r"[0-9a-f]{16,64}", key) and isinstance(value, (int, float))
    }
