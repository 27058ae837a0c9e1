"""attention.h5 and attention.geojson."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.files import write_text
from napari_survpgc.core.hdf5 import new_hdf5, readable
from napari_survpgc.core.types import Prediction


def write_attention(prediction: Prediction, scores: Mapping[str, NDArray[np.float64]], path: Path) -> None:
    with new_hdf5(path) as file:
        coords = file.create_dataset("coords", data=prediction.coords)
        coords.attrs["patch_px_level0"] = prediction.patch_px_level0
        coords.attrs["patch_size_level0"] = round(prediction.patch_px_level0)
        slides = prediction.provenance.get("slides", [])
        counts = [slide["n_patches"] for slide in slides]
        if slides and sum(counts) == len(prediction.coords):  # not of one of them alone
            numbers = file.create_dataset(
                "slide", data=np.repeat(np.arange(len(slides), dtype=np.int32), counts)
            )
            numbers.attrs["names"] = [readable(slide["name"]) for slide in slides]
            numbers.attrs["patch_px_level0"] = [slide["patch_px_level0"] for slide in slides]
        for name, matrix in prediction.attention.items():
            data = file.create_dataset(name, data=np.asarray(matrix, np.float32))
            data.attrs["rows"] = list(prediction.token_names[name])
            data.attrs["what"] = (
                "pre-softmax attention of the tokens (rows) to the patches, mean over fold models"
            )
            file.create_dataset(f"{name}_score", data=scores[name].astype(np.float32))


class _Band(NamedTuple):
    """Percentiles above ``limit``, as a class of QuPath."""

    limit: float
    name: str
    color: tuple[int, int, int]


# Four steps of viridis, bright for high.
_BANDS = (
    _Band(90, "top 10 %", (253, 231, 37)),
    _Band(75, "75-90 %", (53, 183, 121)),
    _Band(50, "50-75 %", (49, 104, 142)),
    _Band(-1, "lower half", (68, 1, 84)),
)


def _band(percentile: float) -> _Band:
    return next(band for band in _BANDS if percentile > band.limit)


def write_attention_geojson(
    prediction: Prediction,
    scores: Mapping[str, NDArray[np.float64]],
    ranks: Mapping[str, NDArray[np.float64]],
    path: Path,
) -> None:
    """Write one QuPath tile a patch, with its scores as measurements, level-0 px.

    Its class is the band of its percentile on the first map, so that QuPath colors the tiles and selects them by class.

    QuPath crops slides to OpenSlide's bounds by default (qupath #1278): open such slides with ``--no-crop``.
    """
    side = prediction.patch_px_level0
    features = []
    first = next(iter(ranks), None)
    for index, (x, y) in enumerate(prediction.coords.tolist()):
        right, bottom = round(x + side, 2), round(y + side, 2)
        measurements: dict[str, float] = {}
        for name in scores:
            measurements[f"{name} score"] = round(float(scores[name][index]), 6)
            measurements[f"{name} percentile"] = round(float(ranks[name][index]), 4)
        band = _band(float(ranks[first][index])) if first is not None else None
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]],
                },
                "properties": {
                    "objectType": "tile",
                    "name": f"Patch {index + 1}",
                    **(
                        {"classification": {"name": f"{first} {band.name}", "color": band.color}}
                        if band
                        else {}
                    ),
                    "measurements": measurements,
                },
            }
        )
    text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False)
    write_text(path, text)
