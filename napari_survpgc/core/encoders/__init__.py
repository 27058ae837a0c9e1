"""The encoders by id. Each lives in a file of its own with ``load(device)``; only the chosen one is imported."""

from .catalog import (
    GENE_ENCODERS,
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    check_weights,
    encoder_module,
    load_gene_encoder,
    load_image_encoder,
    load_text_encoder,
    parse_hub_id,
    weight_sources,
)

__all__ = [
    "GENE_ENCODERS",
    "IMAGE_ENCODERS",
    "TEXT_ENCODERS",
    "check_weights",
    "encoder_module",
    "load_gene_encoder",
    "load_image_encoder",
    "load_text_encoder",
    "parse_hub_id",
    "weight_sources",
]
