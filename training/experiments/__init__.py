"""Tables and figures of the paper, one a file with ``make(plan) -> Product``; only the chosen one is imported."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_survpgc.core.errors import CohortError

if TYPE_CHECKING:
    from ..tables.plan import Plan
    from ..tables.table_writer import Product

EXPERIMENTS: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
"""Every file of this folder."""


def find_experiment(name: str) -> Callable[[Plan], Product]:
    """Return what makes a table or figure; CohortError lists the known names."""
    if name not in EXPERIMENTS:
        raise CohortError(
            f"There is no table or figure named {name}", f"Choose from {', '.join(EXPERIMENTS)}"
        )
    return importlib.import_module(f".{name}", __name__).make
