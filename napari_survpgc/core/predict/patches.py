"""The same case without some of its patches, what each patch contributes, and what regions do to the risk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_survpgc.core.errors import BundleError, FeatureError
from napari_survpgc.core.features.joined import rows_of
from napari_survpgc.core.models.base import PatchState, TwoPathModel
from napari_survpgc.core.tissue.geojson import Annotation
from napari_survpgc.core.tissue.outlines import inside
from napari_survpgc.core.types import PatchFeatures, PatchGrid, Prediction

from .fold_run import FoldState, run_fold
from .left_out import FoldCase, Groups, gradients, occlusion, risks_without
from .predictor import State, state_of

MAX_ONE_BY_ONE = 500
"""Patches up to which a model that must be run again without each of them is."""
_DRAWS = 40


def without(prediction: Prediction, indices: ArrayLike) -> Prediction:
    """Predict again as if some patches were not there; everything else stays.

    Parameters
    ----------
    prediction : made with ``keep_state=True`` (the default), or by this function or a what-if.
    indices : of patches of ``prediction.coords``, or a (n_p,) mask.

    Returns
    -------
    Prediction over the patches that are left, without attribution; it can be changed again.

    Raises
    ------
    FeatureError : an index is none of a patch, or no patch of the patient would be left.
    BundleError : the prediction was made without state.
    """
    state = _state(prediction)
    gone = _taken(indices, len(prediction.coords))
    left = ~_of_all(state, gone)
    if not left.any():
        raise FeatureError("Without these patches nothing is left of the slide", "Leave some patches")
    rows = np.flatnonzero(left)
    features = _kept_features(state.features, left)
    predictor = state.predictor
    changed = dataclasses.replace(state, features=features)
    genomic = predictor.inputs.genomic(state.patient.expression)
    index = torch.from_numpy(rows).to(predictor.device)

    def run(number: int) -> FoldState:
        model, fold = predictor.models[number], state.folds[number]
        clinic = predictor.inputs.clinic(state.patient, number)
        kept: PatchState | None = fold.patches
        if not isinstance(model, TwoPathModel) or kept is None:
            bag = torch.from_numpy(np.asarray(features.features, np.float32)).to(predictor.device)[None]
            ran = run_fold(model, bag, clinic, genomic[number])
            return ran if kept is not None else dataclasses.replace(ran, patches=None)
        with torch.no_grad():
            mask = None if kept.mask is None else kept.mask[:, index]
            patches = PatchState(kept.normalized[:, index], mask)
            paths = model.clinic_path(patches, clinic), model.genomic_path(patches, genomic[number])
            return FoldState(patches, *paths)

    changed = dataclasses.replace(changed, folds=tuple(predictor._each_fold(run)))
    return predictor.answer(changed, None, True)


def patch_contributions(
    prediction: Prediction, method: Literal["occlusion", "gradients"] = "occlusion"
) -> NDArray[np.float64]:
    """Return what each patch contributes to the risk: positive raises it, negative lowers it.

    Parameters
    ----------
    prediction : made with ``keep_state=True`` (the default).
    method : "occlusion", the risk minus the risk without that one patch (exact, also over many patches); or "gradients",
        integrated gradients to the patches from a slide on which each patch is the mean of all, which share the whole
        difference among the patches.

    Returns
    -------
    (n_p,) in units of the risk, mean over the fold models.

    Raises
    ------
    ValueError : another method.   BundleError : no state; or a model without two paths and more than 500 patches, of
        which occlusion is not offered.   FeatureError : occlusion of a patient's only patch.
    """
    if method not in ("occlusion", "gradients"):
        raise ValueError(f'method is "occlusion" or "gradients", not {method!r}')
    state = _state(prediction)
    cases = _cases(state)
    n = len(state.features.grid)
    if method == "occlusion" and n < 2:
        raise FeatureError("Without its only patch nothing is left of the slide", 'Use method="gradients"')
    if method == "occlusion" and not cases[0].by_structure and n > MAX_ONE_BY_ONE:
        raise BundleError(
            f"The model {state.predictor.bundle.config.model} would have to be run without each of {n} patches,"
            f" which is offered up to {MAX_ONE_BY_ONE}",
            'Use method="gradients"',
        )
    function = occlusion if method == "occlusion" else gradients
    found = np.mean(state.predictor._each_fold(lambda number: function(cases[number])), axis=0)
    shown: NDArray[np.float64] = (
        found if state.part is None else found[rows_of(state.features.parts, state.part)]
    )
    return shown


def region_risks(prediction: Prediction, regions: Sequence[Annotation]) -> list[dict[str, object]]:
    """Return what each region does to the risk, against random patches of the same number.

    A patch is of a region when its center lies in it.

    Parameters
    ----------
    prediction : over one slide, made with ``keep_state=True``.
    regions : see :func:`napari_survpgc.core.tissue.geojson.read_regions`.

    Returns
    -------
    For each region: name; class (None without); n_patches; share (0-1) of the slide's patches; risk_without it;
    risk_alone, that of the region by itself; change = risk_without - risk, negative where the region raises the risk;
    change_random_low and _high, the 2.5 and 97.5 percentiles of the change over 40 random sets of n_patches patches
    (fixed seed). None where no patch is left to predict from.
    """
    state = _state(prediction)
    cases, n = _cases(state), len(state.features.grid)
    centers = prediction.coords.astype(np.float64) + prediction.patch_px_level0 / 2
    masks = [_of_all(state, inside(region.polygons, centers)) for region in regions]
    sizes = sorted({int(mask.sum()) for mask in masks} - {0, n})
    draws = {size: _draws(n, size) for size in sizes}
    groupings = [Groups.inside(mask) for mask in masks] + [g for size in sizes for g, _ in draws[size]]
    runs = state.predictor._each_fold(lambda number: risks_without(cases[number], groupings))
    means = [np.mean([run[i] for run in runs], axis=0) for i in range(len(groupings))]
    rest = iter(means[len(masks) :])
    chance = {}
    for size in sizes:
        changes = np.concatenate([next(rest)[:used] for _, used in draws[size]]) - prediction.risk
        chance[size] = tuple(float(v) for v in np.percentile(changes, [2.5, 97.5]))
    found: list[dict[str, object]] = []
    for number, (region, mask, risks) in enumerate(zip(regions, masks, means, strict=False), start=1):
        count = int(mask.sum())
        alone, left = (float(r) if np.isfinite(r) else None for r in risks)
        if not count:
            left = prediction.risk  # nothing was taken away
        low, high = chance.get(count, (None, None))
        found.append(
            {
                "name": region.name or f"Region {number}",
                "class": region.class_name or None,
                "n_patches": count,
                "share": count / n,
                "risk_without": left,
                "risk_alone": alone,
                "change": None if left is None else left - prediction.risk,
                "change_random_low": low,
                "change_random_high": high,
            }
        )
    return found


def _draws(n: int, size: int) -> list[tuple[Groups, int]]:
    """Return random groups of ``size`` patches, in as few divisions of the slide as hold 40 of them, and their number."""
    random = np.random.default_rng(0)
    found, missing = [], _DRAWS
    while missing:
        used = min(missing, n // size)
        of = np.full(n, used)
        of[random.permutation(n)[: used * size]] = np.repeat(np.arange(used), size)
        found.append((Groups(of, used + 1), used))
        missing -= used
    return found


def _state(prediction: Prediction) -> State:
    state = state_of(prediction)
    if state is None:
        raise BundleError("This prediction was loaded or made without its models", "Predict again first")
    return state


def _cases(state: State) -> list[FoldCase]:
    predictor = state.predictor
    bag = torch.from_numpy(np.asarray(state.features.features, np.float32)).to(predictor.device)[None]
    genomic = predictor.inputs.genomic(state.patient.expression)
    return [
        FoldCase(model, fold, bag, predictor.inputs.clinic(state.patient, number), genomic[number])
        for number, (model, fold) in enumerate(zip(predictor.models, state.folds, strict=True))
    ]


def _taken(indices: ArrayLike, n: int) -> NDArray[np.bool_]:
    given = np.asarray(indices)
    if given.size == 0:
        return np.zeros(n, bool)
    if given.dtype == bool and given.shape == (n,):
        return given
    if given.ndim != 1 or given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= n:
        raise FeatureError(
            f"The patches are numbered from 0 to {n - 1}", "Give numbers of patches, or a mask"
        )
    mask = np.zeros(n, bool)
    mask[given] = True
    return mask


def _of_all(state: State, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask over the shown slide as one over all patches of the patient."""
    if state.part is None:
        return mask
    every = np.zeros(len(state.features.grid), bool)
    every[rows_of(state.features.parts, state.part)] = mask
    return every


def _kept_features(features: PatchFeatures, left: NDArray[np.bool_]) -> PatchFeatures:
    parts = tuple(
        dataclasses.replace(part, grid=_kept(part.grid, left[rows_of(features.parts, number)]))
        for number, part in enumerate(features.parts)
    )
    return dataclasses.replace(
        features, features=features.features[left], grid=_kept(features.grid, left), parts=parts
    )


def _kept(grid: PatchGrid, left: NDArray[np.bool_]) -> PatchGrid:
    return dataclasses.replace(grid, coords=grid.coords[left])
