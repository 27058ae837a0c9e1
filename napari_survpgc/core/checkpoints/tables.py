"""The tables that an imported checkpoint needs: reference patients, and the genes of the training in their order."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.cells import restored_frame
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.files import read_bytes
from napari_survpgc.core.genomics.normalize import GeneReference

_MAX_TABLE_BYTES = 64 << 20


def read_reference(path: Path, n_bins: int) -> pd.DataFrame:
    """Read the reference patients: risk, survival_months, event, and fold if it is there.

    Raises
    ------
    BundleError : a column is missing or not of numbers, or the risks are not those of a model of ``n_bins``.
    """
    table = _read_csv(path)
    columns = ("risk", "survival_months", "event")
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        raise BundleError(
            f"{path.name} lacks {', '.join(missing) or 'rows'}",
            "Give the columns risk, survival_months, event",
        )
    kept = [*columns, *(["fold"] if "fold" in table.columns else [])]
    values = table[kept].apply(pd.to_numeric, errors="coerce")
    good = np.isfinite(values.to_numpy(float)).all(1) & (values["survival_months"] >= 0)
    good &= values["event"].isin([0, 1])
    if not good.all():
        row = int(np.flatnonzero(~good.to_numpy())[0])
        raise BundleError(
            f"Row {row + 2} of {path.name} is not usable: risk and survival_months are numbers, event is 1 for a"
            " death and 0 otherwise",
            "Correct it, or leave the patient out",
        )
    if not values["risk"].between(-n_bins - 1e-6, 0).all():
        raise BundleError(
            f"The risks in {path.name} are not those of a model with {n_bins} intervals: they lie between"
            f" -{n_bins} and 0, minus the sum of the survival probabilities",
            "Give the risks that this model predicted for its test patients",
        )
    return values.astype({"event": int})


def read_genes(path: Path) -> GeneReference:
    """Read genes, one a line or in the column ``gene`` (``gene_name``), with mean and sd if they are there."""
    table = _read_csv(path, separators=True)
    column = next((c for c in table.columns if c.strip().lower() in ("gene", "gene_name", "symbol")), None)
    if column is None and len(table.columns) == 1:
        column = table.columns[0]
        names = [column, *table[column]]
        table = pd.DataFrame({column: names})
    if column is None:
        raise BundleError(
            f"{path.name} has no column gene", "Write one gene a line, or a CSV with that column"
        )
    names = [str(name).strip() for name in table[column]]
    repeated = pd.Series(names).duplicated()
    if repeated.any():
        raise BundleError(f"{path.name} has the gene {names[int(repeated.argmax())]} twice", "Correct it")
    if not all(names):
        raise BundleError(f"{path.name} has a line without a gene", "Correct it")
    if not {"mean", "sd"} <= set(table.columns):
        return GeneReference(tuple(names))
    numbers = table[["mean", "sd"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if not np.isfinite(numbers).all() or (numbers[:, 1] <= 0).any():
        raise BundleError(
            f"{path.name} has a mean or sd that is not a number, or an sd that is not above 0", "Correct it"
        )
    return GeneReference(tuple(names), numbers[:, 0], numbers[:, 1])


def _read_csv(path: Path, separators: bool = False) -> pd.DataFrame:
    content = read_bytes(path, _MAX_TABLE_BYTES, BundleError, "Check the file", "a table")
    separator = "\t" if separators and b"\t" in content.split(b"\n", 1)[0] else ","
    try:
        # Gene NAN and the like are text, not missing values.
        return restored_frame(
            pd.read_csv(io.BytesIO(content), sep=separator, dtype=str, keep_default_na=False)
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise BundleError(f"{path.name} is not a table", "Give a CSV file with a header") from error
