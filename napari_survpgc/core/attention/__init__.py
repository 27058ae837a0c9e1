"""Attention matrices: scores of patches, percentiles, maps."""

from .maps import AttentionMaps
from .scores import (
    ScoreGrid,
    bottom_k,
    patch_scores,
    percentiles,
    random_k,
    rank_of,
    row_scores,
    score_grid,
    top_k,
)

__all__ = [
    "AttentionMaps",
    "ScoreGrid",
    "bottom_k",
    "patch_scores",
    "percentiles",
    "random_k",
    "rank_of",
    "row_scores",
    "score_grid",
    "top_k",
]
