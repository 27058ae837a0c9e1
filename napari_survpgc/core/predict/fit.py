"""Whether features fit a bundle and a slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.bundle.config import UNKNOWN_ENCODER, EncoderSpec
from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.features.drift import drift
from napari_survpgc.core.types import PatchFeatures, SlideInfo


def _cut(spec: EncoderSpec) -> str:
    """Return the options that cut patches as a bundle's were cut."""
    patch_px = f" --patch-px {spec.patch_px}" if spec.patch_px else ""
    return patch_px + (f" --mpp {spec.mpp:g}" if spec.mpp else "")


MIN_SLIDES_TO_REFUSE = 19
"""A new slide like n training slides lies farther out than all of them with probability 1 / (n + 1): 5 % at 19."""


@dataclass(frozen=True)
class FeatureFit:
    """How features fit a bundle.

    Attributes
    ----------
    warnings : what is worth a warning.   outside : those of them for which no answer is given.
    """

    warnings: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


def check_features(bundle: Bundle, features: PatchFeatures, info: SlideInfo | None) -> FeatureFit:
    """Refuse features that do not fit the bundle or the slide; return what is worth a warning.

    Raises
    ------
    FeatureError : another encoder, another width, another slide.
    """
    spec = bundle.config.encoders.get("pathology")
    if spec is None:
        return FeatureFit()
    width = features.features.shape[1]
    again = (
        f"Make them again with 'survpgc features --encoder {spec.id}{_cut(spec)}', or choose another bundle"
    )
    if spec.id == UNKNOWN_ENCODER:
        again = "Give features of the encoder that its training data were made with, or choose another bundle"
    elif features.encoder is not None and features.encoder != spec.id:
        raise FeatureError(
            f"The features were made with the encoder {features.encoder}, but bundle"
            f" {bundle.path.name} was trained with {spec.id}",
            again,
        )
    if width != spec.dim:
        raise FeatureError(
            f"The features are {width} numbers wide, but bundle {bundle.path.name} was trained with"
            f" {spec.dim} ({spec.id})",
            again,
        )
    if len(features.grid) == 0:
        raise FeatureError("The feature file holds no patch", "Make the features again")
    if info is not None and features.slide_fingerprint not in (None, info.fingerprint):
        raise FeatureError(
            f"The features were made from another slide than {info.path.name}",
            "Give the features of this slide, or leave --features out to make them",
        )
    warnings: list[str] = []
    outside: list[str] = []
    if spec.id == UNKNOWN_ENCODER:
        warnings.append(
            f"The bundle does not know which encoder its training features were made with; {features.encoder or 'the'}"
            " features are taken because of their width."
        )
    elif features.encoder is None:
        warnings.append(
            f"The feature file does not say which encoder made it; {spec.id} is assumed from its width."
        )
    mpp = features.grid.mpp
    if spec.mpp and np.isfinite(mpp) and abs(mpp / spec.mpp - 1) > 0.1:
        warnings.append(f"Patches were taken at {mpp:g} µm/px, the model was trained at {spec.mpp:g} µm/px.")
    side = features.grid.patch_px
    if spec.patch_px and side and np.isfinite(mpp) and side != spec.patch_px:
        warnings.append(
            f"Patches are {side} px wide, the model was trained on patches of {spec.patch_px} px."
        )
    if bundle.feature_profile is not None:
        found = drift(bundle.feature_profile, features.features)
        if found.unlike:
            warnings.append(found.describe())
            if found.n_slides >= MIN_SLIDES_TO_REFUSE:
                outside.append(found.describe())
    return FeatureFit(tuple(warnings), tuple(outside))
