"""What every system of the trainer can do, networks and Cox models alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.types import ProgressCallback

from ..data.dataset import Dataset, InputForms
from ..fitting.fold import FoldModel, FoldSplit
from ..settings import Settings


class System(Protocol):
    """One way from a patient to a risk.

    Attributes
    ----------
    settings : of the run.   forms : what it is given.
    """

    settings: Settings
    forms: InputForms

    def config(self, data: Dataset, n_bins: int) -> dict[str, Any]:
        """Return what the models of all folds have in common, for run.json and bundles."""
        ...

    def fit(
        self,
        data: Dataset,
        split: FoldSplit,
        config: Mapping[str, Any],
        out: Path,
        progress: ProgressCallback | None = None,
    ) -> FoldModel:
        """Fit the training patients of a fold; files to resume from may be kept in ``out``."""
        ...


def check_options(settings: Settings, known: Iterable[str]) -> None:
    """Raise CohortError for an entry of model_config that the system does not have."""
    unknown = sorted(set(settings.model_config) - set(known))
    if unknown:
        raise CohortError(
            f"The model {settings.model} has no setting named {unknown[0]}",
            f"Correct model_config; it has {', '.join(sorted(known))}",
        )


def check_modalities(settings: Settings, needed: frozenset[str], optional: frozenset[str]) -> frozenset[str]:
    """Return the modalities that a system is given: those it needs, less those an ablation takes away.

    Raises
    ------
    CohortError : one that it cannot go without is taken away or dropped, or it is left with none.
    """
    given = needed & set(settings.modalities)
    missing = sorted(needed - given - optional)
    dropped = {"genomic": settings.genomic_dropout, "clinic": settings.clinic_dropout}
    rigid = [m for m, share in sorted(dropped.items()) if share and m in needed - optional]
    if missing or rigid or not given:
        raise CohortError(
            f"The model {settings.model} cannot go without {(missing or rigid or sorted(needed))[0]}",
            "Choose survpgc or survpgc_gene_sets to train with missing modalities, or leave modalities and dropout alone",
        )
    return given
