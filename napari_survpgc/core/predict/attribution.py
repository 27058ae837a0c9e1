"""Integrated gradients of the risk: how much each path and each token contributes (captum, Gauss-Legendre nodes).

Paths: the embedding [G, P1, C, P2] against zero, as published but in the order the head was trained with (the
published script feeds it in another order). Tokens: each clinical sentence against "unknown", each gene set against
the cohort's mean, with the patches fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from napari_survpgc.core.models.base import GenomicInput, PatchState, PathOutput, SurvivalModel, TwoPathModel
from napari_survpgc.core.survival import hazards, risk, survival
from napari_survpgc.core.types import Attribution

MAX_PATCHES = 8192
"""Token attribution uses at most this many patches, evenly spaced over the slide's order."""
_STEPS = (16, 32, 64)
_TOLERANCE = 0.01


def integrated_gradients(
    forward: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    baselines: tuple[Tensor, ...],
    n_steps: int = 50,
    at_once: int | None = 1,
) -> tuple[Tensor, ...]:
    """Integrate the gradient of ``forward`` (one number a row) from ``baselines`` to ``inputs``.

    ``at_once`` steps form a batch (None: all of them), which bounds the memory.

    Returns
    -------
    One tensor an input, of its shape; their sum is forward(inputs) - forward(baselines) up to the error of the rule.
    """
    from captum.attr import IntegratedGradients  # here, because it loads matplotlib.pyplot

    result = IntegratedGradients(forward).attribute(
        inputs, baselines, n_steps=n_steps, method="gausslegendre", internal_batch_size=at_once
    )
    return tuple(part.detach() for part in result)


def path_attribution(
    model: TwoPathModel, clinic: PathOutput, genomic: PathOutput, n_steps: int = 256
) -> Attribution:
    """Return the share of each path in the risk, against a zero embedding.

    The head's ReLU bends the integrand, so the rule needs more nodes than the 50 published; on the head alone they
    cost nothing.
    """
    embedding = model.embed(clinic, genomic).detach()
    zero = torch.zeros_like(embedding)

    def forward(e: Tensor) -> Tensor:
        return risk(survival(hazards(model.head(e).double())))

    (parts,) = integrated_gradients(forward, (embedding,), (zero,), n_steps, at_once=None)
    half = embedding.shape[-1] // 2
    shares = {"genomic": float(parts[0, :half].sum()), "clinic": float(parts[0, half:].sum())}
    with torch.no_grad():
        difference = float(forward(embedding)[0] - forward(zero)[0])
    return Attribution(shares, {}, {"paths": abs(sum(shares.values()) - difference)})


Logits = Callable[[Tensor | None, GenomicInput | None], Tensor]
"""(clinic, genomic) -> (b, n_bins), with the patches of one patient fixed."""


def logits_of(model: SurvivalModel, pathology: Tensor, patches: PatchState | None) -> Logits:
    """Return the logits of a model as a function of record and genes; more than MAX_PATCHES are thinned out.

    Parameters
    ----------
    pathology : (1, n_p, d_p).   patches : the same as a model with two paths has encoded them.
    """
    if isinstance(model, TwoPathModel):
        thin = _thinned(model.encode_pathology(pathology) if patches is None else patches)
        return lambda clinic, genomic: model.head(
            model.embed(model.clinic_path(thin, clinic), model.genomic_path(thin, genomic))
        )
    few = pathology[:, _thin(pathology.shape[1], pathology.device)]

    def forward(clinic: Tensor | None, genomic: GenomicInput | None) -> Tensor:
        inputs = {"pathology": few, "clinic": clinic, "genomic": genomic}
        return model(**{str(m): inputs[str(m)] for m in model.REQUIRES}).logits

    return forward


def token_attribution(
    logits: Logits,
    *,
    clinic: Tensor | None,
    clinic_baseline: Tensor | None,
    genomic: GenomicInput | None,
    genomic_baseline: GenomicInput | None,
    clinic_names: Sequence[str],
    genomic_names: Sequence[str],
    step: Callable[[], object] = lambda: None,
) -> Attribution:
    """Return the contribution of each token to the risk, against an uninformative token, patches fixed.

    Parameters
    ----------
    logits : see :func:`logits_of`.
    clinic : (1, 6, d) or a one-hot (1, d), and its baseline, an unknown record.
    genomic : (1, n_g, d_g) tokens, (1, d) a vector or a list of (1, d_i), and its baseline.
    clinic_names, genomic_names : of the tokens, or of the columns of a one-hot record; contributions of one name add up.
    step : called before each step of the integration; what it raises ends the work.

    Notes
    -----
    Steps are doubled from 16 to 64 until the contributions sum to the change of the risk within 1 %; what remains is
    reported as the completeness error.
    """
    as_list = not isinstance(genomic, Tensor)
    parts, zeros = _as_list(genomic), _as_list(genomic_baseline)
    inputs = tuple(x for x in (clinic, *parts) if x is not None)
    baselines = tuple(x for x in (clinic_baseline, *zeros) if x is not None)
    if not inputs:
        return Attribution({}, {}, {})

    def forward(*values: Tensor) -> Tensor:
        step()
        rest = list(values)
        c = rest.pop(0) if clinic is not None else None
        g = None if not rest else (rest if as_list else rest[0])
        return risk(survival(hazards(logits(c, g).double())))

    with torch.no_grad():
        difference = float(forward(*inputs)[0] - forward(*baselines)[0])
    error = float("inf")
    for n_steps in _STEPS:
        result = integrated_gradients(forward, inputs, baselines, n_steps)
        error = abs(float(sum(part.sum() for part in result)) - difference)
        if error <= _TOLERANCE * abs(difference) + 1e-6:
            break
    tokens: dict[str, float] = {}

    def add(prefix: str, names: Sequence[str], values: Sequence[float]) -> None:
        for name, value in zip(names, values, strict=True):
            tokens[f"{prefix}:{name}"] = tokens.get(f"{prefix}:{name}", 0.0) + value

    rest = list(result)
    if clinic is not None:
        add("clinic", clinic_names, _by_token(rest.pop(0)))
    if rest and as_list:
        add("genomic", genomic_names, [float(r.sum()) for r in rest])
    elif rest:
        values = _by_token(rest[0])
        add("genomic", genomic_names, values if rest[0].ndim == 3 else [sum(values)])
    return Attribution({}, tokens, {"tokens": error})


def _by_token(part: Tensor) -> list[float]:
    """Return a number a token of (1, n, d), or a column of (1, n)."""
    return [float(v) for v in (part[0].sum(-1) if part.ndim == 3 else part[0])]


def _as_list(genomic: GenomicInput | None) -> list[Tensor]:
    if genomic is None:
        return []
    return [genomic] if isinstance(genomic, Tensor) else list(genomic)


def _thin(n: int, device: torch.device) -> Tensor:
    """Return the indices of at most MAX_PATCHES of n patches."""
    if n <= MAX_PATCHES:
        return torch.arange(n, device=device)
    return torch.linspace(0, n - 1, MAX_PATCHES, device=device).round().long()


def _thinned(patches: PatchState) -> PatchState:
    n = patches.normalized.shape[1]
    if n <= MAX_PATCHES:
        return patches
    index = _thin(n, patches.normalized.device)
    mask = None if patches.mask is None else patches.mask[:, index]
    return PatchState(patches.normalized[:, index], mask)


def average_attributions(attributions: Sequence[Attribution]) -> Attribution:
    """Return the mean over fold models; the completeness error is the largest of theirs."""

    def mean(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {key: sum(p[key] for p in parts) / len(parts) for key in parts[0]}

    errors = [a.completeness_error for a in attributions]
    return Attribution(
        mean([a.paths for a in attributions]),
        mean([a.tokens for a in attributions]),
        {key: max(e[key] for e in errors) for key in errors[0]},
    )
