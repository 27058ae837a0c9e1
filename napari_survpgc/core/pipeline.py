"""From files to results: slide -> tissue -> patches -> features -> prediction -> outputs.

The command line, the app and the trainer run this; each step is also there on its own in its noun's module.
Everything that can be refused cheaply (bundle, record, expression, pixel size) is refused before the long work.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bundle import Bundle
from .encoders import load_image_encoder, load_text_encoder
from .encoders.base import ImageEncoder
from .errors import FeatureError, OutputError, SurvPGCError, writing
from .features import check_within, compute_features, read_features
from .patches import patch_grid, upsampling_warning
from .predict import Predictor
from .slide import Slide, open_slide, require_mpp
from .tissue import find_tissue, read_geojson, write_geojson
from .types import (
    ClinicalRecord,
    ExpressionProfile,
    PatchFeatures,
    Prediction,
    ProgressCallback,
    SlideInfo,
    TissueMask,
)


@dataclass(frozen=True)
class SlideFeatures:
    """What a slide became: its facts, its tissue, its features, and what a reader must know about them."""

    info: SlideInfo
    tissue: TissueMask
    features: PatchFeatures
    warnings: tuple[str, ...]


def slide_features(
    path: Path,
    encoder: ImageEncoder,
    out: Path,
    *,
    patch_px: int = 256,
    mpp: float = 0.5,
    mpp_override: float | None = None,
    tissue: Path | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    progress: ProgressCallback | None = None,
) -> SlideFeatures:
    """Compute (or finish, or read back) the features of one slide into ``out``.

    Parameters
    ----------
    out : the .h5 file; one that was made from the same slide, grid and encoder is used as it is.
    mpp_override : µm per level-0 px given by the user.
    tissue : GeoJSON outlines to use instead of the automatic ones.

    Raises
    ------
    SlideError, MissingMppError, TissueError, FeatureError, OutputError : in one sentence.
    """
    with open_slide(path, mpp=mpp_override) as slide:
        return _features_of(slide, encoder, out, patch_px, mpp, tissue, workers, batch_size, progress)


def _features_of(
    slide: Slide,
    encoder: ImageEncoder,
    out: Path,
    patch_px: int,
    mpp: float,
    tissue: Path | None,
    workers: int | None,
    batch_size: int | None,
    progress: ProgressCallback | None,
) -> SlideFeatures:
    require_mpp(slide.info)
    mask = read_geojson(tissue, slide.info.size) if tissue else find_tissue(slide, progress=progress)
    grid = patch_grid(mask, slide.info, patch_px=patch_px, mpp=mpp)
    features = compute_features(
        slide,
        grid,
        encoder,
        out,
        batch_size=batch_size,
        workers=workers,
        attributes={"tissue_method": mask.method, "mpp_source": str(slide.info.mpp_source)},
        progress=progress,
    )
    return SlideFeatures(slide.info, mask, features, _warnings(slide.info, features, mpp))


def _warnings(info: SlideInfo, features: PatchFeatures, mpp: float) -> tuple[str, ...]:
    warnings = []
    upsampled = upsampling_warning(info, mpp)
    if upsampled:
        warnings.append(upsampled)
    if len(features.failed_coords):
        warnings.append(
            f"{len(features.failed_coords)} of {len(features.failed_coords) + len(features.grid)} patches of"
            f" {info.path.name} could not be read and were left out."
        )
    return tuple(warnings)


def predict_slide(
    path: Path,
    bundle: Bundle,
    record: ClinicalRecord,
    profile: ExpressionProfile | None,
    out: Path,
    *,
    features: Path | None = None,
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
    features : features made before, by us, CLAM or TRIDENT; without it they are computed into
        ``out/features/<slide>.h5``, which an interrupted run takes up again.

    Raises
    ------
    SurvPGCError : bad input, in one sentence; nothing is left in ``out`` but finished or resumable features
        of an earlier, interrupted run.
    """
    from .export import write_outputs

    spec = bundle.config.encoders.get("pathology")
    # The order is by cost: everything a typing mistake can spoil comes before the first slow step.
    predictor = Predictor(bundle, device)
    text_encoder = None
    if "clinic" in bundle.config.encoders:
        text_encoder = load_text_encoder(bundle.config.encoders["clinic"].id, device)
    patient = predictor.prepare_patient(record, profile, text_encoder)
    new = not out.exists()
    try:
        _check_writable(out)
        with open_slide(path, mpp=mpp_override) as slide:
            require_mpp(slide.info)
            warnings: tuple[str, ...] = ()
            if features is not None:
                bag = read_features(features)
                check_within(bag, slide.info)
                bag = _with_geometry(bag, slide.info, features)
            elif spec is not None:
                encoder = load_image_encoder(spec.id, device)
                target = out / "features" / f"{path.stem}.h5"
                patch_px, mpp = spec.patch_px or encoder.patch_px, spec.mpp or encoder.mpp
                result = _features_of(
                    slide, encoder, target, patch_px, mpp, tissue, workers, batch_size, progress
                )
                bag, warnings = result.features, result.warnings
                write_geojson(result.tissue, out / "tissue.geojson")
            else:
                raise SurvPGCError(
                    f"The model of bundle {bundle.path.name} does not look at slides",
                    "Choose a bundle with a pathology encoder",
                )
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
    except SurvPGCError:
        if new:
            # Bad input leaves nothing behind; an interruption (another exception) keeps what was finished.
            shutil.rmtree(out, ignore_errors=True)
        raise
    return prediction


def _check_writable(out: Path) -> None:
    """Refuse an unusable output folder before minutes of work, not after."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file, not a folder", "Choose another --out folder")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".survpgc-write-test"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()


def _with_geometry(bag: PatchFeatures, info: SlideInfo, path: Path) -> PatchFeatures:
    """Refuse features whose file does not say how large a patch is: the maps could not be drawn."""
    if np.isfinite(bag.grid.patch_px_level0):
        return bag
    raise FeatureError(
        f"{path.name} does not say how large its patches are on {info.path.name}",
        "Give the patches file made with it (CLAM: patches/<slide>.h5) with --coords, or state --patch-px-level0",
    )
