"""The models by name. Each lives in a file of its own as ``Model``; only the chosen one is imported."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from napari_survpgc.core.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from .base import SurvivalModel

MODELS: tuple[str, ...] = tuple(
    sorted(each.name for each in pkgutil.iter_modules(__path__) if each.name not in ("base", "parts"))
)
"""Every file of this folder but what models share."""


def model_class(name: str) -> type[SurvivalModel]:
    """Return the class of a model; BundleError lists the known names."""
    if name not in MODELS:
        raise BundleError(f"There is no model named {name}", f"Choose one of: {', '.join(MODELS)}")
    return importlib.import_module(f".{name}", __name__).Model


def build_model(name: str, **config: Any) -> SurvivalModel:
    """Build a model with random weights.

    Parameters
    ----------
    name : see MODELS.   config : sizes; see the class of the model.
    """
    return model_class(name)(**config)


def load_published_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights under the authors' key names; BundleError names what is missing, left over or misshapen."""
    from .base import load_published_state_dict as load

    load(model, state_dict)
