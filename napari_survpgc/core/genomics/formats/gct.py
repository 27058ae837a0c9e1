"""GCT 1.2 and 1.3 of GenePattern, RNA-SeQC, GTEx and the Connectivity Map."""

from __future__ import annotations

from pathlib import Path

from napari_survpgc.core.errors import ExpressionError

_STEP = "Download or export it again"


def is_gct(text: str) -> bool:
    """Whether a text begins as GCT does: its version stands where others have a comment."""
    return text.startswith(("#1.2", "#1.3"))


def table_of_gct(path: Path, text: str) -> tuple[str, frozenset[int], list[str]]:
    """Return the table of a GCT file from its header on, the places of columns that are no samples, and notes.

    Raises
    ------
    ExpressionError : its second line does not say how many rows and columns follow, or another number of columns follows.
    """
    version, _, rest = text.partition("\n")
    second, _, rest = rest.partition("\n")
    try:
        sizes = [int(cell) for cell in second.split("\t") if cell.strip()]
        rows, columns, about_genes, about_samples = (*sizes, 1, 0)[:4] if len(sizes) == 2 else sizes
    except ValueError:
        raise ExpressionError(
            f"The second line of {path.name} does not say how many genes and samples follow, as GCT has it",
            _STEP,
        ) from None
    if version.startswith("#1.2"):
        about_genes, about_samples = 1, 0
    header, _, rest = rest.partition("\n")
    for _ in range(about_samples):  # rows with facts of the samples
        rest = rest.partition("\n")[2]
    found_rows = len(rest.rstrip("\n").split("\n")) if rest.strip() else 0
    found_columns = len(header.rstrip("\t").split("\t")) - 1 - about_genes
    if found_columns != columns:
        raise ExpressionError(
            f"{path.name} says that it has {columns} samples, and has {found_columns}",
            f"It was changed by hand, or damaged. {_STEP}",
        )
    notes = [f"{path.name} was read as GCT {version[1:4]}."]
    if found_rows != rows:
        notes.append(f"{path.name} says that it has {rows} genes, and has {found_rows}: it may be cut short.")
    return f"{header}\n{rest}", frozenset(range(1, 1 + about_genes)), notes
