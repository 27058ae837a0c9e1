"""Outlines as QuPath's GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import TissueError
from napari_survpgc.core.files import read_json, write_text
from napari_survpgc.core.types import Polygon, TissueMask

from .outlines import area_px, cut_out, mended

_MAX_GEOJSON_BYTES = 256 << 20
_EXPORT = "Export the outlines from QuPath as GeoJSON"
ALL_CLASSES = "all"
MAX_REGIONS = 500
UNCLASSIFIED = "unclassified"
# QuPath's own list of names that it leaves out of measurements; a trailing star says the same of any name.
_IGNORED = ("ignore", "necrosis", "artifact", "artefact", "background", "exclude")
_NO_TISSUE_OBJECTS = ("detection", "cell", "tile", "tma")
_NO_TISSUE_CLASSES = ("cell", "nucleus")
_LINES_AND_POINTS = ("Point", "MultiPoint", "LineString", "MultiLineString")


class TissueClassNeededError(TissueError):
    """Outlines of several classes were given without saying which of them are tissue; ``classes`` names them."""

    def __init__(self, source: str, classes: tuple[str, ...]) -> None:
        super().__init__(
            f"{source} holds outlines of the classes {', '.join(classes)}",
            f"Say which are tissue with --tissue-class, e.g. {classes[0]}, or {ALL_CLASSES}",
        )
        self.source, self.classes = source, classes

    def __reduce__(self) -> tuple[type[TissueClassNeededError], tuple[str, tuple[str, ...]]]:  # type: ignore[override]
        return type(self), (self.source, self.classes)


@dataclass(frozen=True)
class Annotation:
    """One object of a GeoJSON file: the polygons of its geometry, and what QuPath says of it.

    Attributes
    ----------
    kind : QuPath's object type, lower case: "annotation", "detection", "cell" ...
    name, class_name : "" where there is none.
    empty : a polygon without points stood there.
    """

    polygons: tuple[Polygon, ...]
    kind: str
    name: str
    class_name: str
    empty: bool = False

    @property
    def ignored(self) -> bool:
        """QuPath's words for what is not to be measured: a trailing star, or a name such as Ignore or Necrosis."""
        return self.class_name.endswith("*") or self.class_name.lower().startswith(_IGNORED)

    @property
    def of_tissue(self) -> bool:
        """False for cells, nuclei, detections and tiles, whose outlines are no outlines of tissue."""
        return (
            not self.kind.startswith(_NO_TISSUE_OBJECTS) and self.class_name.lower() not in _NO_TISSUE_CLASSES
        )


def write_geojson(mask: TissueMask, path: Path, mpp: float | None = None) -> None:
    """Write the outlines as QuPath annotations, level-0 px: each with a name, a class with its color, and its area.

    Parameters
    ----------
    mpp : µm per level-0 px; None leaves the area in px.
    """
    unit, scale = ("px^2", 1.0) if mpp is None else ("µm^2", mpp * mpp)
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [_closed(ring) for ring in (polygon.exterior, *polygon.holes)],
            },
            "properties": {
                "objectType": "annotation",
                "name": f"Tissue {number}" if len(mask.polygons) > 1 else "Tissue",
                "classification": {"name": "Tissue", "color": [0, 150, 200]},
                "measurements": {
                    f"Area {unit}": round(area_px(polygon) * scale, 2),
                    "Holes": len(polygon.holes),
                },
                "method": mask.method,
            },
        }
        for number, polygon in enumerate(mask.polygons, start=1)
    ]
    text = json.dumps(
        {"type": "FeatureCollection", "features": features}, ensure_ascii=False, allow_nan=False
    )
    write_text(path, text)


def _closed(ring: NDArray[np.float64]) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in (*ring, ring[0])]


def read_geojson(path: Path, size: tuple[int, int], classes: Sequence[str] = ()) -> TissueMask:
    """Read outlines of tissue drawn by hand, e.g. exported from QuPath.

    Objects that QuPath leaves out of measurements (Ignore*, Necrosis*, any class with a star) are cut out of the rest;
    cells, nuclei and other detections, points and lines are no tissue; outlines that cross themselves are mended. The
    mask's ``notes`` say so.

    Parameters
    ----------
    size : (width, height) of the slide in level-0 px, to which the outlines must belong.
    classes : names of the classes that are tissue, or ("all",); needed when the outlines have more than one.

    Raises
    ------
    TissueClassNeededError : outlines of several classes, and ``classes`` does not say which.
    TissueError : no GeoJSON, no polygon of tissue in it, or a polygon outside the slide.
    """
    annotations = read_annotations(path)
    notes = []
    tissue = [a for a in annotations if a.of_tissue and not a.ignored]
    if not any(a.polygons for a in annotations):
        raise TissueError(f"{path.name} holds no polygon", "Draw at least one closed outline around tissue")
    if others := sum(not a.of_tissue for a in annotations):
        notes.append(
            f"{others} outlines of cells, nuclei or other detections are no tissue and were left out."
        )
    if ignored := sorted({a.class_name for a in annotations if a.ignored and a.of_tissue}):
        notes.append(f"Regions of the class {', '.join(ignored)} were left out, as in QuPath's measurements.")
    chosen = _chosen(path, tissue, classes)
    if len({_class_of(a) for a in tissue}) > 1 or classes:
        notes.append(
            f"Outlines of the class {', '.join(sorted({_class_of(a) for a in chosen}))} are the tissue."
        )
    if empty := sum(a.empty for a in annotations):
        notes.append(
            f"{empty} outline{' has' if empty == 1 else 's have'} no points and {'was' if empty == 1 else 'were'} skipped."
        )
    polygons = [polygon for a in chosen for polygon in a.polygons]
    simple = [mended(polygon) for polygon in polygons]
    if any(not parts or parts[0] is not polygon for parts, polygon in zip(simple, polygons, strict=True)):
        notes.append("Outlines that cross themselves were mended.")
    whole = [part for parts in simple for part in parts]
    cuts = [polygon for a in annotations if a.ignored and a.of_tissue for polygon in a.polygons]
    kept = cut_out(whole, cuts)
    if sum(area_px(polygon) for polygon in kept) <= 0:
        raise TissueError(
            f"The outlines in {path.name} enclose nothing", "Draw closed outlines around tissue"
        )
    _check_within(path, kept, size)
    return TissueMask(tuple(kept), size, "imported", tuple(notes))


def read_regions(path: Path, size: tuple[int, int]) -> tuple[Annotation, ...]:
    """Read regions of a slide with their names and QuPath's classes, whatever these are.

    Parameters
    ----------
    size : (width, height) of the slide in level-0 px, to which the outlines must belong.

    Raises
    ------
    TissueError : no GeoJSON, no region in it, more than 500, or one outside the slide.
    """
    found = tuple(a for a in read_annotations(path) if a.of_tissue and a.polygons)
    if not found:
        raise TissueError(f"{path.name} holds no region", "Draw at least one closed outline")
    if len(found) > MAX_REGIONS:
        raise TissueError(
            f"{path.name} holds {len(found)} regions, and a table takes {MAX_REGIONS}",
            "Merge outlines of one kind, or export fewer",
        )
    _check_within(path, [polygon for a in found for polygon in a.polygons], size)
    return found


def _class_of(annotation: Annotation) -> str:
    return annotation.class_name or UNCLASSIFIED


def _chosen(path: Path, tissue: Sequence[Annotation], classes: Sequence[str]) -> list[Annotation]:
    """Return the outlines of the classes that were asked for; of the only class when none was."""
    found = tuple(sorted({_class_of(a) for a in tissue if a.polygons}))
    if not found:
        raise TissueError(
            f"{path.name} holds no outline of tissue", "Draw at least one closed outline around tissue"
        )
    wanted = {name.strip().lower() for name in classes if name.strip()}
    unknown = wanted - {name.lower() for name in found} - {ALL_CLASSES}
    if unknown:
        raise TissueError(
            f"{path.name} has no outlines of the class {', '.join(sorted(unknown))}",
            f"Choose from {', '.join(found)}, or {ALL_CLASSES}",
        )
    if not wanted and len(found) > 1:
        raise TissueClassNeededError(path.name, found)
    return [a for a in tissue if not wanted or ALL_CLASSES in wanted or _class_of(a).lower() in wanted]


def _check_within(path: Path, polygons: Collection[Polygon], size: tuple[int, int]) -> None:
    margin = 0.02 * max(size)  # QuPath lets outlines reach a little over the edge
    for polygon in polygons:
        low, high = polygon.exterior.min(0), polygon.exterior.max(0)
        if (low < -margin).any() or (high > np.array(size) + margin).any():
            raise TissueError(
                f"An outline in {path.name} lies outside the slide ({size[0]} x {size[1]} px)",
                "Check that the outlines belong to this slide and are in pixels of full resolution",
            )


def read_annotations(path: Path) -> tuple[Annotation, ...]:
    """Read all objects of a GeoJSON file with their classes; a geometry without area has no polygons.

    Raises
    ------
    TissueError : the file is missing, too large, no GeoJSON, or has rings that are no lists of points.
    """
    # QuPath writes NaN where a measurement has no value.
    document = read_json(path, _MAX_GEOJSON_BYTES, TissueError, _EXPORT, "tissue outlines", nan=True)
    try:
        return tuple(_annotation(feature) for feature in _features(document))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise TissueError(f"{path.name} is not a GeoJSON file of outlines", _EXPORT) from error


def _features(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the features of a document; a bare list is QuPath's older export, a bare geometry one without properties."""
    if isinstance(node, list):
        for item in node:
            yield from _features(item)
    elif node["type"] == "FeatureCollection":
        yield from _features(node["features"])
    elif node["type"] == "Feature":
        yield node
    else:
        yield {"geometry": node}


def _annotation(feature: Mapping[str, Any]) -> Annotation:
    said = feature.get("properties") or {}
    classification = said.get("classification") or {}
    name = classification if isinstance(classification, str) else classification.get("name")
    # Older exports say the kind in the id: PathAnnotationObject, PathDetectionObject, PathCellObject.
    older = str(feature.get("id", "")).removeprefix("Path").removesuffix("Object")
    kind = str(said.get("objectType") or said.get("object_type") or older or "annotation")
    found = [] if (geometry := feature.get("geometry")) is None else list(_polygons(geometry))
    polygons = tuple(polygon for polygon in found if polygon is not None)
    return Annotation(
        polygons, kind.lower(), str(said.get("name") or ""), str(name or ""), len(polygons) < len(found)
    )


def _polygons(geometry: Mapping[str, Any]) -> Iterator[Polygon | None]:
    """Yield the polygons of a geometry; None for one without points."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for inner in geometry["geometries"]:
            yield from _polygons(inner)
    elif kind in ("Polygon", "MultiPolygon"):
        coordinates = geometry["coordinates"]
        for rings in coordinates if kind == "MultiPolygon" else [coordinates]:
            yield _polygon(rings) if rings else None
    elif kind not in _LINES_AND_POINTS:
        raise ValueError(f"unknown geometry {kind}")


def _polygon(rings: Sequence[Any]) -> Polygon:
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
