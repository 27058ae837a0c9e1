"""Slide -> tissue -> patches -> features, in one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_survpgc.core.encoders.base import ImageEncoder
from napari_survpgc.core.features.feature_file import write_features
from napari_survpgc.core.slide.slide import Slide, require_mpp
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.tissue.geojson import read_geojson
from napari_survpgc.core.tissue.overview import slide_overview
from napari_survpgc.core.tissue.patches import patch_grid, upsampling_warning
from napari_survpgc.core.tissue.stain import STAIN_WARNING, StainError, check_stain, stain_warning
from napari_survpgc.core.types import JobOptions, PatchFeatures, ProgressCallback, SlideInfo, TissueMask

from .compute import WriteFeatures, compute_features


@dataclass(frozen=True)
class SlideFeatures:
    """What a slide became: its facts, its tissue, its features, and what a reader must know about them."""

    info: SlideInfo
    tissue: TissueMask
    features: PatchFeatures
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FeatureRecipe:
    """How the features of a slide are made and kept.

    Attributes
    ----------
    patch_px, mpp : how patches are cut; None as the encoder wants them.
    tissue : outlines, or a GeoJSON file of them, to use instead of the automatic ones.
    tissue_classes : which classes of that file are tissue; needed when it has several.
    write : for another layout than ours, see :mod:`napari_survpgc.core.features.trident`.
    """

    patch_px: int | None = None
    mpp: float | None = None
    tissue: TissueMask | Path | None = None
    write: WriteFeatures = write_features
    tissue_classes: tuple[str, ...] = ()


def featurize(
    slide: Slide,
    encoder: ImageEncoder,
    out: Path,
    recipe: FeatureRecipe = FeatureRecipe(),
    options: JobOptions = JobOptions(),
    progress: ProgressCallback | None = None,
) -> SlideFeatures:
    """Compute (or finish, or read back) the features of one slide into ``out``.

    Parameters
    ----------
    out : the .h5 file; one that was made from the same slide, grid and encoder is used as it is.
    options : of them the threads and the patches a batch; the encoder is on its device already.

    Raises
    ------
    StainError : it is no H&E slide, and ``options.any_stain`` does not say to go on.
    SlideError, MissingMppError, TissueError, FeatureError, OutputError : in one sentence.
    """
    require_mpp(slide.info)
    patch_px, mpp = recipe.patch_px or encoder.patch_px, recipe.mpp or encoder.mpp
    mask, stain = _tissue(slide, recipe, any_stain=options.any_stain, progress=progress)
    if progress:
        progress("patches", 0, 1)
    grid = patch_grid(mask, slide.info, patch_px=patch_px, mpp=mpp)
    if progress:
        progress("patches", 1, 1)
    features = compute_features(
        slide,
        grid,
        encoder,
        out,
        batch_size=options.batch_size,
        workers=options.workers,
        attributes={
            "tissue_method": mask.method,
            "mpp_source": str(slide.info.mpp_source),
            **({STAIN_WARNING: stain} if stain else {}),
        },
        write=recipe.write,
        progress=progress,
    )
    warnings = ([stain] if stain else []) + [*mask.notes, *_warnings(slide.info, features, mpp)]
    return SlideFeatures(slide.info, mask, features, tuple(warnings))


def _tissue(
    slide: Slide, recipe: FeatureRecipe, *, any_stain: bool, progress: ProgressCallback | None
) -> tuple[TissueMask, str]:
    """Return the tissue, and what must be said of a slide that is no H&E; the stain is looked at first."""
    if progress:
        progress("tissue", 0, 1)
    picture = slide_overview(slide)
    stain = check_stain(picture.image)
    if not (stain.is_he or any_stain):
        raise StainError(slide.info.path.name, stain)
    mask = recipe.tissue
    if isinstance(mask, Path):
        mask = read_geojson(mask, slide.info.size, recipe.tissue_classes)
    elif mask is None:
        mask = find_tissue(slide, picture=picture, stain=stain, progress=progress)
    return mask, stain_warning(slide.info.path.name, stain)


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
