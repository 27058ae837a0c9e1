"""napari's window: dropping files, native libraries, several windows."""
