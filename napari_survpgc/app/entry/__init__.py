"""Where napari and the command line come in: reader, samples, launch."""
