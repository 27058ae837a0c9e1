"""Every model of core.models, small, and inputs for it: made from what its class says, so that a new one needs nothing here."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from napari_survpgc.core.models import build_model, model_class
from napari_survpgc.core.models.base import SurvivalModel
from napari_survpgc.core.types import InputForm, Modality

PATHOLOGY_DIM, GENE_SET_SIZES = 20, [3, 5]
CLINIC = {InputForm.TOKENS: (6, 12), InputForm.VECTOR: (8,)}
GENOMIC = {InputForm.TOKENS: (4, 14), InputForm.VECTOR: (9,)}


def small_sizes(name: str) -> dict[str, Any]:
    """Return the settings with which a model is small."""
    kind = model_class(name)
    widths = {
        "pathology_dim": PATHOLOGY_DIM,
        "clinic_dim": CLINIC[kind.CLINIC][-1],
        "genomic_dim": GENOMIC.get(kind.GENOMIC, (0,))[-1],
        "gene_set_sizes": GENE_SET_SIZES,
    }
    accepted = inspect.signature(kind).parameters
    return {**{key: value for key, value in widths.items() if key in accepted}, **kind.SMALL}


def small_model(name: str, **more: Any) -> SurvivalModel:
    return build_model(name, **{**small_sizes(name), **more})


def small_inputs(name: str, batch: int, n_p: int, device: str = "cpu") -> dict[str, Any]:
    """Return random inputs of the modalities that a model requires."""
    torch.manual_seed(1)
    kind = model_class(name)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, device=device)

    clinic = drawn(*CLINIC[kind.CLINIC])
    every: dict[Modality, Any] = {
        Modality.PATHOLOGY: drawn(n_p, PATHOLOGY_DIM),
        Modality.CLINIC: (clinic > 0).long() if kind.CLINIC is InputForm.VECTOR else clinic,
        Modality.GENOMIC: [drawn(size) for size in GENE_SET_SIZES]
        if kind.GENOMIC is InputForm.GENE_SETS
        else drawn(*GENOMIC[kind.GENOMIC]),
    }
    return {str(modality): every[modality] for modality in kind.REQUIRES}


def token_counts(name: str, n_p: int) -> dict[str, int]:
    """Return how many tokens of each modality a model attends from or to."""
    kind = model_class(name)
    genomic = {InputForm.TOKENS: GENOMIC[InputForm.TOKENS][0], InputForm.GENE_SETS: len(GENE_SET_SIZES)}
    return {
        "pathology": n_p,
        "clinic": CLINIC[InputForm.TOKENS][0] if kind.CLINIC is InputForm.TOKENS else 1,
        "genomic": genomic.get(kind.GENOMIC, 1),
    }
