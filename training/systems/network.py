"""The torch models of core.models."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.genomics.gene_sets import composition
from napari_survpgc.core.models import model_class
from napari_survpgc.core.types import InputForm, Modality, ProgressCallback

from ..data.dataset import Dataset, InputForms
from ..fitting.fit import fit_network
from ..fitting.fold import FoldModel, FoldSplit
from ..settings import Settings
from .base import check_modalities, check_options

_FROM_DATA = ("pathology_dim", "clinic_dim", "genomic_dim", "gene_set_sizes", "composition", "n_bins")


class Network:
    """See :class:`.base.System`."""

    def __init__(self, settings: Settings) -> None:
        model = model_class(settings.model)
        self._accepted = frozenset(inspect.signature(model).parameters)
        check_options(settings, self._accepted - set(_FROM_DATA))
        optional = frozenset(str(m) for m in model.OPTIONAL)
        given = check_modalities(
            settings, frozenset(str(m) for m in model.requires(settings.model_config)), optional
        )
        lackable = {"genomic"} if settings.genomic_dropout else set()
        self.settings = settings
        self.forms = InputForms(
            modalities=given,
            optional=optional & lackable,
            clinic=model.CLINIC,
            genomic=model.GENOMIC,
            pathways="composition" in self._accepted and "genomic" in given,
        )

    def config(self, data: Dataset, n_bins: int) -> dict[str, Any]:
        sizes: dict[str, Any] = {"n_bins": n_bins}
        for modality in Modality:
            # A one-hot record is as long as its fold has levels: each fold adds its own.
            if f"{modality}_dim" in self._accepted and modality in data.encoders:
                sizes[f"{modality}_dim"] = data.encoders[modality].dim
        if data.forms.clinic is InputForm.VECTOR:
            sizes.pop("clinic_dim", None)
        if "n_genomic" in self._accepted and "genomic" in data.encoders:
            sizes["n_genomic"] = data.encoders["genomic"].n_tokens
        if "gene_set_sizes" in self._accepted:
            # An ablation without genes: the tokenizer is there but never used.
            sizes["gene_set_sizes"] = [len(s.genes) for s in data.gene_sets] or [1]
        return {**sizes, **self.settings.model_config}

    def fit(
        self,
        data: Dataset,
        split: FoldSplit,
        config: Mapping[str, Any],
        out: Path,
        progress: ProgressCallback | None = None,
    ) -> FoldModel:
        sizes = dict(config)
        if data.forms.pathways:
            assert data.gene_reference is not None
            sizes["composition"] = composition(data.gene_reference.genes, data.gene_sets)
        try:
            return fit_network(data, split, self.settings, sizes, out, progress)
        except (TypeError, ValueError) as error:
            raise CohortError(
                f"The model {self.settings.model} cannot be built or run ({error})", "Correct model_config"
            ) from error


def build(settings: Settings) -> Network:
    """Return the network that the settings name."""
    return Network(settings)


def as_part(settings: Settings, model: str, config: Mapping[str, Any]) -> Network:
    """Return a network that is one part of another system."""
    return Network(dataclasses.replace(settings, model=model, model_config=dict(config)))
