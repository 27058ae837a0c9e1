"""Slides: opened, described, read level by level."""

from .describe import COARSEST_PX
from .formats import FORMATS, SCANNER_SUFFIXES, SLIDE_SUFFIXES, find_slide
from .lazy_level import LazyLevel
from .slide import Slide, open_slide, require_mpp

__all__ = [
    "COARSEST_PX",
    "FORMATS",
    "SCANNER_SUFFIXES",
    "SLIDE_SUFFIXES",
    "LazyLevel",
    "Slide",
    "find_slide",
    "open_slide",
    "require_mpp",
]
