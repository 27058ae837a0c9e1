"""attention.h5 and attention.geojson."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

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


def write_attention_geojson(
    prediction: Prediction,
    scores: Mapping[str, NDArray[np.float64]],
    ranks: Mapping[str, NDArray[np.float64]],
    path: Path,
) -> None:
    """Write one QuPath tile a patch, with its scores as measurements; level-0 px.

    QuPath crops slides to OpenSlide's bounds by default (qupath #1278): open such slides with ``--no-crop``.
    """
    side = prediction.patch_px_level0
    features = []
    for index, (x, y) in enumerate(prediction.coords.tolist()):
        right, bottom = round(x + side, 2), round(y + side, 2)
        measurements: dict[str, float] = {}
        for name in scores:
            measurements[f"{name} score"] = round(float(scores[name][index]), 6)
            measurements[f"{name} percentile"] = round(float(ranks[name][index]), 4)
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]],
                },
                "properties": {"objectType": "tile", "measurements": measurements},
            }
        )
    text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False)
    write_text(path, text)
