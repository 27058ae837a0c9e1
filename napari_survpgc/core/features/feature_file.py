"""Feature files: ours, CLAM's, TRIDENT's, STAMP's and plain tensors, all untrusted.

HDF5 with ``features`` (n, d) or (1, n, d) and ``coords`` (n, 2) level-0 px. Ours carries TRIDENT's attributes, so that
its tools read it, and a few exact ones (fractional patch side, mpp, fingerprints). STAMP's have ``feats`` and ``coords``
in µm with attributes ``unit``, ``tile_size_um``, ``tile_size_px``, ``extractor``; CLAM's geometry is in a file apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from napari_survpgc import __version__
from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.hdf5 import new_hdf5, open_hdf5, readable, unreachable
from napari_survpgc.core.types import PatchFeatures, PatchGrid, SlideInfo

from .attributes import as_text, encoder_of, first_number, geometry_attributes
from .failed import FAILED, check_share

_MAX_BYTES = 32 << 30
_TENSORS = (".pt", ".pth")
_FEATURES = ("features", "feats")
_REACH = "Check its drive, and that you may read it"
_AGAIN = "Make it again with 'survpgc features'"


def write_features(
    features: PatchFeatures, path: Path, *, extra: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Write a feature file.

    Parameters
    ----------
    extra : further attributes of the datasets "features" and "coords"; they replace ours of the same name.

    Raises
    ------
    OutputError : disk full, no permission.
    """
    grid = features.grid
    with new_hdf5(path) as file:
        n = len(grid)
        rows = file.create_dataset(
            "features", data=features.features, chunks=(min(256, n), features.features.shape[1])
        )
        rows.attrs["name"] = readable(path.stem)
        rows.attrs["encoder"] = features.encoder or "None"
        coords = file.create_dataset("coords", data=grid.coords.astype(np.int32))
        file.create_dataset("failed_coords", data=features.failed_coords.astype(np.int32).reshape(-1, 2))
        for key, value in geometry_attributes(features, readable(path.stem)).items():
            coords.attrs[key] = value
        for dataset, more in (extra or {}).items():
            file[dataset].attrs.update({key: readable(value) for key, value in more.items()})
        file.attrs["survpgc_version"] = __version__
        file.attrs["encoder"] = features.encoder or "None"
        file.attrs["mpp"] = grid.mpp
        file.attrs["patch_px"] = grid.patch_px
        file.attrs["patch_px_level0"] = grid.patch_px_level0
        if features.slide_fingerprint:
            file.attrs["slide_fingerprint"] = features.slide_fingerprint
        for key, value in features.attributes.items():
            file.attrs[key] = readable(value) if isinstance(value, str) else value
        file.attrs[FAILED] = len(features.failed_coords)


def read_features(
    path: Path,
    *,
    coords: Path | None = None,
    geometry: PatchGrid | None = None,
    slide_mpp: float | None = None,
) -> PatchFeatures:
    """Read a feature file as it is.

    Parameters
    ----------
    path : .h5 of ours, CLAM, TRIDENT or STAMP, or a .pt tensor.
    coords : HDF5 with ``coords`` (CLAM: patches/<slide>.h5), for a .pt file or for the patch geometry that CLAM's
        feature files lack; where it is not given it is looked for beside ``path`` (:func:`find_coords`).
    slide_mpp : µm a level-0 px of the slide, for coordinates in µm (STAMP).
    geometry : patch size and mpp to assume where no file says; nothing is guessed.

    Returns
    -------
    PatchFeatures in float32; ``grid.patch_px_level0`` is NaN when nothing says how large a patch is.

    Raises
    ------
    FeatureError : missing, damaged, not a feature file, counts that differ, values that are not finite.
    """
    if not path.is_file():
        raise FeatureError(
            f"There is no feature file {path}", "Check the name, or leave it out to make the features"
        )
    tensor = path.suffix.lower() in _TENSORS
    rows, attributes = _rows(path)
    if coords is None and (tensor or not _has_geometry(path)):
        coords = find_coords(path)
    if tensor and coords is None:
        raise FeatureError(
            f"{path.name} holds features without coordinates",
            "Give the file with the coordinates as well",
        )
    if coords is not None:
        points, more = _read_h5(coords, "coords")
        attributes = {**more, **attributes}
    if coords is None or (not tensor and _has_coords(path)):
        # A file's own coordinates belong to its rows, whatever a file beside it says of their size.
        points, more = _read_h5(path, "coords")
        attributes = {**attributes, **more}
    points = points[0] if points.ndim == 3 and points.shape[0] == 1 else points
    name = path.name
    if points.ndim != 2 or points.shape[1] != 2 or not np.issubdtype(points.dtype, np.number):
        raise FeatureError(f"The coordinates in {name} are not pairs of numbers", _AGAIN)
    if len(rows) != len(points):
        raise FeatureError(f"{name} has {len(rows)} feature rows but {len(points)} coordinates", _AGAIN)
    points, attributes = _in_pixels(points, attributes, slide_mpp, name)
    if not np.isfinite(points).all() or (points < 0).any() or (points > 2**31 - 1).any():
        raise FeatureError(f"{name} has coordinates that cannot be pixels of a slide", _AGAIN)
    failed = np.zeros((0, 2), np.int32)
    if coords is None and "failed_coords" in attributes:
        failed = attributes.pop("failed_coords")
    grid = _grid(points.astype(np.int32), attributes, geometry)
    encoder = encoder_of(attributes)
    extra = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in attributes.items()
        if isinstance(value, (str, int, float, np.integer, np.floating))
    }
    rows = rows.astype(np.float32, copy=False)
    return PatchFeatures(rows, grid, encoder, failed, as_text(attributes.get("slide_fingerprint")), extra)


def read_rows(path: Path, *, known: bool = False) -> NDArray[np.floating]:
    """Return the (n_p, d) features alone, in the precision of the file, for training, which needs no coordinates.

    Parameters
    ----------
    known : the file was read before, and was found to hold numbers only: looking again takes longer than reading.

    Raises
    ------
    FeatureError : as :func:`read_features`.
    """
    return _rows(path, known)[0]


def find_coords(path: Path) -> Path | None:
    """Return the file with the coordinates that CLAM and TRIDENT keep apart from a feature file, if it is there.

    CLAM: ``pt_files/<slide>.pt`` beside ``h5_files/<slide>.h5`` (coordinates without patch size) and
    ``patches/<slide>.h5``; TRIDENT: ``patches/<slide>_patches.h5``. The patch size decides which is better.
    """
    above = (path.parent, *tuple(path.parents)[1:3])
    names = (f"{path.stem}.h5", f"{path.stem}_patches.h5")
    candidates = [folder / "patches" / name for folder in above for name in names]
    candidates.append(path.parent.parent / "h5_files" / f"{path.stem}.h5")
    return next((found for found in candidates if found != path and found.is_file()), None)


def _rows(path: Path, known: bool = False) -> tuple[NDArray[np.floating], dict[str, Any]]:
    """Read the features as they are kept, checked, with the attributes beside them."""
    attributes: dict[str, Any] = {}
    if path.suffix.lower() in _TENSORS:
        rows = _read_tensor(path)
    else:
        rows, attributes = _read_h5(path, *_FEATURES)
    rows = rows[0] if rows.ndim == 3 and rows.shape[0] == 1 else rows
    name = path.name
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating):
        raise FeatureError(f"The features in {name} are not a table of numbers (n patches x width)", _AGAIN)
    if len(rows) == 0 or rows.shape[1] == 0:
        raise FeatureError(
            f"{name} holds no patch", "Check the tissue of the slide, then make the features again"
        )
    bad = np.zeros(0, bool) if known else ~np.isfinite(rows).all(1)
    if bad.any():
        raise FeatureError(
            f"{int(bad.sum())} of {len(rows)} feature rows in {name} are not numbers (NaN)", _AGAIN
        )
    return rows, attributes


def _has_coords(path: Path) -> bool:
    with open_hdf5(path) as file:
        return "coords" in file


def _has_geometry(path: Path) -> bool:
    """Whether an HDF5 file says how large its patches are; a damaged one is told of by those who read it."""
    try:
        with open_hdf5(path) as file:
            if "coords" not in file:
                return False
            attributes = {*file.attrs, *file["coords"].attrs}
    except (OSError, RuntimeError, KeyError, ValueError):
        return True
    return bool(attributes & {"patch_px_level0", "patch_size_level0", "patch_size", "tile_size_um"})


def _in_pixels(
    points: NDArray[Any], attributes: dict[str, Any], slide_mpp: float | None, name: str
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return coordinates and patch size of STAMP's files in level-0 px; other files as they are."""
    if as_text(attributes.get("unit")) != "um":
        if "stamp_version" in attributes or ("extractor" in attributes and "tile_size_um" in attributes):
            raise FeatureError(
                f"{name} was made by an old version of STAMP and does not say what its coordinates mean",
                "Make it again with STAMP 2, or with 'survpgc features'",
            )
        return points, attributes
    if slide_mpp is None or not math.isfinite(slide_mpp):
        raise FeatureError(
            f"The coordinates in {name} are in µm, and the pixel size of its slide is not known",
            "Give the pixel size of the slide (--mpp-override, or the field Pixel size)",
        )
    side_um, side_px = (
        first_number(attributes.get("tile_size_um")),
        first_number(attributes.get("tile_size_px")),
    )
    found = {"patch_px_level0": side_um / slide_mpp, "patch_px": side_px, "mpp": side_um / side_px}
    return np.rint(np.asarray(points, np.float64) / slide_mpp), {**attributes, **found}


@dataclass(frozen=True)
class FeatureSummary:
    """What the header of a feature file says; no feature is read.

    Attributes
    ----------
    patches, width : of the features.   encoder : None when the file does not say.   patch_px : 0, mpp : NaN then.
    failed : patches that could not be read, as far as the file says.
    """

    path: Path
    patches: int
    width: int
    encoder: str | None
    patch_px: int
    mpp: float
    failed: int = 0

    def check_finished(self) -> None:
        """Raise FeatureError where more than MAX_FAILED of the patches could not be read."""
        check_share(self.failed, self.patches, self.path.name)


def summarize_features(path: Path) -> FeatureSummary:
    """Look at a feature file; of an HDF5 file no features are read.

    Raises
    ------
    FeatureError : damaged or truncated, not a feature file, or counts that differ.
    """
    if path.suffix.lower() in _TENSORS:
        shape = _rows(path)[0].shape  # a pickle has no header
        return FeatureSummary(path, shape[0], shape[1], None, 0, math.nan)
    rows, own = _read_h5(path, *_FEATURES, header=True)
    points, attributes = _read_h5(path, "coords", header=True)
    attributes = {**own, **attributes}
    shape, coords = (s[1:] if len(s) == 3 and s[0] == 1 else s for s in (rows, points))
    if len(shape) != 2 or 0 in shape:
        raise FeatureError(f"The features in {path.name} are not a table (n patches x width)", _AGAIN)
    if len(coords) != 2 or coords[0] != shape[0]:
        raise FeatureError(
            f"{path.name} has {shape[0]} feature rows but coordinates of shape {coords}", _AGAIN
        )
    grid = _grid(np.zeros((0, 2), np.int32), attributes, None)
    side_um, side_px = (
        first_number(attributes.get("tile_size_um")),
        first_number(attributes.get("tile_size_px")),
    )
    patch_px = grid.patch_px or (int(side_px) if math.isfinite(side_px) else 0)
    mpp = grid.mpp if math.isfinite(grid.mpp) else side_um / side_px
    failed = first_number(attributes.get(FAILED))
    return FeatureSummary(
        path,
        shape[0],
        shape[1],
        encoder_of(attributes),
        patch_px,
        mpp,
        int(failed) if math.isfinite(failed) else 0,
    )


def check_within(features: PatchFeatures, info: SlideInfo) -> None:
    """Raise FeatureError when a patch begins outside the slide: then the features belong to another one."""
    width, height = info.size
    x, y = features.grid.coords[:, 0], features.grid.coords[:, 1]
    outside = int(((x < 0) | (y < 0) | (x >= width) | (y >= height)).sum())
    if outside:
        raise FeatureError(
            f"{outside} of {len(x)} patches of the feature file lie outside {info.path.name} ({width} x {height} px)",
            "Give the features of this slide, or leave them out to make them",
        )


def with_geometry(features: PatchFeatures, patch_px_level0: float) -> PatchFeatures:
    """Return the features with the patch side (level-0 px) that the user gave."""
    return replace(features, grid=replace(features.grid, patch_px_level0=float(patch_px_level0)))


def _grid(points: NDArray[np.int32], attributes: Mapping[str, Any], geometry: PatchGrid | None) -> PatchGrid:
    patch_px = first_number(attributes.get("patch_px"), attributes.get("patch_size"))
    level0 = first_number(attributes.get("patch_px_level0"), attributes.get("patch_size_level0"))
    if not math.isfinite(level0) and math.isfinite(patch_px):
        # CLAM: patches of patch_size px at a level with this downsample.
        downsample = attributes.get("downsample")
        if downsample is not None:
            level0 = patch_px * float(np.ravel(downsample)[0])
    mpp = first_number(attributes.get("mpp"))
    if geometry is not None:
        patch_px = patch_px if math.isfinite(patch_px) else geometry.patch_px
        level0 = level0 if math.isfinite(level0) else geometry.patch_px_level0
        mpp = mpp if math.isfinite(mpp) else geometry.mpp
    size = first_number(attributes.get("level0_width")), first_number(attributes.get("level0_height"))
    slide_size = (int(size[0]), int(size[1])) if all(map(math.isfinite, size)) else None
    return PatchGrid(points, int(patch_px) if math.isfinite(patch_px) else 0, mpp, level0, slide_size)


def _read_h5(path: Path, *names: str, header: bool = False) -> tuple[Any, dict[str, Any]]:
    """Read the first of ``names`` that is there (``header``: its shape) with its own and the file's attributes.

    Nothing outside the file is followed.
    """
    if not path.is_file():
        raise FeatureError(f"There is no file {path}", "Check the name and the folder")
    try:
        with open_hdf5(path) as file:
            attributes = dict(file.attrs)
            name = next((n for n in names if n in file), names[0])
            data, own = _dataset(file, name, path, header)
            attributes.update(own)
            if name == "coords":
                if "failed_coords" in file:
                    attributes["failed_coords"] = _dataset(file, "failed_coords", path)[0].astype(np.int32)
                if "features" in file:
                    # TRIDENT notes the encoder on the features.
                    encoder = as_text(file["features"].attrs.get("encoder"))
                    if encoder:
                        attributes.setdefault("encoder", encoder)
            return data, attributes
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        if reason := unreachable(error):
            raise FeatureError(f"{path} cannot be read ({reason})", _REACH) from error
        raise FeatureError(f"{path.name} is not an HDF5 file or is damaged", _AGAIN) from error


def _dataset(file: h5py.File, name: str, path: Path, header: bool = False) -> tuple[Any, dict[str, Any]]:
    link = file.get(name, getlink=True) if name in file else None
    if link is None:
        raise FeatureError(
            f"{path.name} has no dataset '{name}'", "Give a feature file of survpgc, CLAM or TRIDENT"
        )
    dataset = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise FeatureError(f"The dataset '{name}' of {path.name} points to another file", _AGAIN)
    if math.prod(dataset.shape) * dataset.dtype.itemsize > _MAX_BYTES:
        raise FeatureError(f"The dataset '{name}' of {path.name} claims an impossible size", _AGAIN)
    return (dataset.shape if header else dataset[()]), dict(dataset.attrs)


def _read_tensor(path: Path) -> NDArray[Any]:
    import torch

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        tensor = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(tensor, dict) and isinstance(tensor.get("features"), torch.Tensor):
            tensor = tensor["features"]
        if not isinstance(tensor, torch.Tensor):
            raise ValueError("no tensor")
        return tensor.float().numpy()
    except Exception as error:  # torch raises anything from UnpicklingError to AttributeError on a bad file
        raise FeatureError(
            f"{path.name} is not a tensor file, or holds more than a tensor", _AGAIN
        ) from error
