"""A table of a cohort as text, cell for cell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.tables import is_decimal_comma, read_table


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a table with a header, everything as text: site "05" stays "05", an empty cell is "".

    Numbers get a decimal point where the table writes a comma; ``attrs["notes"]`` says so.

    Raises
    ------
    CohortError : it cannot be read, has a column twice, or a row longer or shorter than the header.
    """
    table = read_table(path, CohortError, "Save it as CSV (UTF-8)")
    rows = table.rows
    if table.decimal == ",":
        rows = tuple(tuple(c.replace(",", ".") if is_decimal_comma(c) else c for c in row) for row in rows)
    frame = pd.DataFrame(rows, columns=pd.Index(table.header), dtype=str)
    frame.attrs["notes"] = table.notes
    return frame
