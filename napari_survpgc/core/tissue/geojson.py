"""Outlines as QuPath's GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import TissueError, writing
from napari_survpgc.core.types import Polygon, TissueMask

from .outlines import area

_MAX_GEOJSON_BYTES = 256 << 20


def write_geojson(mask: TissueMask, path: Path) -> None:
    """Write the outlines as QuPath annotations, level-0 px."""
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [_closed(ring) for ring in (polygon.exterior, *polygon.holes)],
            },
            "properties": {
                "objectType": "annotation",
                "name": "Tissue",
                "classification": {"name": "Tissue", "color": [0, 150, 200]},
                "method": mask.method,
            },
        }
        for polygon in mask.polygons
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _closed(ring: NDArray[np.float64]) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in (*ring, ring[0])]


def read_geojson(path: Path, size: tuple[int, int]) -> TissueMask:
    """Read outlines drawn by hand, e.g. exported from QuPath; points and lines are ignored.

    Parameters
    ----------
    size : (width, height) of the slide in level-0 px, to which the outlines must belong.

    Raises
    ------
    TissueError : no GeoJSON, no polygon in it, or a polygon outside the slide.
    """
    try:
        if path.stat().st_size > _MAX_GEOJSON_BYTES:
            raise TissueError(
                f"{path.name} is too large for tissue outlines", "Export fewer or simpler outlines"
            )
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        polygons = tuple(_rings_to_polygon(rings) for rings in _geometries(document))
    except OSError as error:
        raise TissueError(
            f"{path} cannot be read ({error.strerror})", "Check the name and the folder"
        ) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TissueError(
            f"{path.name} is not a GeoJSON file of outlines", "Export the outlines from QuPath as GeoJSON"
        ) from error
    if not polygons:
        raise TissueError(f"{path.name} holds no polygon", "Draw at least one closed outline around tissue")
    for polygon in polygons:
        low, high = polygon.exterior.min(0), polygon.exterior.max(0)
        # QuPath lets outlines reach a little over the edge.
        margin = 0.02 * max(size)
        if (low < -margin).any() or (high > np.array(size) + margin).any():
            raise TissueError(
                f"An outline in {path.name} lies outside the slide ({size[0]} x {size[1]} px)",
                "Check that the outlines belong to this slide and are in pixels of full resolution",
            )
    if sum(abs(area(p.exterior)) for p in polygons) <= 0:
        raise TissueError(
            f"The outlines in {path.name} enclose nothing", "Draw closed outlines around tissue"
        )
    return TissueMask(polygons, size, "imported")


def _geometries(node: Any) -> Iterator[list[Any]]:
    """Yield the ring lists of all polygons in a GeoJSON document; a bare list is QuPath's older export."""
    if isinstance(node, list):
        for item in node:
            yield from _geometries(item)
        return
    kind = node["type"]
    if kind == "FeatureCollection":
        yield from _geometries(node["features"])
    elif kind == "Feature":
        if node["geometry"] is not None:
            yield from _geometries(node["geometry"])
    elif kind == "GeometryCollection":
        yield from _geometries(node["geometries"])
    elif kind == "Polygon":
        yield node["coordinates"]
    elif kind == "MultiPolygon":
        yield from node["coordinates"]
    elif kind not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise ValueError(f"unknown geometry {kind}")


def _rings_to_polygon(rings: list[Any]) -> Polygon:
    arrays = []
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points).all():
            raise ValueError("a ring is not a list of points")
        points = points[:, :2]
        if len(points) > 1 and (points[0] == points[-1]).all():
            points = points[:-1]
        if len(points) < 3:
            raise ValueError("a ring has fewer than three points")
        arrays.append(points)
    return Polygon(arrays[0], tuple(arrays[1:]))
