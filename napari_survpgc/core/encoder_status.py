"""What each encoder needs before it can run here: ready, a file, or the authors' access; nothing is downloaded."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .encoders import (
    GENE_ENCODERS,
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    load_image_encoder,
    weight_sources,
)
from .encoders.weights import WeightSource, find_weights
from .errors import EncoderError

_ACHIEVED = 0.5  # share of a matrix product's rate that a vision transformer reaches


class Readiness(StrEnum):
    """What stands between an encoder and its first patch."""

    READY = "ready"
    NEEDS_FILE = "needs a file"
    NEEDS_ACCESS = "needs access"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class EncoderStatus:
    """One encoder on this machine.

    Attributes
    ----------
    kind : "image", "text" or "gene".
    title : what its authors call it.
    next_step : what to do; empty when it is ready.
    licence : in one line; empty for encoders that come along.
    """

    kind: str
    encoder_id: str
    title: str
    readiness: Readiness
    next_step: str = ""
    licence: str = ""

    def line(self) -> str:
        """Return it in one sentence."""
        text = f"{self.kind}: {self.encoder_id}, {self.readiness}"
        return text + (f". {self.next_step}." if self.next_step else "")


def known_encoders() -> list[tuple[str, str]]:
    """Return (kind, id) of all that have a file of their own."""
    registries = (("image", IMAGE_ENCODERS), ("text", TEXT_ENCODERS), ("gene", GENE_ENCODERS))
    return [(kind, encoder_id) for kind, registry in registries for encoder_id in registry]


def encoder_statuses(wanted: Iterable[tuple[str, str]] | None = None) -> list[EncoderStatus]:
    """Look for the weights of encoders, all of them by default; files in the hub's cache are checked by their SHA-256.

    Parameters
    ----------
    wanted : (kind, id); kinds are "image", "text", "gene".
    """
    return [_status(kind, encoder_id) for kind, encoder_id in (wanted or known_encoders())]


def _status(kind: str, encoder_id: str) -> EncoderStatus:
    try:
        source = _source(kind, encoder_id)
    except EncoderError as error:
        return EncoderStatus(kind, encoder_id, encoder_id, Readiness.NEEDS_FILE, str(error).rstrip("."))
    if source is None:
        return EncoderStatus(kind, encoder_id, encoder_id, Readiness.READY)
    try:
        find_weights(source)
    except EncoderError as error:
        if "damaged" in error.problem:
            state = Readiness.DAMAGED
        else:
            state = Readiness.NEEDS_ACCESS if source.gated else Readiness.NEEDS_FILE
        return EncoderStatus(kind, encoder_id, source.title, state, error.next_step, source.licence)
    return EncoderStatus(kind, encoder_id, source.title, Readiness.READY, licence=source.licence)


def _source(kind: str, encoder_id: str) -> WeightSource | None:
    registry = {"image": IMAGE_ENCODERS, "text": TEXT_ENCODERS, "gene": GENE_ENCODERS}[kind]
    if encoder_id in registry:
        module = importlib.import_module(f".encoders.{registry[encoder_id]}", __package__)
        return getattr(module, "SOURCE", None)
    if kind == "text" and encoder_id.startswith("hf:"):
        from .encoders.hub_text import source_of

        return source_of(encoder_id)
    if kind == "gene" and encoder_id == "gene-sets":
        return None  # trained within the model
    sources = weight_sources(encoder_id)
    return sources[0] if sources else None


def measured_rate(encoder_id: str, device: str = "auto", patches: int = 4) -> float:
    """Return patches a second of an image encoder that is ready, reading of the slide not counted."""
    import numpy as np

    encoder = load_image_encoder(encoder_id, device)
    batch = np.zeros((patches, encoder.input_px, encoder.input_px, 3), np.uint8)
    encoder.encode(batch[:1])
    start = time.perf_counter()
    encoder.encode(batch)
    return patches / (time.perf_counter() - start)


def expected_rate(encoder_id: str, device: str = "auto") -> float | None:
    """Estimate patches a second of a vision transformer from its size and a matrix product timed here.

    Returns None for networks whose size is known only from their files.
    """
    import torch

    from .encoders.base import resolve_device
    from .encoders.vision_transformer import ImageSpec, build_transformer, precision

    name = IMAGE_ENCODERS.get(encoder_id)
    spec = getattr(importlib.import_module(f".encoders.{name}", __package__), "SPEC", None) if name else None
    if not isinstance(spec, ImageSpec) or not spec.architecture:
        return None
    where = resolve_device(device)
    with torch.device("meta"):
        network = build_transformer(spec)
    weights = sum(parameter.numel() for parameter in network.parameters())
    tokens = (spec.input_px // int(spec.arguments.get("patch_size", 14))) ** 2
    matrix = torch.ones(1024, 1024, device=where, dtype=precision(where, spec.half))
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return _ACHIEVED * 2 * 1024**3 / best / (2.0 * weights * tokens)
