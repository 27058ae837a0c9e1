"""Slide -> tissue -> patches -> features, in one step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_survpgc.core.encoders.base import ImageEncoder
from napari_survpgc.core.features.feature_file import write_features
from napari_survpgc.core.slide.slide import Slide, open_slide, require_mpp
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.tissue.geojson import read_geojson
from napari_survpgc.core.tissue.patches import patch_grid, upsampling_warning
from napari_survpgc.core.types import PatchFeatures, ProgressCallback, SlideInfo, TissueMask

from .compute import WriteFeatures, compute_features


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
    patch_px: int | None = None,
    mpp: float | None = None,
    mpp_override: float | None = None,
    tissue: Path | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    write: WriteFeatures = write_features,
    progress: ProgressCallback | None = None,
) -> SlideFeatures:
    """Compute (or finish, or read back) the features of one slide into ``out``.

    Parameters
    ----------
    patch_px, mpp : how patches are cut; by default as the encoder wants them.
    out : the .h5 file; one that was made from the same slide, grid and encoder is used as it is.
    mpp_override : µm per level-0 px given by the user.
    tissue : GeoJSON outlines to use instead of the automatic ones.
    write : for another layout than ours, see :mod:`napari_survpgc.core.features.trident`.

    Raises
    ------
    SlideError, MissingMppError, TissueError, FeatureError, OutputError : in one sentence.
    """
    with open_slide(path, mpp=mpp_override) as slide:
        return featurize(
            slide,
            encoder,
            out,
            patch_px=patch_px,
            mpp=mpp,
            tissue=tissue,
            workers=workers,
            batch_size=batch_size,
            write=write,
            progress=progress,
        )


def featurize(
    slide: Slide,
    encoder: ImageEncoder,
    out: Path,
    *,
    patch_px: int | None = None,
    mpp: float | None = None,
    tissue: TissueMask | Path | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    write: WriteFeatures = write_features,
    progress: ProgressCallback | None = None,
) -> SlideFeatures:
    """The same as :func:`slide_features` for a slide that is open already."""
    require_mpp(slide.info)
    patch_px, mpp = patch_px or encoder.patch_px, mpp or encoder.mpp
    if isinstance(tissue, TissueMask):
        mask = tissue
    else:
        mask = read_geojson(tissue, slide.info.size) if tissue else find_tissue(slide, progress=progress)
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
        batch_size=batch_size,
        workers=workers,
        attributes={"tissue_method": mask.method, "mpp_source": str(slide.info.mpp_source)},
        write=write,
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
