"""A trained model as a folder."""

from .bundle import Bundle, load_bundle
from .config import UNKNOWN_ENCODER, BundleConfig, EncoderSpec
from .write import write_bundle

__all__ = [
    "UNKNOWN_ENCODER",
    "Bundle",
    "BundleConfig",
    "EncoderSpec",
    "load_bundle",
    "write_bundle",
]
