"""The encoders by id. Each lives in a file of its own with ``load(device)``; only the chosen one is imported."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from napari_survpgc.core.errors import EncoderError

if TYPE_CHECKING:
    from .base import GeneEncoder, ImageEncoder, TextEncoder

IMAGE_ENCODERS: dict[str, str] = {"efficientnet-lite0": "efficientnet_lite0"}
TEXT_ENCODERS: dict[str, str] = {"minilm": "minilm"}
GENE_ENCODERS: dict[str, str] = {"gene-projection": "gene_projection", "scfoundation": "scfoundation"}
_REGISTRIES = {"image": IMAGE_ENCODERS, "text": TEXT_ENCODERS, "gene": GENE_ENCODERS}


def load_image_encoder(encoder_id: str, device: str = "auto") -> ImageEncoder:
    """Load an image encoder; EncoderError says what is missing."""
    return _load("image", encoder_id, device)


def load_text_encoder(encoder_id: str, device: str = "auto") -> TextEncoder:
    """Load a text encoder; EncoderError says what is missing."""
    return _load("text", encoder_id, device)


def load_gene_encoder(encoder_id: str, device: str = "auto") -> GeneEncoder:
    """Load a gene encoder; EncoderError says what is missing."""
    return _load("gene", encoder_id, device)


@functools.cache
def _load(kind: str, encoder_id: str, device: str) -> Any:
    """Load an encoder once a process: it is frozen, and its weights take seconds to read and check."""
    registry = _REGISTRIES[kind]
    if encoder_id not in registry:
        raise EncoderError(
            f"There is no {kind} encoder named {encoder_id}", f"Choose one of: {', '.join(sorted(registry))}"
        )
    return importlib.import_module(f".{registry[encoder_id]}", __name__).load(device)
