"""A CSV file as text, cell for cell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from napari_survpgc.core.errors import (
    CohortError,
)


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV file with a header, everything as text: site "05" stays "05", an empty cell is "".

    Raises
    ------
    CohortError : it cannot be read, or has a column twice.
    """
    try:
        # Without a header, since pandas would rename the second of two columns of one name.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", header=None)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CohortError(f"{path} is not a readable table ({reason})", "Save it as CSV (UTF-8)") from error
    names = frame.iloc[0].str.strip()
    twice = sorted(set(names[names.duplicated() & (names != "")]))
    if twice:
        raise CohortError(f"{path} has the column {twice[0]} twice", "Keep one of them")
    return frame.iloc[1:].fillna("").set_axis(names.to_numpy(), axis=1).reset_index(drop=True)
