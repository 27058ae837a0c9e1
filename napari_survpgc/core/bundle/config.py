"""What a bundle says of its models: sizes, encoders, time bins, expression scale; bundle.json and back."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_survpgc.core import documents
from napari_survpgc.core.clinical.encoding import ClinicalEncoding
from napari_survpgc.core.genomics.normalize import ExpressionScale
from napari_survpgc.core.types import ExpressionUnit, Modality

UNKNOWN_ENCODER = "unknown"
"""Id of an image encoder that no feature file named."""


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoder a model was trained on.

    Attributes
    ----------
    id : of the encoder, e.g. "efficientnet-lite0", "minilm", "gene-sets".
    dim : width of a token; 0 where each token has its own width (gene sets).
    n_tokens : tokens a patient: 6 for clinic, the number of genomic tokens, 0 for patches (any number).
    patch_px, mpp : how patches were cut (image encoders only).
    """

    id: str
    dim: int
    n_tokens: int = 0
    patch_px: int | None = None
    mpp: float | None = None


@dataclass(frozen=True)
class BundleConfig:
    """Everything about a bundle that is not a weight or a table; written to bundle.json.

    Attributes
    ----------
    name : short name shown to the user.
    model, model_config : name and sizes for :func:`napari_survpgc.core.models.build_model`.
    encoders : by modality ("pathology", "clinic", "genomic"); a modality the model does not use is absent.
    bin_edges_months : (n_bins + 1,) edges shown to the user: mean over folds, 0 first, last follow-up last.
    fold_bin_edges_months : the edges each fold model was trained with.
    endpoint : e.g. "overall survival".   cohort : name.
    vocabulary : clinical field -> values seen in training.
    training : settings and cross-validated C-index, for the report.
    expression_clip : z-scores are clipped to +- this value.   min_gene_overlap : floor, 0-1.
    expression_scale : of models whose gene encoder reads expression itself; None for z-scores.
    expression_unit : of mean and sd of the genes, None for TPM; see :class:`GeneReference`.
    demonstration : True for a model trained on simulated patients: its risk means nothing for a real one.
    optional : modalities that a patient may lack, because the models were trained without them now and then.
    fold_totals : reference total of each fold model, for those whose gene encoder reads expression itself and whose
        scale is that of their own training patients; () where all share ``expression_scale``.
    clinical_encodings : one a fold, for models that take the record as numbers; () for those that read sentences.
    salt : of the hashed ids of the training patients; "" in bundles that keep none.
    """

    name: str
    model: str
    model_config: Mapping[str, Any]
    encoders: Mapping[str, EncoderSpec]
    bin_edges_months: tuple[float, ...]
    fold_bin_edges_months: tuple[tuple[float, ...], ...]
    endpoint: str
    cohort: str
    vocabulary: Mapping[str, tuple[str, ...]]
    training: Mapping[str, Any]
    expression_clip: float = 5.0
    min_gene_overlap: float = 0.5
    expression_scale: ExpressionScale | None = None
    expression_unit: ExpressionUnit | None = None
    demonstration: bool = False
    optional: tuple[str, ...] = ()
    clinical_encodings: tuple[ClinicalEncoding, ...] = ()
    salt: str = ""
    fold_totals: tuple[float, ...] = ()


def config_to_json(config: BundleConfig) -> dict[str, Any]:
    document = documents.unstructure(config)
    if not config.fold_totals:
        del document["fold_totals"]  # as bundles of one scale have always been written
    scale, unit = document.pop("expression_scale"), document.pop("expression_unit")
    if not config.salt:  # as bundles of earlier versions are written
        del document["salt"]
    document["model"] = {"name": config.model, "config": document.pop("model_config")}
    document["expression"] = {
        "clip": document.pop("expression_clip"),
        "min_gene_overlap": document.pop("min_gene_overlap"),
        **({"unit": scale["unit"], "reference_total": scale["total"]} if scale else {}),
        **({"unit": unit} if unit else {}),
    }
    for spec in document["encoders"].values():
        for name in [name for name, value in spec.items() if value is None]:
            del spec[name]
    return {**document, "research_use_only": True}


def config_from_json(document: Mapping[str, Any]) -> BundleConfig:
    """Read what :func:`config_to_json` gave; DocumentError or ValueError for anything else."""
    model, expression = document.get("model"), document.get("expression")
    if not isinstance(model, dict) or not isinstance(expression, dict):
        raise ValueError("model or expression is missing")
    flat = {
        **document,
        "model": model.get("name"),
        "model_config": model.get("config"),
        "expression_clip": expression.get("clip"),
        "min_gene_overlap": expression.get("min_gene_overlap"),
    }
    if "reference_total" in expression:
        flat["expression_scale"] = {"unit": expression.get("unit"), "total": expression["reference_total"]}
    elif "unit" in expression:
        flat["expression_unit"] = expression["unit"]
    config = documents.structure(flat, BundleConfig)
    if config.expression_unit not in (None, ExpressionUnit.COUNTS):
        raise ValueError(f"mean and sd of genes in {config.expression_unit}")
    unknown = set(config.encoders) - set(Modality)
    if unknown or not config.encoders:
        raise ValueError(f"unknown modalities {sorted(unknown)}")
    if not all(rising(edges) for edges in (config.bin_edges_months, *config.fold_bin_edges_months)):
        raise ValueError("bin edges must be finite and increasing")
    if not all(0 < total < float("inf") for total in config.fold_totals):
        raise ValueError("a reference total must be above 0")
    return config


def rising(edges: Sequence[float]) -> bool:
    """Whether the edges of bins can be used: at least one bin, each longer than nothing."""
    return 2 <= len(edges) <= 1000 and all(a < b for a, b in itertools.pairwise(edges))
