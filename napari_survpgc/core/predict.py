"""Slide features + patient + bundle -> :class:`Prediction`, and the same again after a change ("what if").

The pathology part of a fold model (projection and normalisation of all patches) does not depend on the patient's
record or genes, and each of the two paths of SurvPGC sees only one of them. :func:`what_if` therefore keeps the
first and recomputes only the path whose input changed. Models without two paths are run again as a whole.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc import __version__

from .attribution import average_attributions, logits_of, path_attribution, token_attribution
from .bundle import UNKNOWN_ENCODER, Bundle, EncoderSpec
from .clinical import (
    field_warnings,
    parse_record,
    unknown_fields,
)
from .drift import drift
from .encoders.base import resolve_device
from .errors import BundleError, FeatureError
from .groups import risk_groups, risk_percentile
from .joined import rows_of
from .models.base import GenomicInput, ModelOutput, PathOutput, SurvivalModel, TwoPathModel
from .patient import Patient, PatientInputs
from .survival import hazards as hazards_of
from .survival import risk as risk_of
from .survival import survival as survival_of
from .threads import one_core, side_by_side
from .types import (
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

R = TypeVar("R")
MAX_STATE_BYTES = 2 << 30
"""Projected patches above this size are not kept for what-if; they are computed again then."""


@dataclass(frozen=True)
class _FoldState:
    """What one fold model has computed for a case: its two paths, or the whole output of a model without them."""

    patches: Any  # the model's own pathology state, or None when it was too large to keep
    clinic: PathOutput | None
    genomic: PathOutput | None
    whole: ModelOutput | None = None

    def logits(self, model: SurvivalModel) -> Tensor:
        """Return (1, n_bins)."""
        if self.whole is not None:
            return self.whole.logits
        assert isinstance(model, TwoPathModel)
        assert self.clinic is not None
        assert self.genomic is not None
        return model.head(model.embed(self.clinic, self.genomic))

    def attention(self, name: str) -> Tensor | None:
        """Return (1, rows, n_p) of "clinic" or "genomic" over the patches; None where there is none."""
        if self.whole is not None:
            return self.whole.attention.get(f"{name}_to_pathology")
        path: PathOutput | None = getattr(self, name)
        return None if path is None else path.to_pathology


@dataclass(frozen=True)
class _State:
    """Everything that what-if re-uses."""

    predictor: Predictor
    patient: Patient
    features: PatchFeatures
    info: SlideInfo | None
    folds: tuple[_FoldState, ...]
    slide_warnings: tuple[str, ...] = field(default=())
    part: int | None = None  # the slide of several that is shown; None for all


class Predictor:
    """The fold models of a bundle on one device, ready for any number of patients.

    Parameters
    ----------
    bundle : see :func:`napari_survpgc.core.bundle.load_bundle`.
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
        """See :meth:`napari_survpgc.core.patient.PatientInputs.prepare`."""
        return self.inputs.prepare(record, profile)

    # --- the case ------------------------------------------------------------------------------------------

    def check_features(self, features: PatchFeatures, info: SlideInfo | None) -> tuple[str, ...]:
        """Refuse features that do not fit the bundle or the slide; return what is worth a warning.

        Raises
        ------
        FeatureError : another encoder, another width, another slide.
        """
        spec = self.bundle.config.encoders.get("pathology")
        if spec is None:
            return ()
        width = features.features.shape[1]
        again = f"Make them again with 'survpgc features --encoder {spec.id}{_cut(spec)}', or choose another bundle"
        if spec.id == UNKNOWN_ENCODER:
            again = (
                "Give features of the encoder that its training data were made with, or choose another bundle"
            )
        elif features.encoder is not None and features.encoder != spec.id:
            raise FeatureError(
                f"The features were made with the encoder {features.encoder}, but bundle"
                f" {self.bundle.path.name} was trained with {spec.id}",
                again,
            )
        if width != spec.dim:
            raise FeatureError(
                f"The features are {width} numbers wide, but bundle {self.bundle.path.name} was trained with"
                f" {spec.dim} ({spec.id})",
                again,
            )
        if len(features.grid) == 0:
            raise FeatureError("The feature file holds no patch", "Make the features again")
        if info is not None and features.slide_fingerprint not in (None, info.fingerprint):
            raise FeatureError(
                f"The features were made from another slide than {info.path.name}",
                "Give the features of this slide, or leave --features out to make them",
            )
        warnings = []
        if spec.id == UNKNOWN_ENCODER:
            warnings.append(
                f"The bundle does not know which encoder its training features were made with; {features.encoder or 'the'}"
                " features are taken because of their width."
            )
        elif features.encoder is None:
            warnings.append(
                f"The feature file does not say which encoder made it; {spec.id} is assumed from its width."
            )
        mpp = features.grid.mpp
        if spec.mpp and np.isfinite(mpp) and abs(mpp / spec.mpp - 1) > 0.1:
            warnings.append(
                f"Patches were taken at {mpp:g} µm/px, the model was trained at {spec.mpp:g} µm/px."
            )
        side = features.grid.patch_px
        if spec.patch_px and side and np.isfinite(mpp) and side != spec.patch_px:
            warnings.append(
                f"Patches are {side} px wide, the model was trained on patches of {spec.patch_px} px."
            )
        if self.bundle.feature_profile is not None:
            found = drift(self.bundle.feature_profile, features.features)
            if found.unlike:
                warnings.append(found.describe())
        return tuple(warnings)

    def predict(
        self,
        patient: Patient,
        features: PatchFeatures,
        info: SlideInfo | None = None,
        *,
        warnings: Sequence[str] = (),
        attribution: bool = True,
        keep_state: bool = True,
        progress: ProgressCallback | None = None,
    ) -> Prediction:
        """Run every fold model on one case.

        Parameters
        ----------
        warnings : about the slide, from the earlier steps; they come first.
        attribution : also run integrated gradients (seconds, not milliseconds).
        progress : is called on several threads, one after the other; what it raises ends the work, also within a fold model.
        keep_state : keep what :func:`what_if` needs.

        Raises
        ------
        FeatureError : the features do not fit (see :meth:`check_features`).
        """
        slide_warnings = (*warnings, *self.check_features(features, info))
        pathology = torch.from_numpy(np.asarray(features.features, np.float32)).to(self.device)[None]
        genomic = self.inputs.genomic(patient.expression, progress)
        genomic_average = None
        if attribution and patient.expression is not None:
            assert self.bundle.gene_reference is not None
            genomic_average = self.inputs.genomic(self.bundle.gene_reference.average(), progress)
        size = (
            len(self.models) * len(features.grid) * int(self.bundle.config.model_config.get("dim", 256)) * 4
        )

        def run(number: int) -> tuple[_FoldState, Attribution | None]:
            fold = _run(self.models[number], pathology, self.inputs.clinic(patient, number), genomic)
            found = None
            if attribution:
                found = self._attribution(number, fold, patient, pathology, genomic, genomic_average, step)
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
        state = _State(self, patient, features, info, tuple(folds), slide_warnings)
        averaged = average_attributions(attributions) if attributions else None
        return self._prediction(state, averaged, keep_state)

    def _attribution(
        self,
        number: int,
        fold: _FoldState,
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

    def _prediction(
        self,
        state: _State,
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
        grid = _shown_grid(state)
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
            provenance=self._provenance(state),
            warnings=(
                *self._general_warnings(state.patient.record),
                *_joint_warning(state),
                *(() if attention else (self._no_maps,)),
                *state.slide_warnings,
                *state.patient.expression_warnings,
            ),
            state=state if keep_state else None,
        )

    @property
    def _no_maps(self) -> str:
        return f"The model {self.bundle.config.model} has no attention of record or genes over the slide: there are no maps."

    def _general_warnings(self, record: ClinicalRecord) -> tuple[str, ...]:
        warnings = []
        if self.bundle.config.demonstration:
            warnings.append(
                "This model was trained on simulated patients to show how the program works:"
                " its risk means nothing for a real patient."
            )
        strange = {name for e in self.bundle.config.clinical_encodings for name in e.unseen(record)}
        if strange:
            names = ", ".join(n.replace("_", " ") for n in CLINICAL_FIELDS if n in strange)
            warnings.append(f"No training patient had this value: {names}; it counts as unknown.")
        missing = unknown_fields(record)
        if missing and "clinic" in self.bundle.config.encoders:
            warnings.append(f"Unknown clinical fields: {', '.join(n.replace('_', ' ') for n in missing)}.")
        return (*warnings, *field_warnings(record))

    def _provenance(self, state: _State) -> dict[str, Any]:
        config, info = self.bundle.config, state.info
        slide: dict[str, Any] = {"n_patches": len(_shown_grid(state))}
        if info is not None:
            slide |= {
                "name": info.path.name,
                "fingerprint": info.fingerprint,
                "mpp": info.mpp,
                "mpp_source": str(info.mpp_source) if info.mpp_source else None,
                "vendor": info.vendor,
                "backend": info.backend,
            }
        joint = [
            {
                "name": part.name,
                "fingerprint": part.fingerprint,
                "n_patches": len(part.grid),
                "patch_px_level0": part.grid.patch_px_level0,
            }
            for part in state.features.parts
        ]
        return {
            **({"slides": joint} if joint else {}),
            "bundle": {
                "name": config.name,
                "fingerprint": self.bundle.fingerprint,
                "model": config.model,
                "cohort": config.cohort,
                "endpoint": config.endpoint,
                "n_folds": len(self.models),
                "n_reference": len(self.bundle.reference),
                "demonstration": config.demonstration,
                "version": self.bundle.version,
            },
            "encoders": {modality: spec.id for modality, spec in config.encoders.items()},
            "slide": slide,
            "device": str(self.device),
            "version": __version__,
        }

    # --- what if -------------------------------------------------------------------------------------------

    def _changed(
        self, state: _State, patient: Patient, clinic: _State | None, genomic: _State | None
    ) -> _State:
        """Run the case again for another patient; a path whose input is that of an earlier state is taken from there."""
        inputs = self.inputs.genomic(patient.expression) if genomic is None or not self._two_paths else None
        bag: Tensor | None = None
        if not self._two_paths or any(fold.patches is None for fold in state.folds):
            features = np.asarray(state.features.features, np.float32)
            bag = torch.from_numpy(features).to(self.device)[None]

        def run(number: int) -> _FoldState:
            model, fold = self.models[number], state.folds[number]
            record = self.inputs.clinic(patient, number)
            if not isinstance(model, TwoPathModel):
                assert bag is not None
                return _run(model, bag, record, inputs)
            with torch.no_grad():
                patches = fold.patches
                if patches is None and (clinic is None or genomic is None):
                    assert bag is not None
                    patches = model.encode_pathology(bag)
                return _FoldState(
                    fold.patches,
                    model.clinic_path(patches, record) if clinic is None else clinic.folds[number].clinic,
                    model.genomic_path(patches, inputs) if genomic is None else genomic.folds[number].genomic,
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
    def _two_paths(self) -> bool:
        return isinstance(self.models[0], TwoPathModel)


def _run(
    model: SurvivalModel, pathology: Tensor, clinic: Tensor | None, genomic: GenomicInput | None
) -> _FoldState:
    """Run one fold model on one case, keeping what a change does not touch."""
    with torch.no_grad():
        if isinstance(model, TwoPathModel):
            patches = model.encode_pathology(pathology)
            return _FoldState(
                patches, model.clinic_path(patches, clinic), model.genomic_path(patches, genomic)
            )
        inputs = {"pathology": pathology, "clinic": clinic, "genomic": genomic}
        taken = {str(m): inputs[str(m)] for m in model.REQUIRES}
        return _FoldState(None, None, None, model(**taken, return_attention=True))


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


def what_if(
    prediction: Prediction,
    fields: Mapping[str, object] | None = None,
    genes: Mapping[str, float] | None = None,
    gene_sets: Mapping[str, float] | None = None,
    *,
    latest: Prediction | None = None,
) -> Prediction:
    """Predict again with some fields or genes changed, recomputing only the path whose input changed.

    Parameters
    ----------
    prediction : made with ``keep_state=True`` (the default), or by this function.
    fields : clinical field -> new value (None for unknown), validated like a record.
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
    state = prediction.state
    if not isinstance(state, _State):
        raise BundleError("This prediction was loaded or made without its models", "Predict again first")
    predictor, patient = state.predictor, state.patient
    if fields:
        record = parse_record({**dataclasses.asdict(patient.record), **fields})
        if record != patient.record:
            with one_core() if predictor.device.type == "cpu" else nullcontext():
                patient = predictor.inputs.with_record(patient, record)
    if genes or gene_sets:
        expression = predictor.inputs.changed_expression(patient, genes or {}, gene_sets or {})
        patient = dataclasses.replace(patient, expression=expression)
    known = [p for p in (prediction, latest) if p is not None and _same_case(p.state, state)]
    clinic = next((p for p in known if p.state.patient.record == patient.record), None)
    genomic = next((p for p in known if _equal(p.state.patient.expression, patient.expression)), None)
    changed = predictor._changed(
        state,
        patient,
        None if clinic is None else clinic.state,
        None if genomic is None else genomic.state,
    )
    same = {}
    if predictor._two_paths:
        for name, source in (("clinic", clinic), ("genomic", genomic)):
            if source is not None and name in source.attention:
                same[name] = source.attention[name]
    return predictor._prediction(changed, None, True, same)


def for_slide(prediction: Prediction, info: SlideInfo) -> Prediction:
    """Return a prediction from several slides with the attention over one of them; risk and all else stay.

    What-if goes on from all slides. A prediction from one slide is returned as it is.

    Raises
    ------
    BundleError : the prediction was made without state.   FeatureError : the slide is not one of them.
    """
    state = prediction.state
    if not isinstance(state, _State):
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
        provenance=state.predictor._provenance(one),
        warnings=tuple(
            warning
            for old in prediction.warnings
            for warning in (_joint_warning(one) if (old,) == _joint_warning(state) else (old,))
        ),
        state=one,
    )


def _shown_grid(state: _State) -> PatchGrid:
    return state.features.grid if state.part is None else state.features.parts[state.part].grid


def _joint_warning(state: _State) -> tuple[str, ...]:
    count = len(state.features.parts)
    if not count:
        return ()
    maps = "" if state.part is None else "; the maps rank the patches of this slide among themselves"
    return (f"The risk is that of the patient's {count} slides together{maps}.",)


def _same_case(one: Any, other: _State) -> bool:
    return isinstance(one, _State) and one.predictor is other.predictor and one.features is other.features


def _equal(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def attribute(prediction: Prediction, progress: ProgressCallback | None = None) -> Attribution:
    """Return what each path and token contributes to the risk of a what-if, as :meth:`Predictor.predict` does at first.

    Parameters
    ----------
    progress : called before each step of each fold model; what it raises ends the work.

    Raises
    ------
    BundleError : the prediction was made without state.
    """
    state = prediction.state
    if not isinstance(state, _State):
        raise BundleError("This prediction was loaded or made without its models", "Predict again first")
    predictor, patient = state.predictor, state.patient
    pathology = torch.from_numpy(np.asarray(state.features.features, np.float32)).to(predictor.device)[None]
    genomic = predictor.inputs.genomic(patient.expression)
    average = None
    if patient.expression is not None:
        assert predictor.bundle.gene_reference is not None
        average = predictor.inputs.genomic(predictor.bundle.gene_reference.average())
    found: list[Attribution] = []

    def step() -> None:
        if progress:
            progress("attribution", len(found), len(state.folds))

    for number, fold in enumerate(state.folds):
        step()
        found.append(predictor._attribution(number, fold, patient, pathology, genomic, average, step))
    return average_attributions(found)


def _cut(spec: EncoderSpec) -> str:
    """Return the options that cut patches as a bundle's were cut."""
    patch_px = f" --patch-px {spec.patch_px}" if spec.patch_px else ""
    return patch_px + (f" --mpp {spec.mpp:g}" if spec.mpp else "")
