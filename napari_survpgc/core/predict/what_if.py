"""The same case again with other fields or genes, its contributions, and one slide of several."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.errors import BundleError, FeatureError
from napari_survpgc.core.features.joined import rows_of
from napari_survpgc.core.models.base import GenomicInput
from napari_survpgc.core.threads import one_core
from napari_survpgc.core.types import (
    Attribution,
    ClinicalRecord,
    Prediction,
    ProgressCallback,
    SlideInfo,
)

from .attribution import average_attributions
from .predictor import State, state_of


def what_if(
    prediction: Prediction,
    fields: Mapping[str, object] | ClinicalRecord | None = None,
    genes: Mapping[str, float] | None = None,
    gene_sets: Mapping[str, float] | None = None,
    *,
    latest: Prediction | None = None,
) -> Prediction:
    """Predict again with some fields or genes changed, recomputing only the path whose input changed.

    Parameters
    ----------
    prediction : made with ``keep_state=True`` (the default), or by this function.
    fields : clinical field -> new value (None for unknown), validated like a record; or the whole new record.
    genes : gene symbol -> new z-score.
    gene_sets : gene-set name -> shift of all its genes, in standard deviations, relative to ``prediction``.
    latest : an earlier answer for ``prediction``; a path whose input is the same as there is taken from it.

    Returns
    -------
    Prediction without attribution; it can be changed again.

    Raises
    ------
    ClinicalError : a value makes no sense.   ExpressionError : the model does not know the gene or gene set.
    BundleError : the prediction was made without state.
    """
    state = state_of(prediction)
    if state is None:
        raise BundleError("This prediction was loaded or made without its models", "Predict again first")
    predictor, patient = state.predictor, state.patient
    if fields:
        record = (
            fields
            if isinstance(fields, ClinicalRecord)
            else parse_record({**dataclasses.asdict(patient.record), **fields})
        )
        if record != patient.record:
            with one_core() if predictor.device.type == "cpu" else nullcontext():
                patient = predictor.inputs.with_record(patient, record)
    if genes or gene_sets:
        expression = predictor.inputs.changed_expression(patient, genes or {}, gene_sets or {})
        patient = dataclasses.replace(patient, expression=expression)
    earlier = [(p, s) for p in (prediction, latest) if p is not None and (s := _state_of_case(p, state))]
    clinic = next(((p, s) for p, s in earlier if s.patient.record == patient.record), None)
    genomic = next(((p, s) for p, s in earlier if _equal(s.patient.expression, patient.expression)), None)
    changed = predictor.changed(
        state,
        patient,
        None if clinic is None else clinic[1],
        None if genomic is None else genomic[1],
    )
    same = {}
    if predictor.two_paths:
        for name, source in (("clinic", clinic), ("genomic", genomic)):
            if source is not None and name in source[0].attention:
                same[name] = source[0].attention[name]
    return predictor.answer(changed, None, True, same)


def _state_of_case(prediction: Prediction, case: State) -> State | None:
    """Return what ``prediction`` keeps, when it is of the same models and features as ``case``."""
    state = state_of(prediction)
    if state is None or state.predictor is not case.predictor or state.features is not case.features:
        return None
    return state


def _equal(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def for_slide(prediction: Prediction, info: SlideInfo) -> Prediction:
    """Return a prediction from several slides with the attention over one of them; risk and all else stay.

    What-if goes on from all slides. A prediction from one slide is returned as it is.

    Raises
    ------
    BundleError : the prediction was made without state.   FeatureError : the slide is not one of them.
    """
    state = state_of(prediction)
    if state is None:
        raise BundleError("This prediction was loaded or made without its models", "Predict again first")
    parts = state.features.parts
    if not parts or state.part is not None:
        return prediction
    found = [i for i, part in enumerate(parts) if part.fingerprint == info.fingerprint]
    if not found:
        raise FeatureError(
            f"{info.path.name} is none of the slides of this result", "Choose one that it was made from"
        )
    number = next((i for i in found if parts[i].name == info.path.name), found[0])
    one = dataclasses.replace(state, part=number, info=info)
    rows = rows_of(parts, number)
    return dataclasses.replace(
        prediction,
        attention={name: matrix[:, rows] for name, matrix in prediction.attention.items()},
        coords=parts[number].grid.coords,
        patch_px_level0=parts[number].grid.patch_px_level0,
        # Measured over all slides together, as the risk is.
        provenance={**one.provenance, **{k: v for k, v in prediction.provenance.items() if k == "map_trust"}},
        warnings=tuple(
            warning
            for old in prediction.warnings
            for warning in (one.joint_warning if (old,) == state.joint_warning else (old,))
        ),
        state=one,
    )


def attribute(prediction: Prediction, progress: ProgressCallback | None = None) -> Attribution:
    """Return what each path and token contributes to the risk of a what-if, as :meth:`Predictor.predict` does at first.

    Parameters
    ----------
    progress : called before each step of each fold model; what it raises ends the work.

    Raises
    ------
    BundleError : the prediction was made without state.
    """
    state = state_of(prediction)
    if state is None:
        raise BundleError("This prediction was loaded or made without its models", "Predict again first")
    predictor, patient = state.predictor, state.patient
    pathology = torch.from_numpy(np.asarray(state.features.features, np.float32)).to(predictor.device)[None]
    genomic = predictor.inputs.genomic(patient.expression)
    average: tuple[GenomicInput | None, ...] = (None,) * len(state.folds)
    if patient.expression is not None:
        assert predictor.bundle.gene_reference is not None
        average = predictor.inputs.genomic(predictor.bundle.gene_reference.average())
    found: list[Attribution] = []

    def step() -> None:
        if progress:
            progress("attribution", len(found), len(state.folds))

    for number, fold in enumerate(state.folds):
        step()
        found.append(
            predictor.attribution(number, fold, patient, pathology, genomic[number], average[number], step)
        )
    return average_attributions(found)
