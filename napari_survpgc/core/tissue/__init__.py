"""Tissue: found, outlined, cut into patches."""

from .find import find_tissue, tissue_pixels
from .geojson import read_geojson, write_geojson
from .outlines import mask_polygons, outline_image, rasterize
from .patches import patch_grid

__all__ = [
    "find_tissue",
    "mask_polygons",
    "outline_image",
    "patch_grid",
    "rasterize",
    "read_geojson",
    "tissue_pixels",
    "write_geojson",
]
