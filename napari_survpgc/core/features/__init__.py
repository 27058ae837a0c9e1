"""Patch features: computed, kept, read from files of ours and of others."""

from .compute import compute_features
from .feature_file import check_within, read_features, summarize_features, with_geometry, write_features

__all__ = [
    "check_within",
    "compute_features",
    "read_features",
    "summarize_features",
    "with_geometry",
    "write_features",
]
