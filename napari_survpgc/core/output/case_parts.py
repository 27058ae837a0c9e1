"""Expression and outlines in a case file."""

from __future__ import annotations

import json

import h5py
import numpy as np

from napari_survpgc.core import hdf5_limits
from napari_survpgc.core.hdf5 import readable
from napari_survpgc.core.types import ExpressionProfile, ExpressionUnit, Polygon, TissueMask

_MAX_GENES = 500_000
_MAX_NAMES = 16 << 20  # bytes of all genes' names
_MAX_RING = 800_000_000  # bytes of one outline


def write_profile(profile: ExpressionProfile | None, file: h5py.File) -> None:
    if profile is None:
        return
    group = file.create_group("expression")
    group.attrs.update(
        unit=str(profile.unit),
        declared=profile.unit_declared,
        sample=readable(profile.sample),
        source=readable(profile.source),
        notes=json.dumps(profile.notes),
    )
    group["genes"] = np.array(list(profile.values), dtype=h5py.string_dtype())
    group["values"] = np.array(list(profile.values.values()), np.float64)


def read_profile(file: h5py.File) -> ExpressionProfile | None:
    """Return the expression of a case, None for none; what it raises is in ``hdf5_limits.H5_ERRORS``."""
    if "expression" not in file:
        return None
    group = hdf5_limits.subgroup(file, "expression")
    genes = hdf5_limits.texts(group, "genes", _MAX_GENES, _MAX_NAMES)
    values = hdf5_limits.array(group, "values", 8 * _MAX_GENES)
    return ExpressionProfile(
        values=dict(zip(genes, values.astype(float).tolist(), strict=True)),
        unit=ExpressionUnit(group.attrs["unit"]),
        unit_declared=bool(group.attrs["declared"]),
        sample=str(group.attrs["sample"]),
        source=str(group.attrs["source"]),
        notes=tuple(json.loads(group.attrs["notes"])),
    )


def write_tissue(tissue: TissueMask | None, file: h5py.File) -> None:
    if tissue is None:
        return
    group = file.create_group("tissue")
    group.attrs.update(method=tissue.method, size=tissue.size)
    for number, polygon in enumerate(tissue.polygons):
        rings = group.create_group(f"{number:05d}")
        for index, ring in enumerate((polygon.exterior, *polygon.holes)):
            rings[f"{index:05d}"] = ring


def read_tissue(file: h5py.File) -> TissueMask | None:
    """Return the outlines of a case, None for none; what it raises is in ``hdf5_limits.H5_ERRORS``."""
    if "tissue" not in file:
        return None
    group = hdf5_limits.subgroup(file, "tissue")
    polygons = []
    for name in sorted(group):
        outline = hdf5_limits.subgroup(group, name)
        rings = [
            hdf5_limits.array(outline, ring, _MAX_RING).astype(np.float64, copy=False)
            for ring in sorted(outline)
        ]
        if any(ring.ndim != 2 or ring.shape[1] != 2 or not np.isfinite(ring).all() for ring in rings):
            raise ValueError("an outline is no list of points")
        polygons.append(Polygon(rings[0], tuple(rings[1:])))
    width, height = (int(v) for v in group.attrs["size"])
    return TissueMask(tuple(polygons), (width, height), str(group.attrs["method"]))
