"""The systems that can be trained, by name. Each kind lives in a file of its own; only the chosen one is imported."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.models import MODELS

if TYPE_CHECKING:
    from ..settings import Settings
    from .base import System

SYSTEMS: dict[str, str] = {
    **dict.fromkeys(MODELS, "network"),
    "approach_a": "approach_a",
    "cox_clinic": "cox_clinic",
    "cox_clinic_risk": "cox_clinic_risk",
    "cox_elastic_net": "cox_elastic_net",
}


def build_system(settings: Settings) -> System:
    """Return the system that the settings name.

    Raises
    ------
    CohortError : an unknown name (the known ones are listed), or settings that the system does not have.
    """
    if settings.model not in SYSTEMS:
        raise CohortError(
            f"There is no model named {settings.model}", f"Choose one of: {', '.join(sorted(SYSTEMS))}"
        )
    return importlib.import_module(f".{SYSTEMS[settings.model]}", __name__).build(settings)
