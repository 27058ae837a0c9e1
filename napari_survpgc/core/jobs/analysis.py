"""A case as a viewer shows it: open slide in, prediction and maps out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.errors import FeatureError
from napari_survpgc.core.features.feature_file import check_within, read_features
from napari_survpgc.core.predict.cache import PredictorCache
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.slide.slide import Slide, require_mpp
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
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
    device: str = "auto"
    predictors: PredictorCache = field(default_factory=PredictorCache)

    def run(
        self,
        slide: Slide,
        record: ClinicalRecord,
        profile: ExpressionProfile | None,
        *,
        tissue: TissueMask | None = None,
        workers: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Analysis:
        """Tissue (unless it is given), patches, features, prediction, maps; SurvPGCError in one sentence."""
        require_mpp(slide.info)
        if progress:
            progress("model", 0, 1)
        spec = self.bundle.config.encoders.get("pathology")
        target = features_file(slide.info, spec.id if spec else "", tissue)
        made = bundle_features(
            slide, self.bundle, target, device=self.device, tissue=tissue, workers=workers, progress=progress
        )
        return self._predict(slide, record, profile, made.tissue, made.features, made.warnings, progress)

    def predict(
        self,
        slide: Slide,
        record: ClinicalRecord,
        profile: ExpressionProfile | None,
        features: Path,
        *,
        progress: ProgressCallback | None = None,
    ) -> Analysis:
        """The same from features that were made before."""
        bag = features_of_slide(features, slide.info)
        return self._predict(slide, record, profile, None, bag, (), progress)

    def _predict(
        self,
        slide: Slide,
        record: ClinicalRecord,
        profile: ExpressionProfile | None,
        tissue: TissueMask | None,
        features: PatchFeatures,
        warnings: tuple[str, ...],
        progress: ProgressCallback | None,
    ) -> Analysis:
        predictor = self.predictors.get(self.bundle, self.device)
        patient = predictor.prepare_patient(record, profile)
        prediction = predictor.predict(patient, features, slide.info, warnings=warnings, progress=progress)
        return Analysis(predictor, record, tissue, features, prediction, AttentionMaps(prediction).ranked())


def features_of_slide(path: Path, info: SlideInfo) -> PatchFeatures:
    """Read features that were made before, by us or others, and check that they can be laid over a slide.

    Raises
    ------
    FeatureError : damaged, of another slide, or without the size of a patch.
    """
    bag = read_features(path, slide_mpp=info.mpp)
    check_within(bag, info)
    check_geometry(bag, info, path)
    return bag


def check_geometry(bag: PatchFeatures, info: SlideInfo, path: Path) -> None:
    """Refuse features whose file does not say how large a patch is: the maps could not be drawn."""
    if np.isfinite(bag.grid.patch_px_level0):
        return
    raise FeatureError(
        f"{path.name} does not say how large its patches are on {info.path.name}",
        "Give the patches file made with it (CLAM: patches/<slide>.h5) with --coords, or their side in pixels of full"
        " resolution with --patch-px-level0",
    )
