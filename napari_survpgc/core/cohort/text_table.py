"""A table of a cohort as text, cell for cell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.tables import read_table


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a table with a header, everything as text: site "05" stays "05", an empty cell is "".

    Raises
    ------
    CohortError : it cannot be read, has a column twice, or a row longer or shorter than the header.
    """
    table = read_table(path, CohortError, "Save it as CSV (UTF-8)")
    return pd.DataFrame(table.rows, columns=pd.Index(table.header), dtype=str)
