"""What is drawn on napari's canvas: the case's layers, maps, frame, outlines."""
