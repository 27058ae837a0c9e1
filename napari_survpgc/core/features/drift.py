"""How far a slide lies from those that a model was trained on: another scanner, stain, tissue or pixel size.

The mean feature vector of a slide is compared with those of the training slides, one dimension at a time:

    D = sqrt( mean over j of ((x_j - m_j) / s_j)^2 )

with mean m and standard deviation s over the training slides. D is about 1 for a slide like them. Each training slide
has a D too, against the others (leave-one-out); a slide farther out than all of them is called unlike. The measure sees
a shift of the whole slide, not a few odd patches, and says nothing about whether the prediction is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from napari_survpgc.core.files import write_bytes

PROFILE_FILE = "feature_profile.safetensors"
MIN_SLIDES = 10
"""Fewer training slides do not show how slides differ."""


@dataclass(frozen=True)
class FeatureProfile:
    """The slides that a model was trained on, as far as needed to tell one that is unlike them.

    Attributes
    ----------
    mean, sd : (d,) float32, over the slides' mean feature vectors.
    distances : (n,) float32 ascending, each training slide's D against the others.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class Drift:
    """Where a slide lies: its ``distance`` D, the ``largest`` of the training slides, and how many those were."""

    distance: float
    largest: float
    n_slides: int

    @property
    def unlike(self) -> bool:
        return self.distance > self.largest

    def describe(self) -> str:
        """Return one sentence for result and report."""
        return (
            f"The slide is unlike the training data: its features lie {self.distance:.1f} standard deviations off,"
            f" farther than any of the {self.n_slides} training slides (at most {self.largest:.1f}). Another scanner,"
            " stain, tissue or a wrong pixel size can be the reason; the risk may not hold."
        )


def feature_profile(slide_means: Sequence[NDArray[np.floating]]) -> FeatureProfile | None:
    """Return the profile of training slides from their mean feature vectors, each (d,); None for too few slides."""
    if len(slide_means) < MIN_SLIDES:
        return None
    x = np.stack([np.asarray(row, np.float64) for row in slide_means])
    n = len(x)
    total, squares = x.sum(0), (x**2).sum(0)
    distances = np.empty(n)
    for i, row in enumerate(x):
        mean = (total - row) / (n - 1)
        variance = np.maximum((squares - row**2) / (n - 1) - mean**2, 0) * (n - 1) / (n - 2)
        distances[i] = _distance(row, mean, np.sqrt(variance))
    return FeatureProfile(
        x.mean(0).astype(np.float32),
        x.std(0, ddof=1).astype(np.float32),
        np.sort(distances).astype(np.float32),
    )


def drift(profile: FeatureProfile, features: NDArray[np.floating]) -> Drift:
    """Compare a slide's features (n_p, d) with a profile."""
    mean = np.asarray(np.mean(features, axis=0, dtype=np.float64))
    distance = _distance(mean, profile.mean.astype(np.float64), profile.sd.astype(np.float64))
    return Drift(distance, float(profile.distances[-1]), len(profile.distances))


def write_profile(profile: FeatureProfile, path: Path) -> None:
    """Write a profile as safetensors."""
    arrays = {"distances": profile.distances, "mean": profile.mean, "sd": profile.sd}
    write_bytes(path, safetensors.numpy.save(arrays))


def parse_profile(raw: bytes, width: int) -> FeatureProfile:
    """Read what :func:`write_profile` wrote, for features of ``width``.

    Raises
    ------
    ValueError : damaged, not finite, or of another width.
    """
    try:
        arrays = safetensors.numpy.load(raw)
        mean, sd, distances = (arrays[name].astype(np.float32) for name in ("mean", "sd", "distances"))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if mean.shape != (width,) or sd.shape != (width,) or distances.ndim != 1 or not len(distances):
        raise ValueError(f"it is of other features than the model's, which are {width} wide")
    if not all(np.isfinite(array).all() for array in (mean, sd, distances)) or (sd < 0).any():
        raise ValueError("it holds values that are no spread of features")
    return FeatureProfile(mean, sd, np.sort(distances))


def _distance(row: NDArray[np.float64], mean: NDArray[np.float64], sd: NDArray[np.float64]) -> float:
    varies = sd > 1e-6 * max(float(np.abs(mean).max()), 1e-12)  # a dimension without spread tells nothing
    if not varies.any():
        return 0.0
    z = (row[varies] - mean[varies]) / sd[varies]
    return float(np.sqrt(np.mean(z**2)))
