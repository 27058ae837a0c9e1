"""A case as a viewer shows it: open slide in, prediction and maps out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.features.failed import check_finished
from napari_survpgc.core.features.feature_file import (
    check_within,
    read_features,
    with_geometry,
)
from napari_survpgc.core.features.featurize import SlideFeatures
from napari_survpgc.core.predict.cache import PredictorCache
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.slide.slide import Slide, require_mpp
from napari_survpgc.core.tissue.geojson import read_geojson
from napari_survpgc.core.tissue.stain import STAIN_WARNING
from napari_survpgc.core.types import (
    Case,
    ClinicalRecord,
    JobOptions,
    PatchFeatures,
    Prediction,
    ProgressCallback,
    SlideInfo,
    TissueMask,
)
from napari_survpgc.core.user_folder import features_file

from .make_features import bundle_features


@dataclass(frozen=True)
class Analysis:
    """A case as a viewer shows it.

    Attributes
    ----------
    tissue : None when the features were made before.   maps : ranked.
    """

    predictor: Predictor
    record: ClinicalRecord
    tissue: TissueMask | None
    features: PatchFeatures
    prediction: Prediction
    maps: AttentionMaps


@dataclass(frozen=True)
class Analyzer:
    """Predicts open slides; features are kept in the user's folder, so that only the first run looks at patches.

    Attributes
    ----------
    predictors : where the models may be in memory already.
    """

    bundle: Bundle
    options: JobOptions = JobOptions()
    predictors: PredictorCache = field(default_factory=PredictorCache)

    def run(self, slide: Slide, case: Case, progress: ProgressCallback | None = None) -> Analysis:
        """Take the features of the case, or make them on its tissue (found where it has none); prediction and maps.

        Raises
        ------
        SurvPGCError : in one sentence.
        """
        tissue: TissueMask | None = None
        warnings: tuple[str, ...] = ()
        if case.features:
            features = features_of_slide(
                case.features[0], slide.info, coords=case.coords, patch_px_level0=case.patch_px_level0
            )
            warnings = kept_warnings(features)
        else:
            made = self._features(slide, case, progress)
            tissue, features, warnings = made.tissue, made.features, made.warnings
        predictor = self.predictors.get(self.bundle, self.options.device)
        patient = predictor.prepare_patient(case.record, case.profile)
        prediction = predictor.predict(
            patient,
            features,
            slide.info,
            warnings=warnings,
            attribution=self.options.attribution,
            progress=progress,
        )
        return Analysis(
            predictor, case.record, tissue, features, prediction, AttentionMaps(prediction).ranked()
        )

    def _features(self, slide: Slide, case: Case, progress: ProgressCallback | None) -> SlideFeatures:
        require_mpp(slide.info)
        if progress:
            progress("model", 0, 1)
        tissue = case.tissue
        if isinstance(tissue, Path):
            tissue = read_geojson(tissue, slide.info.size, case.tissue_classes)
        spec = self.bundle.config.encoders.get("pathology")
        target = features_file(slide.info, spec.id if spec else "", tissue)
        return bundle_features(
            slide, self.bundle, target, tissue=tissue, options=self.options, progress=progress
        )


def features_of_slide(
    path: Path, info: SlideInfo, *, coords: Path | None = None, patch_px_level0: float | None = None
) -> PatchFeatures:
    """Read features that were made before, by us or others, and check that they can be laid over a slide.

    Parameters
    ----------
    coords, patch_px_level0 : the file with the coordinates and the patch side, where ``path`` lacks them.

    Raises
    ------
    FeatureError : damaged, of another slide, or without the size of a patch.
    """
    bag = read_features(path, coords=coords, slide_mpp=info.mpp)
    if patch_px_level0 is not None:
        bag = with_geometry(bag, patch_px_level0)
    check_finished(bag, path.name)
    check_within(bag, info)
    _check_geometry(bag, info, path)
    return bag


def kept_warnings(features: PatchFeatures) -> tuple[str, ...]:
    """Return what was to be said of the slide when its features were made."""
    kept = features.attributes.get(STAIN_WARNING)
    return (kept,) if isinstance(kept, str) and kept else ()


def _check_geometry(bag: PatchFeatures, info: SlideInfo, path: Path) -> None:
    """Refuse features whose file does not say how large a patch is: the maps could not be drawn."""
    if np.isfinite(bag.grid.patch_px_level0):
        return
    raise FeatureError(
        f"{path.name} does not say how large its patches are on {info.path.name}",
        "Give the patches file made with it (CLAM: patches/<slide>.h5) with --coords, or their side in pixels of full"
        " resolution with --patch-px-level0",
    )
