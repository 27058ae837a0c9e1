"""Feature files: ours, CLAM's, TRIDENT's and plain tensors, all untrusted.

HDF5 with ``features`` (n, d) or (1, n, d) and ``coords`` (n, 2) level-0 px. Ours carries TRIDENT's attributes, so that
its tools read it, and a few exact ones (fractional patch side, mpp, fingerprints).
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

from .errors import FeatureError, writing
from .types import PatchFeatures, PatchGrid, SlideInfo

_MAX_BYTES = 32 << 30
_AGAIN = "Make it again with 'survpgc features'"


def write_features(features: PatchFeatures, path: Path) -> None:
    """Write a feature file under a temporary name, then rename it.

    Raises
    ------
    OutputError : disk full, no permission.
    """
    grid = features.grid
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.writing")
        try:
            with h5py.File(temporary, "w") as file:
                n = len(grid)
                rows = file.create_dataset(
                    "features", data=features.features, chunks=(min(256, n), features.features.shape[1])
                )
                rows.attrs["name"] = path.stem
                rows.attrs["encoder"] = features.encoder or "None"
                coords = file.create_dataset("coords", data=grid.coords.astype(np.int32))
                file.create_dataset(
                    "failed_coords", data=features.failed_coords.astype(np.int32).reshape(-1, 2)
                )
                for key, value in _geometry_attributes(features, path.stem).items():
                    coords.attrs[key] = value
                file.attrs["survpgc_version"] = __version__
                file.attrs["encoder"] = features.encoder or "None"
                file.attrs["mpp"] = grid.mpp
                file.attrs["patch_px"] = grid.patch_px
                file.attrs["patch_px_level0"] = grid.patch_px_level0
                if features.slide_fingerprint:
                    file.attrs["slide_fingerprint"] = features.slide_fingerprint
                for key, value in features.attributes.items():
                    file.attrs[key] = value
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _geometry_attributes(features: PatchFeatures, name: str) -> dict[str, Any]:
    """Attributes of ``coords`` as TRIDENT spells them; magnification is nominal, 10 / mpp."""
    grid = features.grid
    attributes: dict[str, Any] = {"patch_size": grid.patch_px, "overlap": 0, "name": name}
    if math.isfinite(grid.patch_px_level0):
        attributes["patch_size_level0"] = round(grid.patch_px_level0)
    if math.isfinite(grid.mpp):
        attributes["target_magnification"] = round(10 / grid.mpp)
        if math.isfinite(grid.patch_px_level0):
            attributes["level0_magnification"] = round(10 / (grid.mpp * grid.patch_px / grid.patch_px_level0))
    if grid.slide_size:
        attributes["level0_width"], attributes["level0_height"] = grid.slide_size
    return attributes


def read_features(
    path: Path, *, coords: Path | None = None, geometry: PatchGrid | None = None
) -> PatchFeatures:
    """Read a feature file as it is.

    Parameters
    ----------
    path : .h5 of ours, CLAM or TRIDENT, or a .pt tensor (then ``coords`` is needed).
    coords : HDF5 with ``coords`` (CLAM: patches/<slide>.h5), for a .pt file or for the patch geometry that CLAM's
        feature files lack.
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
    if path.suffix.lower() in (".pt", ".pth"):
        if coords is None:
            raise FeatureError(
                f"{path.name} holds features without coordinates",
                "Give the file with the coordinates as well",
            )
        attributes: dict[str, Any] = {}
        rows = _read_tensor(path)
    else:
        rows, attributes = _read_h5(path, "features")
    if coords is not None:
        points, more = _read_h5(coords, "coords")
        attributes = {**more, **attributes}
    else:
        points, more = _read_h5(path, "coords")
        attributes = {**attributes, **more}
    rows = rows[0] if rows.ndim == 3 and rows.shape[0] == 1 else rows
    points = points[0] if points.ndim == 3 and points.shape[0] == 1 else points
    name = path.name
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating):
        raise FeatureError(f"The features in {name} are not a table of numbers (n patches x width)", _AGAIN)
    if points.ndim != 2 or points.shape[1] != 2 or not np.issubdtype(points.dtype, np.number):
        raise FeatureError(f"The coordinates in {name} are not pairs of numbers", _AGAIN)
    if len(rows) != len(points):
        raise FeatureError(f"{name} has {len(rows)} feature rows but {len(points)} coordinates", _AGAIN)
    if len(rows) == 0 or rows.shape[1] == 0:
        raise FeatureError(
            f"{name} holds no patch", "Check the tissue of the slide, then make the features again"
        )
    rows = rows.astype(np.float32, copy=False)
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise FeatureError(
            f"{int(bad.sum())} of {len(rows)} feature rows in {name} are not numbers (NaN)", _AGAIN
        )
    if not np.isfinite(points).all() or (points < 0).any() or (points > 2**31 - 1).any():
        raise FeatureError(f"{name} has coordinates that cannot be pixels of a slide", _AGAIN)
    failed = np.zeros((0, 2), np.int32)
    if coords is None and "failed_coords" in attributes:
        failed = attributes.pop("failed_coords")
    grid = _grid(points.astype(np.int32), attributes, geometry)
    encoder = _text(attributes.get("encoder"))
    extra = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in attributes.items()
        if isinstance(value, (str, int, float, np.integer, np.floating))
    }
    return PatchFeatures(rows, grid, encoder, failed, _text(attributes.get("slide_fingerprint")), extra)


@dataclass(frozen=True)
class FeatureSummary:
    """What the header of a feature file says; no feature is read.

    Attributes
    ----------
    patches, width : of the features.   encoder : None when the file does not say.   patch_px : 0, mpp : NaN then.
    """

    path: Path
    patches: int
    width: int
    encoder: str | None
    patch_px: int
    mpp: float


def summarize_features(path: Path) -> FeatureSummary:
    """Look at an HDF5 feature file without reading its features.

    Raises
    ------
    FeatureError : damaged or truncated, not a feature file, or counts that differ.
    """
    rows, own = _read_h5(path, "features", header=True)
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
    return FeatureSummary(path, shape[0], shape[1], _text(attributes.get("encoder")), grid.patch_px, grid.mpp)


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
    patch_px = _number(attributes.get("patch_px"), attributes.get("patch_size"))
    level0 = _number(attributes.get("patch_px_level0"), attributes.get("patch_size_level0"))
    if not math.isfinite(level0) and math.isfinite(patch_px):
        # CLAM: patches of patch_size px at a level with this downsample.
        downsample = attributes.get("downsample")
        if downsample is not None:
            level0 = patch_px * float(np.ravel(downsample)[0])
    mpp = _number(attributes.get("mpp"))
    if geometry is not None:
        patch_px = patch_px if math.isfinite(patch_px) else geometry.patch_px
        level0 = level0 if math.isfinite(level0) else geometry.patch_px_level0
        mpp = mpp if math.isfinite(mpp) else geometry.mpp
    size = _number(attributes.get("level0_width")), _number(attributes.get("level0_height"))
    slide_size = (int(size[0]), int(size[1])) if all(map(math.isfinite, size)) else None
    return PatchGrid(points, int(patch_px) if math.isfinite(patch_px) else 0, mpp, level0, slide_size)


def _number(*candidates: Any) -> float:
    """Return the first candidate that is a positive number; TRIDENT writes the text 'None' for what it lacks."""
    for candidate in candidates:
        try:
            value = float(candidate)
        except (TypeError, ValueError):
            continue
        if math.isfinite(value) and value > 0:
            return value
    return math.nan


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value and value != "None" else None


def _read_h5(path: Path, name: str, header: bool = False) -> tuple[Any, dict[str, Any]]:
    """Read one dataset (``header``: its shape) with its own and the file's attributes.

    Nothing outside the file is followed.
    """
    if not path.is_file():
        raise FeatureError(f"There is no file {path}", "Check the name and the folder")
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            data, own = _dataset(file, name, path, header)
            attributes.update(own)
            if name == "coords":
                if "failed_coords" in file:
                    attributes["failed_coords"] = _dataset(file, "failed_coords", path)[0].astype(np.int32)
                if "features" in file:
                    # TRIDENT notes the encoder on the features.
                    encoder = _text(file["features"].attrs.get("encoder"))
                    if encoder:
                        attributes.setdefault("encoder", encoder)
            return data, attributes
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
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
