"""From files to results: slide, record and expression in, prediction and every output out.

The command line and the app run this; each step is also there on its own in its noun's module. Everything that can
be refused cheaply (bundle, record, expression, pixel size) is refused before the long work.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .attention_maps import AttentionMaps
from .bundle import UNKNOWN_ENCODER, Bundle
from .case_file import SavedCase, save_case
from .encoders import load_image_encoder
from .errors import BundleError, FeatureError, OutputError, SurvPGCError, writing
from .export import write_outputs
from .features import check_within, read_features, with_geometry
from .featurize import SlideFeatures, featurize
from .predict import Predictor
from .slide import Slide, open_slide, require_mpp
from .tissue import write_geojson
from .types import (
    ClinicalRecord,
    ExpressionProfile,
    MppSource,
    PatchFeatures,
    Prediction,
    ProgressCallback,
    SlideInfo,
    TissueMask,
)
from .user_folder import features_file


def predict_slide(
    path: Path,
    bundle: Bundle,
    record: ClinicalRecord,
    profile: ExpressionProfile | None,
    out: Path,
    *,
    features: Path | None = None,
    coords: Path | None = None,
    patch_px_level0: float | None = None,
    tissue: Path | None = None,
    mpp_override: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    attribution: bool = True,
    progress: ProgressCallback | None = None,
) -> Prediction:
    """Do the whole job for one patient and write every output of the contract into ``out``.

    Parameters
    ----------
    features : features made before, by us, CLAM, TRIDENT or STAMP; without it they are computed into
        ``out/features/<slide>.h5``, which an interrupted run takes up again.
    coords, patch_px_level0 : the file with the coordinates and the patch side, where ``features`` lacks them.

    Raises
    ------
    SurvPGCError : bad input, in one sentence; nothing is left in ``out`` but finished or resumable features
        of an earlier, interrupted run.
    """
    # The order is by cost: everything a typing mistake can spoil comes before the first slow step.
    predictor = Predictor(bundle, device)
    patient = predictor.prepare_patient(record, profile)
    new = not out.exists()
    try:
        _check_writable(out)
        with open_slide(path, mpp=mpp_override) as slide:
            require_mpp(slide.info)
            warnings: tuple[str, ...] = ()
            mask: TissueMask | None = None
            feature_file = features
            if features is not None:
                bag = read_features(features, coords=coords, slide_mpp=slide.info.mpp)
                if patch_px_level0 is not None:
                    bag = with_geometry(bag, patch_px_level0)
                check_within(bag, slide.info)
                _check_geometry(bag, slide.info, features)
            else:
                feature_file = out / "features" / f"{path.stem}.h5"
                result = bundle_features(
                    slide,
                    bundle,
                    feature_file,
                    device=device,
                    tissue=tissue,
                    workers=workers,
                    batch_size=batch_size,
                    progress=progress,
                )
                bag, warnings, mask = result.features, result.warnings, result.tissue
                write_geojson(result.tissue, out / "tissue.geojson")
            prediction = predictor.predict(
                patient,
                bag,
                slide.info,
                warnings=warnings,
                attribution=attribution,
                progress=progress,
            )
            write_outputs(
                prediction,
                slide,
                out,
                record=record,
                sentences=patient.sentences,
                reference=bundle.reference,
                genomics_notes=patient.notes,
                progress=progress,
            )
            save_case(
                SavedCase(
                    slide=path.resolve(),
                    fingerprint=slide.info.fingerprint,
                    mpp=slide.info.mpp if slide.info.mpp_source is MppSource.USER else None,
                    record=record,
                    profile=profile,
                    bundle=bundle.path.resolve(),
                    bundle_fingerprint=bundle.fingerprint,
                    tissue=mask,
                    features=bag,
                    prediction=prediction,
                    name=out.resolve().name,
                ),
                out / "case.survpgc",
                features_path=feature_file,
            )
    except SurvPGCError:
        if new:
            # Bad input leaves nothing behind; an interruption (another exception) keeps what was finished.
            shutil.rmtree(out, ignore_errors=True)
        raise
    return prediction


def bundle_features(
    slide: Slide,
    bundle: Bundle,
    out: Path,
    *,
    device: str = "auto",
    tissue: TissueMask | Path | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    progress: ProgressCallback | None = None,
) -> SlideFeatures:
    """Compute (or finish, or read back) the features that a bundle's models want.

    Raises
    ------
    BundleError : the bundle's models do not look at slides.   Further: see :func:`~.featurize.featurize`.
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
    encoder = load_image_encoder(spec.id, device)
    return featurize(
        slide,
        encoder,
        out,
        patch_px=spec.patch_px or encoder.patch_px,
        mpp=spec.mpp or encoder.mpp,
        tissue=tissue,
        workers=workers,
        batch_size=batch_size,
        progress=progress,
    )


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
    predictor : of an earlier run, used again when it is of the same bundle.
    """

    bundle: Bundle
    device: str = "auto"
    predictor: Predictor | None = None

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
        predictor = self.predictor
        if predictor is None or predictor.bundle is not self.bundle:
            predictor = Predictor(self.bundle, self.device)
        patient = predictor.prepare_patient(record, profile)
        prediction = predictor.predict(patient, features, slide.info, warnings=warnings, progress=progress)
        return Analysis(predictor, record, tissue, features, prediction, AttentionMaps(prediction).ranked())


def _check_writable(out: Path) -> None:
    """Refuse an unusable output folder before minutes of work, not after."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file, not a folder", "Choose another --out folder")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".survpgc-write-test"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()


def features_of_slide(path: Path, info: SlideInfo) -> PatchFeatures:
    """Read features that were made before, by us or others, and check that they can be laid over a slide.

    Raises
    ------
    FeatureError : damaged, of another slide, or without the size of a patch.
    """
    bag = read_features(path, slide_mpp=info.mpp)
    check_within(bag, info)
    _check_geometry(bag, info, path)
    return bag


def _check_geometry(bag: PatchFeatures, info: SlideInfo, path: Path) -> None:
    """Refuse features whose file does not say how large a patch is: the maps could not be drawn."""
    if np.isfinite(bag.grid.patch_px_level0):
        return
    raise FeatureError(
        f"{path.name} does not say how large its patches are on {info.path.name}",
        "Give the patches file made with it (CLAM: patches/<slide>.h5) with --coords, or their side in pixels of full"
        " resolution with --patch-px-level0",
    )
