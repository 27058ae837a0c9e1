"""A case as one file (``.survpgc``): slide reference, record, expression, tissue, results; reopened without computing.

HDF5 with a JSON document; nothing in it is unpickled, no link out of it followed. The slide is not copied: it is named
by fingerprint and a path relative to the case, see :mod:`.case_places`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core import documents, hdf5_limits
from napari_survpgc.core.bundle.answer import Answer, answer_of
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.errors import FeatureError, SlideError, SurvPGCError
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.hdf5 import new_hdf5, open_hdf5, unreachable
from napari_survpgc.core.hdf5_limits import H5_ERRORS
from napari_survpgc.core.types import (
    Attribution,
    ClinicalRecord,
    ExpressionProfile,
    PatchFeatures,
    PatchGrid,
    Prediction,
    SlidePart,
    TissueMask,
)

from .case_parts import read_profile, read_tissue, write_profile, write_tissue
from .case_places import place_exists, place_of, said_place
from .links import leads_out

FORMAT = 1
SUFFIX = ".survpgc"
CASE_FILE = f"case{SUFFIX}"
_MAX_DOCUMENT = 16 << 20
_MAX_PATCHES = 5_000_000
_MAX_ROWS = 5_000
_MAX_ARRAY = 800_000_000  # bytes of one part
_MAX_ROWS_BYTES = 32 << 30  # of embedded features, which the file itself then has, too
_AGAIN = "Open the slide and press Run to make it again"


class CaseFileError(SurvPGCError):
    """A case file is damaged or not one."""


class MissingSlideError(SlideError):
    """The slide of a case is not where it should be: the person may know."""


@dataclass(frozen=True)
class SavedCase:
    """What a case file holds.

    Attributes
    ----------
    slide : its place, found or not; ``fingerprint`` tells whether a file is that slide.   mpp : given by a person, or None.
    bundle : folder of the model, found or not, and ``bundle_fingerprint``.
    features : embedded, or read from ``features_paths``; None when such a file is gone (no what-if then). Of all slides
        of the patient where the prediction is theirs together; ``slide`` is the one that is shown.
    prediction : without its state.   settings : how it was looked at (map, colors ...).
    """

    slide: Path | None
    fingerprint: str
    mpp: float | None
    record: ClinicalRecord
    profile: ExpressionProfile | None
    bundle: Path
    bundle_fingerprint: str
    tissue: TissueMask | None
    features: PatchFeatures | None
    prediction: Prediction
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def save_case(
    case: SavedCase, path: Path, *, features_paths: Sequence[Path] = (), folder: Path | None = None
) -> None:
    """Write a case file.

    Parameters
    ----------
    features_paths : feature files beside it, one a slide, referred to instead of copying the features into the case file.
    folder : where the file will lie, when that is not where it is written; those names are relative to it.

    Raises
    ------
    OutputError : disk full, no permission; an earlier file is then untouched.
    """
    with new_hdf5(path) as file:
        _write(case, file, folder or path.parent, features_paths)


def load_case(path: Path, *, features: bool = True) -> SavedCase:
    """Read a case file.

    Parameters
    ----------
    features : False leaves the patch features unread, for those who only look (no what-if then).

    Raises
    ------
    CaseFileError : missing, damaged, too new, or not a case file.
    """
    try:
        with open_hdf5(path) as file:
            return _read(file, path, features)
    except CaseFileError:
        raise
    except FileNotFoundError as error:
        raise CaseFileError(f"There is no file {path}", "Check the name and the folder") from error
    except (*H5_ERRORS, SurvPGCError) as error:
        if reason := unreachable(error):
            raise CaseFileError(
                f"{path} cannot be read ({reason})", "Check its drive and that you may read it"
            ) from error
        raise CaseFileError(f"{path.name} is not a readable case file", _AGAIN) from error


def find_case_slide(case: SavedCase, path: Path) -> Path:
    """Return where the slide of the case file ``path`` is: at its place, beside the case file, or where it was last.

    Raises
    ------
    MissingSlideError : it is at neither.
    """
    if case.slide is not None and place_exists(case.slide):
        return case.slide
    name = case.slide.name if case.slide is not None else "(unnamed)"
    raise MissingSlideError(
        f"The slide {name} of the case {path.name} is not at its place any more",
        "Put it beside the case file, or back where it was",
    )


# --- writing ------------------------------------------------------------------------------------------------

_ARRAYS = ("hazards", "survival", "fold_hazards", "fold_survival", "fold_risks", "bin_edges_months", "coords")


def _write(case: SavedCase, file: h5py.File, folder: Path, features_paths: Sequence[Path]) -> None:
    prediction = case.prediction
    path = folder / CASE_FILE  # where it will lie: places are said relative to it
    names = [said_place(p, path, _key(case.fingerprint, i)) for i, p in enumerate(features_paths)]
    document = {
        "format": FORMAT,
        "name": case.name,
        "slide": said_place(case.slide, path, case.fingerprint) if case.slide else None,
        "fingerprint": case.fingerprint,
        "mpp": case.mpp,
        "record": dataclasses.asdict(case.record),
        "bundle": said_place(case.bundle, path, case.bundle_fingerprint),
        "bundle_fingerprint": case.bundle_fingerprint,
        "features": names[0] if len(names) == 1 else names or None,
        "slides": [_part_document(part) for part in case.features.parts] if case.features else [],
        "settings": dict(case.settings),
        "prediction": {
            "risk": prediction.risk,
            "risk_percentile": prediction.risk_percentile,
            "risk_group": prediction.risk_group,
            "patch_px_level0": prediction.patch_px_level0,
            "token_names": {key: list(names) for key, names in prediction.token_names.items()},
            "attribution": dataclasses.asdict(prediction.attribution) if prediction.attribution else None,
            "provenance": prediction.provenance,
            "warnings": list(prediction.warnings),
            "answer": documents.unstructure(answer) if (answer := answer_of(prediction)) else None,
        },
    }
    file.attrs["survpgc_case"] = FORMAT
    file["document"] = json.dumps(document, allow_nan=False)
    results = file.create_group("prediction")
    for name in _ARRAYS:
        results[name] = getattr(prediction, name)
    for name, matrix in prediction.attention.items():
        results.create_dataset(f"attention/{name}", data=matrix, compression="lzf", shuffle=True)
    write_profile(case.profile, file)
    write_tissue(case.tissue, file)
    if case.features is not None and not features_paths:
        _write_features(case.features, file.create_group("features"))


def _key(fingerprint: str, number: int) -> str:
    """Return the key of the feature file of a slide."""
    return f"{fingerprint} features {number}"


def _part_document(part: SlidePart) -> dict[str, Any]:
    grid = part.grid
    return {
        "name": part.name,
        "fingerprint": part.fingerprint,
        "n_patches": len(grid),
        "patch_px": grid.patch_px,
        "mpp": grid.mpp if np.isfinite(grid.mpp) else None,
        "patch_px_level0": grid.patch_px_level0,
        "slide_size": grid.slide_size,
    }


def _write_features(features: PatchFeatures, group: h5py.Group) -> None:
    grid = features.grid
    group.create_dataset("rows", data=features.features, compression="lzf", shuffle=True)
    group["coords"] = grid.coords
    group["failed_coords"] = features.failed_coords
    group.attrs.update(
        patch_px=grid.patch_px,
        mpp=grid.mpp,
        patch_px_level0=grid.patch_px_level0,
        slide_size=grid.slide_size or (0, 0),
        encoder=features.encoder or "",
        fingerprint=features.slide_fingerprint or "",
    )


# --- reading ------------------------------------------------------------------------------------------------


def _read(file: h5py.File, path: Path, with_features: bool) -> SavedCase:
    if "survpgc_case" not in file.attrs:
        raise CaseFileError(f"{path.name} is not a case file", "Choose a file saved with Case > Save")
    if int(file.attrs["survpgc_case"]) > FORMAT:
        raise CaseFileError(f"{path.name} was written by a newer version", "Update napari-survpgc")
    if leads_out(file):
        raise CaseFileError(f"{path.name} points to other files and was not opened", _AGAIN)
    document = json.loads(hdf5_limits.text(file, "document", _MAX_DOCUMENT))
    features = _features(file, document, path) if with_features else None
    slide, fingerprint = document["slide"], str(document["fingerprint"])
    model = str(document["bundle_fingerprint"])
    return SavedCase(
        slide=place_of(str(slide), path, fingerprint) if slide else None,
        fingerprint=fingerprint,
        mpp=None if document["mpp"] is None else float(document["mpp"]),
        record=parse_record(document["record"]),
        profile=read_profile(file),
        bundle=place_of(str(document["bundle"]), path, model),
        bundle_fingerprint=model,
        tissue=read_tissue(file),
        features=features,
        prediction=_prediction(hdf5_limits.subgroup(file, "prediction"), document["prediction"], path),
        name=str(document["name"]),
        settings=dict(document["settings"]),
    )


def _array(group: h5py.Group, name: str, *, most_bytes: int = _MAX_ARRAY) -> NDArray[Any]:
    return hdf5_limits.array(group, name, most_bytes)


def _prediction(group: h5py.Group, document: Mapping[str, Any], path: Path) -> Prediction:
    arrays = {name: _array(group, name) for name in _ARRAYS}
    coords = arrays.pop("coords").astype(np.int32)
    n, bins, folds = len(coords), len(arrays["hazards"]), len(arrays["fold_risks"])
    attention = {}
    if "attention" in group:
        matrices = hdf5_limits.subgroup(group, "attention")
        attention = {str(k): _array(matrices, k).astype(np.float32, copy=False) for k in matrices}
    names = {str(k): tuple(str(x) for x in v) for k, v in document["token_names"].items()}
    consistent = (
        coords.shape == (n, 2)
        and 0 < n <= _MAX_PATCHES
        and arrays["survival"].shape == (bins,)
        and arrays["bin_edges_months"].shape == (bins + 1,)
        and arrays["fold_survival"].shape == arrays["fold_hazards"].shape == (folds, bins)
        and set(attention) <= {"clinic", "genomic"}
        and set(names) == set(attention)
        and all(m.shape == (len(names[k]), n) and len(m) <= _MAX_ROWS for k, m in attention.items())
        and all(np.isfinite(a).all() for a in (*arrays.values(), *attention.values()))
    )
    if not consistent:
        raise CaseFileError(f"{path.name} is damaged: its parts do not fit together", _AGAIN)
    return Prediction(
        **{name: values.astype(np.float64) for name, values in arrays.items()},
        risk=float(document["risk"]),
        risk_percentile=float(document["risk_percentile"]),
        risk_group=str(document["risk_group"]),
        attention=attention,
        token_names=names,
        coords=coords,
        patch_px_level0=float(document["patch_px_level0"]),
        attribution=Attribution(**document["attribution"]) if document["attribution"] else None,
        provenance=document["provenance"],
        warnings=tuple(str(w) for w in document["warnings"]),
        # Not in files of 0.2.0 and before.
        answer=documents.structure(document["answer"], Answer) if document.get("answer") else None,
    )


def _parts(document: Mapping[str, Any], coords: NDArray[np.int32], path: Path) -> tuple[SlidePart, ...]:
    """Return the slides whose patches these are; () for one slide."""
    parts, start = [], 0
    for entry in document.get("slides", []):
        stop = start + int(entry["n_patches"])
        size = entry["slide_size"]
        grid = PatchGrid(
            coords[start:stop],
            int(entry["patch_px"]),
            float("nan") if entry["mpp"] is None else float(entry["mpp"]),
            float(entry["patch_px_level0"]),
            (int(size[0]), int(size[1])) if size else None,
        )
        parts.append(SlidePart(str(entry["name"]), grid, entry["fingerprint"]))
        start = stop
    if parts and start != len(coords):
        raise CaseFileError(f"{path.name} is damaged: its slides do not fit their features", _AGAIN)
    return tuple(parts)


def _features(file: h5py.File, document: Mapping[str, Any], path: Path) -> PatchFeatures | None:
    if document["features"] is not None:
        named = document["features"]
        said = [str(name) for name in (named if isinstance(named, list) else [named])]
        key = str(document["fingerprint"])
        places = [place_of(name, path, _key(key, i)) for i, name in enumerate(said)]
        try:
            bag = join_slides([read_features(place) for place in places], [place.name for place in places])
        except FeatureError:
            return None  # moved away: the results can be looked at, what-if asks for a new run
        return dataclasses.replace(bag, parts=_parts(document, bag.grid.coords, path))
    if "features" not in file:
        return None
    group = hdf5_limits.subgroup(file, "features")
    rows, coords = _array(group, "rows", most_bytes=_MAX_ROWS_BYTES), _array(group, "coords")
    if rows.ndim != 2 or coords.shape != (len(rows), 2):
        raise CaseFileError(f"{path.name} is damaged: its features do not fit together", _AGAIN)
    facts = group.attrs
    width, height = (int(v) for v in facts["slide_size"])
    grid = PatchGrid(
        coords.astype(np.int32),
        int(facts["patch_px"]),
        float(facts["mpp"]),
        float(facts["patch_px_level0"]),
        (width, height) if width else None,
    )
    failed = _array(group, "failed_coords").astype(np.int32)
    return PatchFeatures(
        rows,
        grid,
        str(facts["encoder"]) or None,
        failed,
        str(facts["fingerprint"]) or None,
        parts=_parts(document, grid.coords, path),
    )
