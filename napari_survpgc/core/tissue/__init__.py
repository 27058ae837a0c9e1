"""Tissue: found, outlined, cut into patches."""

from .find import find_tissue, tissue_pixels
from .geojson import read_geojson, write_geojson
from .outlines import mask_polygons, outline_image, rasterize
from .overview import Overview, slide_overview
from .patches import patch_grid
from .stain import StainCheck, StainError, check_stain

__all__ = [
    "Overview",
    "StainCheck",
    "StainError",
    "check_stain",
    "find_tissue",
    "mask_polygons",
    "outline_image",
    "patch_grid",
    "rasterize",
    "read_geojson",
    "slide_overview",
    "tissue_pixels",
    "write_geojson",
]
