"""Slide features + patient + bundle -> :class:`Prediction`, with what :mod:`.what_if` needs to answer again.

The pathology part of a fold model (projection and normalisation of all patches) does not depend on the patient's
record or genes, and each of the two paths of SurvPGC sees only one of them. :func:`what_if` therefore keeps the
first and recomputes only the path whose input changed. Models without two paths are run again as a whole.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.bundle.answer import answer
from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.encoders.base import resolve_device
from napari_survpgc.core.features.joined import rows_of
from napari_survpgc.core.groups import risk_groups, risk_percentile
from napari_survpgc.core.models.base import GenomicInput, TwoPathModel
from napari_survpgc.core.survival import hazards as hazards_of
from napari_survpgc.core.survival import risk as risk_of
from napari_survpgc.core.survival import survival as survival_of
from napari_survpgc.core.threads import side_by_side
from napari_survpgc.core.types import (
    CLINICAL_FIELDS,
    Attribution,
    ClinicalRecord,
    ExpressionProfile,
    InputForm,
    PatchFeatures,
    PatchGrid,
    Prediction,
    ProgressCallback,
    SlideInfo,
)

from .attribution import average_attributions, logits_of, path_attribution, token_attribution
from .fit import FeatureFit, check_features
from .fold_run import FoldState, run_fold
from .left_out import FoldCase
from .patient import Patient, PatientInputs
from .trust import map_trust
from .words import doubts_of, general_warnings, joint_warning, no_maps, provenance

R = TypeVar("R")
MAX_STATE_BYTES = 2 << 30
"""Projected patches above this size are not kept for what-if; they are computed again then."""


@dataclass(frozen=True)
class State:
    """Everything that what-if re-uses; see :func:`state_of`."""

    predictor: Predictor
    patient: Patient
    features: PatchFeatures
    info: SlideInfo | None
    folds: tuple[FoldState, ...]
    slide_warnings: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()  # why no answer is given
    doubts: tuple[str, ...] = ()
    part: int | None = None  # the slide of several that is shown; None for all

    @property
    def grid(self) -> PatchGrid:
        """Of the slide that is shown."""
        return self.features.grid if self.part is None else self.features.parts[self.part].grid

    @property
    def provenance(self) -> dict[str, Any]:
        predictor = self.predictor
        made = provenance(predictor.bundle, predictor.device, self.grid, self.info, self.features.parts)
        return {**made, "expression_sample": self.patient.expression_sample}

    @property
    def joint_warning(self) -> tuple[str, ...]:
        return joint_warning(self.features.parts, self.part)


def state_of(prediction: Prediction) -> State | None:
    """Return what a prediction keeps in memory; None for one that was loaded or made without its models."""
    return prediction.state if isinstance(prediction.state, State) else None


class Predictor:
    """The fold models of a bundle on one device, ready for any number of patients.

    Parameters
    ----------
    bundle : see :func:`napari_survpgc.core.bundle.bundle.load_bundle`.
    device : "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    BundleError : the weights were changed or do not fit.
    """

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        self.bundle = bundle
        self.device = resolve_device(
            device.partition(",")[0]
        )  # of several, which only the image encoder uses
        self.models = bundle.load_models(self.device)
        self.inputs = PatientInputs(bundle, self.device, self.models[0].GENOMIC)

    def prepare_patient(self, record: ClinicalRecord, profile: ExpressionProfile | None) -> Patient:
        """See :meth:`napari_survpgc.core.predict.patient.PatientInputs.prepare`."""
        return self.inputs.prepare(record, profile)

    def check_features(self, features: PatchFeatures, info: SlideInfo | None) -> FeatureFit:
        """See :func:`napari_survpgc.core.predict.fit.check_features`."""
        return check_features(self.bundle, features, info)

    def predict(
        self,
        patient: Patient,
        features: PatchFeatures,
        info: SlideInfo | None = None,
        *,
        warnings: Sequence[str] = (),
        attribution: bool = True,
        keep_state: bool = True,
        trust: bool = True,
        progress: ProgressCallback | None = None,
    ) -> Prediction:
        """Run every fold model on one case.

        Parameters
        ----------
        warnings : about the slide, from the earlier steps; they come first.
        attribution : also run integrated gradients (seconds, not milliseconds).
        progress : is called on several threads, one after the other; what it raises ends the work, also within a fold model.
        keep_state : keep what :func:`what_if` needs.
        trust : measure how far each map can be trusted (``provenance["map_trust"]``).

        Raises
        ------
        FeatureError : the features do not fit (see :meth:`check_features`).
        """
        fit = self.check_features(features, info)
        pathology = torch.from_numpy(np.asarray(features.features, np.float32)).to(self.device)[None]
        genomic = self.inputs.genomic(patient.expression, progress)
        genomic_average: tuple[GenomicInput | None, ...] = (None,) * len(self.models)
        if attribution and patient.expression is not None:
            assert self.bundle.gene_reference is not None
            genomic_average = self.inputs.genomic(self.bundle.gene_reference.average(), progress)
        size = (
            len(self.models) * len(features.grid) * int(self.bundle.config.model_config.get("dim", 256)) * 4
        )

        def run(number: int) -> tuple[FoldState, Attribution | None]:
            fold = run_fold(
                self.models[number], pathology, self.inputs.clinic(patient, number), genomic[number]
            )
            found = None
            if attribution:
                found = self.attribution(
                    number, fold, patient, pathology, genomic[number], genomic_average[number], step
                )
            return fold if size <= MAX_STATE_BYTES else dataclasses.replace(fold, patches=None), found

        ready = 0
        one_at_a_time = threading.Lock()

        def done(count: int) -> None:
            nonlocal ready
            ready = count
            step()

        def step() -> None:
            if progress:
                with one_at_a_time:
                    progress("prediction", ready, len(self.models))

        done(0)
        found = self._each_fold(run, done)
        folds = [fold for fold, _ in found]
        attributions = [one for _, one in found if one is not None]
        state = State(
            self,
            patient,
            features,
            info,
            tuple(folds),
            slide_warnings=(*warnings, *fit.warnings),
            outside=fit.outside,
            doubts=doubts_of(self.bundle, patient, features.grid, info),
        )
        averaged = average_attributions(attributions) if attributions else None
        prediction = self.answer(state, averaged, keep_state)
        if not trust or not prediction.attention:
            return prediction
        cases = [
            FoldCase(model, fold, pathology, self.inputs.clinic(patient, number), genomic[number])
            for number, (model, fold) in enumerate(zip(self.models, folds, strict=True))
        ]
        measured = map_trust(cases, prediction.attention, prediction.risk, self._each_fold)
        return dataclasses.replace(prediction, provenance={**prediction.provenance, "map_trust": measured})

    def attribution(
        self,
        number: int,
        fold: FoldState,
        patient: Patient,
        pathology: Tensor,
        genomic: GenomicInput | None,
        genomic_average: GenomicInput | None,
        step: Callable[[], object],
    ) -> Attribution:
        model = self.models[number]
        encodings = self.bundle.config.clinical_encodings
        tokens = token_attribution(
            logits_of(model, pathology, fold.patches),
            clinic=self.inputs.clinic(patient, number),
            clinic_baseline=self.inputs.clinic(patient, number, unknown=True),
            genomic=genomic,
            genomic_baseline=genomic_average,
            clinic_names=encodings[number].fields_of_columns if encodings else CLINICAL_FIELDS,
            genomic_names=self.token_names["genomic"],
            step=step,
        )
        if fold.clinic is None or fold.genomic is None or not isinstance(model, TwoPathModel):
            return tokens
        paths = path_attribution(model, fold.clinic, fold.genomic)
        return Attribution(
            paths=paths.paths,
            tokens=tokens.tokens,
            completeness_error={**paths.completeness_error, **tokens.completeness_error},
        )

    @property
    def token_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the rows of the two attention matrices."""
        spec = self.bundle.config.encoders.get("genomic")
        genomic = tuple(f"gene {i + 1}" for i in range(spec.n_tokens if spec else 0))
        if self.models[0].GENOMIC is InputForm.VECTOR:
            genomic = ("expression",)
        elif self.models[0].GENOMIC is InputForm.GENE_SETS:
            genomic = tuple(s.name for s in self.bundle.gene_sets)
        clinic = ("record",) if self.bundle.config.clinical_encodings else CLINICAL_FIELDS
        return {"clinic": clinic, "genomic": genomic}

    def answer(
        self,
        state: State,
        attribution: Attribution | None,
        keep_state: bool,
        same: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
    ) -> Prediction:
        """Return what the folds say together; ``same`` is the attention that is known already, by name."""
        with torch.no_grad():
            logits = torch.cat(
                [f.logits(model) for model, f in zip(self.models, state.folds, strict=True)]
            ).double()
            hazards = hazards_of(logits)
            survival = survival_of(hazards)
            risks = risk_of(survival)
            attention = {}
            for name in ("clinic", "genomic"):
                if name in same:
                    attention[name] = same[name]
                    continue
                blocks = [block[0] for f in state.folds if (block := f.attention(name)) is not None]
                if len(blocks) == len(state.folds):
                    # By numpy: beside the folds' threads torch waits 5 ms for its own.
                    attention[name] = np.mean([block.float().cpu().numpy() for block in blocks], axis=0)
                    if state.part is not None:
                        attention[name] = attention[name][:, rows_of(state.features.parts, state.part)]
        mean_survival = survival.mean(0).cpu().numpy()
        risk = float(risks.mean())
        config = self.bundle.config
        grid = state.grid
        return Prediction(
            hazards=_implied_hazards(mean_survival),
            survival=mean_survival,
            risk=risk,
            fold_hazards=hazards.cpu().numpy(),
            fold_survival=survival.cpu().numpy(),
            fold_risks=risks.cpu().numpy(),
            bin_edges_months=np.asarray(config.bin_edges_months),
            risk_percentile=risk_percentile(risk, self.bundle.reference["risk"].to_numpy(float)),
            risk_group=str(risk_groups([risk], self.bundle.risk_cuts)[0]),
            attention=attention,
            token_names={name: names for name, names in self.token_names.items() if name in attention},
            coords=grid.coords,
            patch_px_level0=grid.patch_px_level0,
            attribution=attribution,
            provenance=state.provenance,
            warnings=(
                *general_warnings(self.bundle, state.patient.record),
                *state.joint_warning,
                *(() if attention else (no_maps(self.bundle),)),
                *state.slide_warnings,
                *state.patient.expression_warnings,
            ),
            answer=answer(self.bundle, risk, state.patient.record, state.outside, state.doubts),
            state=state if keep_state else None,
        )

    # --- what if -------------------------------------------------------------------------------------------

    def changed(self, state: State, patient: Patient, clinic: State | None, genomic: State | None) -> State:
        """Run the case again for another patient; a path whose input is that of an earlier state is taken from there."""
        inputs: tuple[GenomicInput | None, ...] = (None,) * len(self.models)
        if genomic is None or not self.two_paths:
            inputs = self.inputs.genomic(patient.expression)
        bag: Tensor | None = None
        if not self.two_paths or any(fold.patches is None for fold in state.folds):
            features = np.asarray(state.features.features, np.float32)
            bag = torch.from_numpy(features).to(self.device)[None]

        def run(number: int) -> FoldState:
            model, fold = self.models[number], state.folds[number]
            record = self.inputs.clinic(patient, number)
            if not isinstance(model, TwoPathModel):
                assert bag is not None
                return run_fold(model, bag, record, inputs[number])
            with torch.no_grad():
                patches = fold.patches
                if patches is None and (clinic is None or genomic is None):
                    assert bag is not None
                    patches = model.encode_pathology(bag)
                return FoldState(
                    fold.patches,
                    model.clinic_path(patches, record) if clinic is None else clinic.folds[number].clinic,
                    model.genomic_path(patches, inputs[number])
                    if genomic is None
                    else genomic.folds[number].genomic,
                )

        return dataclasses.replace(state, patient=patient, folds=tuple(self._each_fold(run)))

    def _each_fold(self, run: Callable[[int], R], done: Callable[[int], None] | None = None) -> list[R]:
        """Return ``run`` of the number of each fold: side by side on a processor, one after the other on a GPU."""
        numbers = range(len(self.models))
        if self.device.type == "cpu":
            return side_by_side(run, numbers, done)
        results = []
        for number in numbers:
            results.append(run(number))
            if done is not None:
                done(number + 1)
        return results

    @property
    def two_paths(self) -> bool:
        return isinstance(self.models[0], TwoPathModel)


def _implied_hazards(survival: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the hazards of a mean survival curve, h_k = 1 - S_k / S_{k-1} with S_{-1} = 1.

    The mean of the fold models' hazards would not belong to their mean survival curve; these do, so that hazards,
    survival and risk of a prediction always agree.
    """
    before = np.concatenate([[1.0], survival[:-1]])
    return 1.0 - np.divide(survival, before, out=np.zeros_like(survival), where=before > 0)


def predict(
    bundle: Bundle,
    record: ClinicalRecord,
    profile: ExpressionProfile | None,
    features: PatchFeatures,
    info: SlideInfo | None = None,
    *,
    device: str = "auto",
    attribution: bool = True,
    progress: ProgressCallback | None = None,
) -> Prediction:
    """Predict one patient from features that are there already; see :class:`Predictor` for many patients.

    Raises
    ------
    SurvPGCError : an input does not fit the bundle, in one sentence.
    """
    predictor = Predictor(bundle, device)
    patient = predictor.prepare_patient(record, profile)
    return predictor.predict(patient, features, info, attribution=attribution, progress=progress)
