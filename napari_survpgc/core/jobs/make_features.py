"""The features that a bundle's models want."""

from __future__ import annotations

from pathlib import Path

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.bundle.config import UNKNOWN_ENCODER
from napari_survpgc.core.encoders.catalog import load_image_encoder
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.features.failed import check_finished
from napari_survpgc.core.features.featurize import FeatureRecipe, SlideFeatures, featurize
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import JobOptions, ProgressCallback, TissueMask


def bundle_features(
    slide: Slide,
    bundle: Bundle,
    out: Path,
    *,
    tissue: TissueMask | Path | None = None,
    tissue_classes: tuple[str, ...] = (),
    options: JobOptions = JobOptions(),
    progress: ProgressCallback | None = None,
) -> SlideFeatures:
    """Compute (or finish, or read back) the features that a bundle's models want.

    Raises
    ------
    BundleError : the bundle's models do not look at slides.   Further: see :func:`~napari_survpgc.core.features.featurize.featurize`.
    """
    spec = bundle.config.encoders.get("pathology")
    if spec is None:
        raise BundleError(
            f"The model of bundle {bundle.path.name} does not look at slides",
            "Choose a bundle with a pathology encoder",
        )
    if spec.id == UNKNOWN_ENCODER:
        raise BundleError(
            f"Bundle {bundle.path.name} does not know which encoder made the features that it was trained on",
            "Give the features of the slide (--features), or train again with --set image_encoder=ID",
        )
    encoder = load_image_encoder(spec.id, options.device)
    made = featurize(
        slide,
        encoder,
        out,
        FeatureRecipe(
            spec.patch_px or encoder.patch_px,
            spec.mpp or encoder.mpp,
            tissue,
            tissue_classes=tissue_classes,
        ),
        options,
        progress,
    )
    check_finished(made.features, slide.info.path.name)
    return made
