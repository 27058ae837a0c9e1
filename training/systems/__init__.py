"""The systems that can be trained, by name. Each kind lives in a file of its own; only the chosen one is imported.

A file has ``build(settings) -> System`` and, if it is to be smaller in tests, ``SMALL``, settings for its model_config.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.models import MODELS

if TYPE_CHECKING:
    from ..settings import Settings
    from .base import System

_OWN = [m.name for m in pkgutil.iter_modules(__path__) if m.name not in ("base", "network", "parts")]
SYSTEMS: dict[str, str] = {**dict.fromkeys(MODELS, "network"), **{name: name for name in _OWN}}
"""Name -> file: every network of core.models, and every file of this folder but what systems share."""


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
    return system_module(settings.model).build(settings)


def system_module(name: str) -> ModuleType:
    """Import the file of a system."""
    return importlib.import_module(f".{SYSTEMS[name]}", __name__)
