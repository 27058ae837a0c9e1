"""The encoders by id. Each lives in a file of its own with ``CARD`` and ``load(device)``; only the chosen one is imported."""

from .card import EncoderCard
from .catalog import (
    ENCODERS,
    GENE_ENCODERS,
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    cards_of,
    check_weights,
    encoder_module,
    load_gene_encoder,
    load_image_encoder,
    load_text_encoder,
    parse_hub_id,
    weight_sources,
)

__all__ = [
    "ENCODERS",
    "GENE_ENCODERS",
    "IMAGE_ENCODERS",
    "TEXT_ENCODERS",
    "EncoderCard",
    "cards_of",
    "check_weights",
    "encoder_module",
    "load_gene_encoder",
    "load_image_encoder",
    "load_text_encoder",
    "parse_hub_id",
    "weight_sources",
]
