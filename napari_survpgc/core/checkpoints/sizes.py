"""Sizes of a published model from the shapes of its weights, and its weights under our names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_survpgc.core.bundle.bundle import MAX_WEIGHT_BYTES
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.types import InputForm

if TYPE_CHECKING:
    from torch import Tensor

    from napari_survpgc.core.models.base import SurvivalModel


@dataclass(frozen=True)
class _Shapes:
    """Shapes of the tensors of a checkpoint, by the authors' names; asking for one that is not there is a KeyError."""

    of: Mapping[str, tuple[int, ...]]
    n_gene_sets: int = 0

    def rows(self, name: str) -> int:
        return self.of[name][0]

    def columns(self, name: str) -> int:
        return self.of[name][1]

    def gene_set_sizes(self) -> list[int]:
        sizes: list[int] = []
        while f"sig_networks.{len(sizes)}.0.0.weight" in self.of:
            sizes.append(self.columns(f"sig_networks.{len(sizes)}.0.0.weight"))
        return sizes or [self.columns("sig_networks.0.0.0.weight")]

    def fusion(self) -> str | None:
        if "mm.0.weight" in self.of:
            return "concat"
        return "bilinear" if "mm.linear_h1.0.weight" in self.of else None


def _projected(shapes: _Shapes, **widths: str) -> dict[str, Any]:
    """Return dim and n_bins of the SurvPath family, and the widths of its projections."""
    first = next(iter(widths.values()))
    return {
        "n_bins": shapes.rows("to_logits.2.weight"),
        "dim": shapes.rows(f"{first}_projection_net.0.weight"),
        **{name: shapes.columns(f"{theirs}_projection_net.0.weight") for name, theirs in widths.items()},
    }


def _survpgc(s: _Shapes) -> dict[str, Any]:
    return _projected(s, pathology_dim="wsi", clinic_dim="clinic", genomic_dim="gene")


def _survpc(s: _Shapes) -> dict[str, Any]:
    return _projected(s, pathology_dim="wsi", clinic_dim="clinic")


def _survgc(s: _Shapes) -> dict[str, Any]:
    # Their weights were trained with their grouping of the tokens.
    return {**_projected(s, clinic_dim="clinic", genomic_dim="gene"), "published": True}


def _survpath(s: _Shapes) -> dict[str, Any]:
    return {**_projected(s, pathology_dim="wsi"), "gene_set_sizes": s.gene_set_sizes()}


def _mcat(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("classifier.weight"),
        "dim": s.rows("wsi_net.0.weight"),
        "pathology_dim": s.columns("wsi_net.0.weight"),
        "gene_set_sizes": s.gene_set_sizes(),
        "fusion": s.fusion() or "concat",
    }


def _porpoise(s: _Shapes) -> dict[str, Any]:
    first = 1 if "attention_net.1.weight" in s.of else 0
    dim = s.columns("classifier_mm.weight")
    return {
        "n_bins": s.rows("classifier_mm.weight"),
        "dim": dim,
        "pathology_dim": s.columns(f"attention_net.{first}.weight"),
        "genomic_dim": s.columns("fc_omic.0.0.weight"),
        "skip": s.columns("mm.encoder2.0.weight") == 3 * dim,
    }


def _abmil(s: _Shapes) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "n_bins": s.rows("classifier.weight"),
        "dim": s.rows("attention_net.0.weight"),
        "pathology_dim": s.columns("attention_net.0.weight"),
        "fusion": s.fusion(),
    }
    if sizes["fusion"] is not None:
        sizes["genomic_dim"] = s.rows("fc_1_weight")
        if s.n_gene_sets:
            layers = (s.columns("fc_1_weight"), s.columns("fc_2_weight"))
            sizes["pathway_dims"] = [units // s.n_gene_sets for units in layers]
    return sizes


def _transmil(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("_fc2.weight"),
        "dim": s.rows("_fc1.0.weight"),
        "pathology_dim": s.columns("_fc1.0.weight"),
    }


def _mlp_pathology(s: _Shapes) -> dict[str, Any]:
    return _projected(s, pathology_dim="wsi")


def _mlp_clinic(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("to_logits.0.weight"),
        "dim": 2 * s.rows("net.0.weight"),
        "clinic_dim": s.columns("net.0.weight"),
        "n_clinic": s.columns("to_logits.0.weight") // s.rows("net.3.weight"),
    }


def _mlp_genomic(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("to_logits.0.weight"),
        "dim": 2 * s.rows("net.0.weight"),
        "genomic_dim": s.columns("net.0.weight"),
    }


def _snn(s: _Shapes, width: str) -> dict[str, Any]:
    return {
        "n_bins": s.rows("classifier.weight"),
        width: s.columns("fc_omic.0.0.weight"),
        "size": "big" if "fc_omic.3.0.weight" in s.of else "small",
    }


_SIZES: dict[str, Callable[[_Shapes], dict[str, Any]]] = {
    "survpgc": _survpgc,
    "survpc": _survpc,
    "survgc": _survgc,
    "survpath": _survpath,
    "mcat": _mcat,
    "porpoise": _porpoise,
    "abmil": _abmil,
    "transmil": _transmil,
    "mlp_pathology": _mlp_pathology,
    "mlp_clinic": _mlp_clinic,
    "mlp_genomic": _mlp_genomic,
    "snn_clinic": lambda s: _snn(s, "clinic_dim"),
    "snn_genomic": lambda s: _snn(s, "genomic_dim"),
}
IMPORTABLE = tuple(_SIZES)
"""Systems whose published weights can become a bundle."""


def importable_class(model: str) -> type[SurvivalModel]:
    from napari_survpgc.core.models import model_class

    kind = model_class(model)
    if model not in _SIZES:
        reason = (
            "it takes the record as numbers, and its checkpoint does not say which number stands for what"
            if kind.CLINIC is InputForm.VECTOR
            else "there are no published weights of it"
        )
        raise BundleError(
            f"A checkpoint of {model} cannot become a bundle: {reason}",
            f"Choose from {', '.join(IMPORTABLE)}, or train it with 'survpgc train'",
        )
    return kind


def published_sizes(
    tensors: Mapping[str, Tensor], model: str, path: Path, n_gene_sets: int
) -> dict[str, Any]:
    shapes = _Shapes({name: tuple(t.shape) for name, t in tensors.items()}, n_gene_sets)
    try:
        return _SIZES[model](shapes)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        missing = error.args[0] if isinstance(error, KeyError) else "a layer of the right shape"
        first = ", ".join(list(tensors)[:3])
        raise BundleError(
            f"{path.name} does not hold the weights of {model}: missing is {missing}, and it begins with {first}",
            _other_system(tensors, model, path),
        ) from error


def _other_system(tensors: Mapping[str, Tensor], model: str, path: Path) -> str:
    """Return the next step for a file of another system; name the system if the weights fit one."""
    shapes = _Shapes({name: tuple(t.shape) for name, t in tensors.items()})
    for other, sizes_of in _SIZES.items():
        if other == model:
            continue
        try:
            _load(tensors, other, sizes_of(shapes), path)
        except (BundleError, KeyError, IndexError, ZeroDivisionError, ValueError):
            continue
        return f"Give --model {other}: the weights fit that system"
    return f"Check the model's name (--model); known are {', '.join(IMPORTABLE)}"


def our_state(
    tensors: Mapping[str, Tensor], model: str, sizes: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    """Return the weights under our names, after they fitted a model of these sizes."""
    try:
        return _load(tensors, model, sizes, path)
    except BundleError as error:
        raise BundleError(error.problem, _other_system(tensors, model, path)) from error


def _load(
    tensors: Mapping[str, Tensor], model: str, sizes: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    import torch

    from napari_survpgc.core.models import build_model, load_published_state_dict

    try:
        with torch.device("meta"):  # shapes only: a hostile file may ask for a model of any size
            numbers = sum(p.numel() for p in build_model(model, **sizes).parameters())
        # Gene sets are padded to the largest, so ours can be several times as large as theirs.
        most = 1_000_000 + 50 * sum(t.numel() for t in tensors.values())
        if numbers > most or 4 * numbers > MAX_WEIGHT_BYTES:
            raise BundleError(
                f"The shapes in {path.name} do not fit together as a {model}",
                "Give a checkpoint of this system",
            )
        built = build_model(model, **sizes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"{path.name} does not give a {model} that can be built ({str(error).splitlines()[0][:200]})",
            "Check --model and --set",
        ) from error
    try:
        load_published_state_dict(built, tensors)
    except BundleError as error:
        raise BundleError(f"{path.name}: {error.problem}", error.next_step) from error
    return built.state_dict()


def by_pathway(kind: type[SurvivalModel], sizes: Mapping[str, Any]) -> bool:
    """Whether gene sets are part of the model's structure, as networks of their own or as connections."""
    if kind.GENOMIC is InputForm.GENE_SETS:
        return True
    return sizes.get("fusion") is not None and "composition" in inspect.signature(kind).parameters
