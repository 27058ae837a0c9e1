"""What a bundle says of its models: sizes, encoders, time bins, expression scale; bundle.json and back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_survpgc.core.clinical.encoding import ClinicalEncoding, encoding_from_json, encoding_to_json
from napari_survpgc.core.genomics.normalize import ExpressionScale
from napari_survpgc.core.types import ExpressionUnit, Modality

if TYPE_CHECKING:
    pass


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
    demonstration : True for a model trained on simulated patients: its risk means nothing for a real one.
    optional : modalities that a patient may lack, because the models were trained without them now and then.
    clinical_encodings : one a fold, for models that take the record as numbers; () for those that read sentences.
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
    demonstration: bool = False
    optional: tuple[str, ...] = ()
    clinical_encodings: tuple[ClinicalEncoding, ...] = ()


def config_to_json(config: BundleConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "model": {"name": config.model, "config": dict(config.model_config)},
        "encoders": {
            modality: {k: v for k, v in vars(spec).items() if v is not None}
            for modality, spec in config.encoders.items()
        },
        "bin_edges_months": list(config.bin_edges_months),
        "fold_bin_edges_months": [list(edges) for edges in config.fold_bin_edges_months],
        "endpoint": config.endpoint,
        "cohort": config.cohort,
        "vocabulary": {name: list(values) for name, values in config.vocabulary.items()},
        "training": dict(config.training),
        "expression": {
            "clip": config.expression_clip,
            "min_gene_overlap": config.min_gene_overlap,
            **scale_to_json(config.expression_scale),
        },
        "demonstration": config.demonstration,
        "optional": list(config.optional),
        "clinical_encodings": [encoding_to_json(e) for e in config.clinical_encodings],
        "research_use_only": True,
    }


def config_from_json(document: Mapping[str, Any]) -> BundleConfig:
    edges = _edges(document["bin_edges_months"])
    model = document["model"]
    if not isinstance(model["config"], dict):
        raise TypeError("model sizes are not an object")
    encoders = {
        str(modality): EncoderSpec(
            id=str(spec["id"]),
            dim=int(spec["dim"]),
            n_tokens=int(spec.get("n_tokens", 0)),
            patch_px=int(spec["patch_px"]) if "patch_px" in spec else None,
            mpp=float(spec["mpp"]) if "mpp" in spec else None,
        )
        for modality, spec in document["encoders"].items()
    }
    unknown = set(encoders) - set(Modality)
    if unknown or not encoders:
        raise ValueError(f"unknown modalities {sorted(unknown)}")
    expression = document["expression"]
    return BundleConfig(
        name=str(document["name"]),
        model=str(model["name"]),
        model_config=model["config"],
        encoders=encoders,
        bin_edges_months=edges,
        fold_bin_edges_months=tuple(_edges(e) for e in document["fold_bin_edges_months"]),
        endpoint=str(document["endpoint"]),
        cohort=str(document["cohort"]),
        vocabulary={str(k): tuple(str(v) for v in values) for k, values in document["vocabulary"].items()},
        training=dict(document["training"]),
        expression_clip=float(expression["clip"]),
        min_gene_overlap=float(expression["min_gene_overlap"]),
        expression_scale=scale_from_json(expression),
        demonstration=bool(document["demonstration"]),
        optional=tuple(str(m) for m in document.get("optional", ())),
        clinical_encodings=tuple(encoding_from_json(e) for e in document.get("clinical_encodings", ())),
    )


def scale_to_json(scale: ExpressionScale | None) -> dict[str, Any]:
    """Return the entries of a document that hold the scale; none without one."""
    return {} if scale is None else {"unit": str(scale.unit), "reference_total": scale.total}


def scale_from_json(document: Mapping[str, Any]) -> ExpressionScale | None:
    """Read what :func:`scale_to_json` wrote; ValueError for what makes no sense."""
    if "reference_total" not in document:
        return None
    scale = ExpressionScale(ExpressionUnit(document["unit"]), float(document["reference_total"]))
    if scale.unit not in (ExpressionUnit.COUNTS, ExpressionUnit.TPM):
        raise ValueError(f"no unit of a scale: {scale.unit}")
    if not (math.isfinite(scale.total) and scale.total > 0):
        raise ValueError("the reference total must be a positive number")
    return scale


def _edges(values: Any) -> tuple[float, ...]:
    edges = tuple(float(v) for v in values)
    increasing = all(a < b for a, b in itertools.pairwise(edges))
    if not 2 <= len(edges) <= 1000 or not all(math.isfinite(e) for e in edges) or not increasing:
        raise ValueError("bin edges must be finite and increasing")
    return edges
