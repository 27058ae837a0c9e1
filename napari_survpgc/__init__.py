"""napari-survpgc: see what a multimodal cancer survival model looks at. Research use only."""

__version__ = "0.2.0"
