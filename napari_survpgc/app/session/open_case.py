"""The state of the case that is open: slide, tissue, patient, model, result, and whether they belong together."""

from __future__ import annotations

import dataclasses
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.normalize import normalize_profile
from napari_survpgc.core.predict.cache import PredictorCache
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
    PatchFeatures,
    Prediction,
    TissueMask,
)

from .state import ExpressionState, GivenFeatures, OpenedSlide, Result, word


class OpenCase(QObject):
    """See the module's docstring. Nothing here takes long; all of it belongs to the GUI thread.

    Signals
    -------
    slide_choice(SeveralSlidesError, take) : a folder of several slides; ``take`` is called with the path of the chosen one.
    slide_leaves : the open slide is about to be replaced or closed.
    slide_changed : a slide was opened, closed or given its pixel size.
    tissue_changed, patient_changed, bundle_changed, features_changed.
    result_changed : new result, what-if or none.   stale_changed.
    attribution_changed : the contributions of a what-if have come.
    stain_doubted(StainError) : Run was asked for on a slide that is no H&E; it waits for :attr:`any_stain`.
    patch_selected(int) : index, -1 for none.
    slide_missing(Path) : the slide of this case file is not where it should be.

    Attributes
    ----------
    predictors : the models in memory, of whoever asked last.
    predictor : the models of the last run, None when bundle or device have changed since.
    record_of_result : the patient at Run; ``record`` is what is asked about now.
    awaiting_model : a reopened case whose model is not ready yet.
    """

    slide_choice = Signal(object, object)
    slide_leaves = Signal()
    slide_changed = Signal()
    tissue_changed = Signal()
    patient_changed = Signal()
    bundle_changed = Signal()
    features_changed = Signal()
    result_changed = Signal()
    stale_changed = Signal()
    stain_doubted = Signal(object)
    attribution_changed = Signal()
    patch_selected = Signal(int)
    slide_missing = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.opened: OpenedSlide | None = None
        self.name = ""
        self.tissue: TissueMask | None = None
        self.record = ClinicalRecord()
        self.expression: ExpressionState | None = None
        self.bundle: Bundle | None = None
        self.device = "auto"
        self.predictors = PredictorCache()
        self.predictor: Predictor | None = None
        self.any_stain = False  # a person has said to go on with this slide, which is no H&E
        self.given_features: GivenFeatures | None = None
        self.features: PatchFeatures | None = None
        self.result: Result | None = None
        self.record_of_result: ClinicalRecord | None = None
        self.programme_shifts: dict[str, float] = {}
        self.stale = False
        self.awaiting_model = False
        self.patch = -1
        self.view_settings: dict[str, Any] = {}
        self._closed = False

    # --- slide ---------------------------------------------------------------------------------------------

    def adopt(self, opened: OpenedSlide) -> None:
        """Take over an open slide as the case's slide; results of another slide go."""
        if self._closed:
            opened.close()
            return
        before = self.opened
        if (
            before is not None
            and self.result is not None
            and before.slide.info.fingerprint != opened.slide.info.fingerprint
        ):
            # Another slide is another patient: nobody's fields may slip into somebody else's result.
            self.take_patient(ClinicalRecord(), None)
        self.name = opened.slide.info.path.stem
        self._change_slide(opened)

    def close_slide(self) -> None:
        """Release the slide, e.g. because its layer was deleted."""
        if self.opened is not None:
            self._change_slide(None)

    def _change_slide(self, opened: OpenedSlide | None) -> None:
        self.slide_leaves.emit()
        if self.opened is not None and self.opened is not opened:
            self.opened.close()
        self.opened, self.tissue = opened, None
        self.any_stain = False
        self.take_features(None)
        self.features = self.record_of_result = None
        self.awaiting_model = False
        self.programme_shifts = {}
        self.patch = -1
        self._set_result(None)
        self.patch_selected.emit(-1)
        self.slide_changed.emit()
        self.tissue_changed.emit()

    def close(self) -> None:
        """Release the slide for good and without a signal: the window closes."""
        self._closed = True
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def set_tissue(self, mask: TissueMask) -> None:
        """Use these outlines from now on; a result made with others is out of date."""
        self.tissue = mask
        self.tissue_changed.emit()
        self.mark_stale()

    def take_features(self, given: GivenFeatures | None) -> None:
        """Use a feature file for the open slide from now on; None: compute them."""
        if given != self.given_features:
            self.given_features = given
            self.features_changed.emit()
            self.mark_stale()

    def select_patch(self, index: int) -> None:
        """Select a patch (-1: none)."""
        self.patch = index
        self.patch_selected.emit(index)

    # --- patient and model ---------------------------------------------------------------------------------

    @property
    def profile(self) -> ExpressionProfile | None:
        return self.expression.profile if self.expression else None

    def take_patient(self, record: ClinicalRecord, profile: ExpressionProfile | None) -> None:
        """Take over the patient of another slide, of whom there is no result yet."""
        self.record = record
        self.expression = self._examine(profile)
        self.patient_changed.emit()

    def set_record(self, record: ClinicalRecord) -> None:
        """Replace the record, e.g. from a file: another patient, so an earlier result is out of date."""
        self.record = record
        self.patient_changed.emit()
        self.mark_stale()

    def set_profile(self, profile: ExpressionProfile | None) -> None:
        """Use this expression; None for a patient without."""
        self.expression = self._examine(profile)
        self.patient_changed.emit()
        self.mark_stale()

    def _examine(self, profile: ExpressionProfile | None) -> ExpressionState | None:
        if profile is None:
            return None
        reference = self.bundle.gene_reference if self.bundle else None
        if reference is None:
            return ExpressionState(profile, None, f"{len(profile.values)} genes, {profile.unit}")
        try:
            found = normalize_profile(profile, reference)
        except ExpressionError as error:
            return ExpressionState(profile, None, "", str(error))
        note = f"{len(found.found)} of the model's {len(reference.genes)} genes; unit {profile.unit}"
        return ExpressionState(profile, found.overlap, note)

    def set_bundle(self, bundle: Bundle | None) -> None:
        self.bundle = bundle
        self.predictor = None
        self.expression = self._examine(self.profile)
        self.bundle_changed.emit()
        self.patient_changed.emit()
        self.mark_stale()

    def set_device(self, device: str) -> None:
        if device != self.device:
            self.device = device
            self.predictor = None

    # --- result --------------------------------------------------------------------------------------------

    def take_result(
        self,
        prediction: Prediction,
        maps: AttentionMaps,
        record: ClinicalRecord,
        features: PatchFeatures | None,
    ) -> None:
        """Show a new result, and what it was made from: what-if starts there."""
        self.features, self.record_of_result = features, record
        self.programme_shifts = {}
        self._set_result(Result(prediction, prediction, maps))

    def show_anyway(self) -> None:
        """Show risk, group and curve of a case that is outside what the model knows."""
        if self.result is not None and self.result.withheld:
            self.show(dataclasses.replace(self.result, anyway=True))

    def _set_result(self, result: Result | None) -> None:
        self.stale = False
        self.show(result)
        self.stale_changed.emit()

    def show(self, result: Result | None) -> None:
        """Show another answer about the same run."""
        self.result = result
        self.result_changed.emit()

    def mark_stale(self) -> None:
        """Something that a result was made from has changed."""
        if self.result is not None and not self.stale:
            self.stale = True
            self.stale_changed.emit()

    def changes(self) -> tuple[str, ...]:
        """Return what differs from the patient at Run, in words."""
        if self.record_of_result is None:
            return ()
        before, now = dataclasses.asdict(self.record_of_result), dataclasses.asdict(self.record)
        words = [
            f"{name.replace('_', ' ')}: {word(before[name])} → {word(now[name])}"
            for name in before
            if before[name] != now[name]
        ]
        words += [
            f"{name.replace('_', ' ')} {shift:+.1f} SD" for name, shift in self.programme_shifts.items()
        ]
        return tuple(words)
