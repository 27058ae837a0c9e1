"""Gene expression: files, units, genes, gene sets."""

from .expression_file import SampleNeededError, read_expression
from .gene_sets import bundled_gene_sets, composition, gene_set_vectors, read_gmt
from .normalize import (
    ExpressionScale,
    GeneReference,
    NormalizedExpression,
    linear_values,
    looks_like_counts,
    normalize_profile,
)
from .unit_of_values import table_unit
from .units import parse_unit

__all__ = [
    "ExpressionScale",
    "GeneReference",
    "NormalizedExpression",
    "SampleNeededError",
    "bundled_gene_sets",
    "composition",
    "gene_set_vectors",
    "linear_values",
    "looks_like_counts",
    "normalize_profile",
    "parse_unit",
    "read_expression",
    "read_gmt",
    "table_unit",
]
