"""What every model takes and gives."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.types import InputForm, Modality

GenomicInput = Tensor | Sequence[Tensor]
"""(b, n_g, d) tokens, (b, d) a vector, or a list of (b, d_i), one a gene set."""


@dataclass(frozen=True)
class ModelOutput:
    """What a forward pass gives.

    Attributes
    ----------
    logits : (b, n_bins).   embedding : (b, .) input of the last layers.
    attention : name -> (b, rows, columns), pre-softmax as published, detached; empty unless asked for.
    """

    logits: Tensor
    embedding: Tensor
    attention: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class PatchState:
    """Patches as both paths use them: projected and normalized without the affine part, (b, n_p, dim)."""

    normalized: Tensor
    mask: Tensor | None  # (b, n_p) True where there is a patch; None where all are


@dataclass(frozen=True)
class PathOutput:
    """One cross-attention path.

    Attributes
    ----------
    tokens, pathology : (b, dim / 2) means over the tokens and over the patches.
    to_tokens (b, P, P), to_pathology (b, P, n_p), from_pathology (b, n_p, P) : pre-softmax products, detached;
        None when the modality is missing.
    """

    tokens: Tensor
    pathology: Tensor
    to_tokens: Tensor | None = None
    to_pathology: Tensor | None = None
    from_pathology: Tensor | None = None


class PathWithout(Protocol):
    """A path over the patches of one patient of which any can be taken out, see :mod:`.parts.split_path`."""

    def without_groups(self, groups: Tensor, count: int) -> PathOutput: ...

    def without_each(self, part: slice) -> PathOutput: ...


class SurvivalModel(nn.Module):
    """Base of all models: names what it needs and how the authors' state_dict maps to ours.

    Attributes
    ----------
    REQUIRES : modalities it looks at.   OPTIONAL : those of them that a patient may lack.
    CLINIC, GENOMIC : the form in which it takes these two.
    ATTENTION : names of the matrices that it gives when asked.   POSITIONAL : the order of the patches matters to it.
    SMALL : settings, other than the widths of its inputs, with which tests build and train it in a second.
    """

    REQUIRES: ClassVar[frozenset[Modality]]
    OPTIONAL: ClassVar[frozenset[Modality]] = frozenset()
    CLINIC: ClassVar[InputForm] = InputForm.TOKENS
    GENOMIC: ClassVar[InputForm] = InputForm.VECTOR
    ATTENTION: ClassVar[frozenset[str]] = frozenset()
    POSITIONAL: ClassVar[bool] = False
    SMALL: ClassVar[Mapping[str, Any]] = {"dim": 16}

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> frozenset[Modality]:
        """Return the modalities that a model of these sizes looks at."""
        return cls.REQUIRES

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``state`` under our names; keys that have no place here are returned unchanged."""
        raise NotImplementedError(f"{type(self).__name__} has no published counterpart")


class TwoPathModel(SurvivalModel, abc.ABC):
    """A model with a clinic and a genomic path over the same patches; each path can be recomputed alone.

    To be derived from: a protocol would not find ``head`` from Python 3.12 on, since a module keeps its parts where
    ``inspect.getattr_static`` does not look.

    Attributes
    ----------
    head : embedding -> (b, n_bins) logits.
    """

    head: nn.Module

    @abc.abstractmethod
    def encode_pathology(self, pathology: Tensor, patch_mask: Tensor | None = None) -> PatchState: ...

    @abc.abstractmethod
    def clinic_path(self, patches: PatchState, clinic: Tensor | None) -> PathOutput: ...

    @abc.abstractmethod
    def genomic_path(self, patches: PatchState, genomic: GenomicInput | None) -> PathOutput: ...

    @abc.abstractmethod
    def embed(self, clinic: PathOutput, genomic: PathOutput) -> Tensor: ...

    @abc.abstractmethod
    def split_paths(
        self, patches: PatchState, clinic: Tensor | None, genomic: GenomicInput | None, exact: bool = False
    ) -> tuple[PathWithout, PathWithout]:
        """Return the clinic and the genomic path with their patches to be taken out; ``exact`` in float64."""


def rename(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Replace the first matching prefix of every key (longest first); other keys stay."""
    ordered = sorted(prefixes, key=len, reverse=True)
    renamed = {}
    for key, value in state.items():
        prefix = next((p for p in ordered if key.startswith(p)), None)
        renamed[key if prefix is None else prefixes[prefix] + key[len(prefix) :]] = value
    return renamed


def load_published_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights that carry the key names of the authors' code.

    Raises
    ------
    BundleError : names every missing key, left-over key and differing shape (the first few of each).
    """
    if not isinstance(model, SurvivalModel):
        raise BundleError(f"{type(model).__name__} has no published weights", "Choose another model")
    tensors = {key: torch.as_tensor(value) for key, value in state_dict.items()}
    try:
        ours = model.from_published(tensors)
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise BundleError(
            f"The weights do not belong to {type(model).__name__} ({error})",
            "Check the model's name and sizes",
        ) from error
    expected = model.state_dict()
    missing = sorted(set(expected) - set(ours))
    left_over = sorted(set(ours) - set(expected))
    shapes = [
        f"{key} is {tuple(ours[key].shape)}, not {tuple(expected[key].shape)}"
        for key in sorted(set(ours) & set(expected))
        if ours[key].shape != expected[key].shape
    ]
    problems = [
        f"{title}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for title, names in (("missing", missing), ("left over", left_over), ("other shape", shapes))
        if names
    ]
    if problems:
        raise BundleError(
            f"The weights do not fit {type(model).__name__} ({'; '.join(problems)})",
            "Check the model's name and sizes",
        )
    model.load_state_dict(ours)
