"""Slide features + patient + bundle -> prediction, and the same again after a change."""

from .patches import patch_contributions, region_risks, without
from .patient import Patient, PatientInputs
from .predictor import Predictor, State, predict, state_of
from .what_if import attribute, for_slide, what_if

__all__ = [
    "Patient",
    "PatientInputs",
    "Predictor",
    "State",
    "attribute",
    "for_slide",
    "patch_contributions",
    "predict",
    "region_risks",
    "state_of",
    "what_if",
    "without",
]
