"""Files that ship with the package: templates, gene sets, vocabularies, the demo bundle."""

from pathlib import Path


def resource_path(*parts: str) -> Path:
    """Return the path of a file or folder that ships with the package, e.g. ``("gene_sets", "x.gmt")``."""
    return Path(__file__).resolve().parent.joinpath(*parts)
