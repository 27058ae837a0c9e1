"""The napari plugin: the only home of Qt and napari. It shows what ``core`` computes and computes nothing itself."""
