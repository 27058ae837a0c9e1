"""Units of expression: said in words, or inferred from the values."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.types import ExpressionUnit

_UNITS = {
    "counts": ExpressionUnit.COUNTS,
    "count": ExpressionUnit.COUNTS,
    "rawcounts": ExpressionUnit.COUNTS,
    "tpm": ExpressionUnit.TPM,
    "fpkm": ExpressionUnit.FPKM,
    "rpkm": ExpressionUnit.FPKM,
    "log2(tpm+1)": ExpressionUnit.LOG2_TPM,
    "log2tpm": ExpressionUnit.LOG2_TPM,
    "log2(fpkm+1)": ExpressionUnit.LOG2_FPKM,
    "log2fpkm": ExpressionUnit.LOG2_FPKM,
    "log2(counts+1)": ExpressionUnit.LOG2_COUNTS,
    "log2(count+1)": ExpressionUnit.LOG2_COUNTS,
    "log2counts": ExpressionUnit.LOG2_COUNTS,
    "z-score": ExpressionUnit.ZSCORE,
    "zscore": ExpressionUnit.ZSCORE,
    "z": ExpressionUnit.ZSCORE,
}


def parse_unit(text: str) -> ExpressionUnit:
    """Return the unit named by a person, e.g. "TPM", "log2(tpm+1)", "z-score"."""
    unit = _UNITS.get(re.sub(r"[\s_]", "", text.lower()))
    if unit is None:
        raise ExpressionError(
            f"'{text}' is no unit of expression",
            f"Choose one of: {', '.join(str(u) for u in ExpressionUnit)}",
        )
    return unit


def unit_in(words: str) -> ExpressionUnit | None:
    """Return the unit that a column or file name states."""
    log = "log2" in words or "log_2" in words
    if re.search(r"z[-_ ]?scores?", words):
        return ExpressionUnit.ZSCORE
    if re.search(r"(^|[^a-z])tpm", words):
        return ExpressionUnit.LOG2_TPM if log else ExpressionUnit.TPM
    if re.search(r"(^|[^a-z])[fr]pkm", words):
        return ExpressionUnit.LOG2_FPKM if log else ExpressionUnit.FPKM
    if re.search(r"(^|[^a-z])(htseq_)?counts?([^a-z]|$)", words):
        return ExpressionUnit.LOG2_COUNTS if log else ExpressionUnit.COUNTS
    return None


def if_logarithmic(unit: ExpressionUnit | None, values: pd.Series, notes: list[str]) -> ExpressionUnit | None:
    """Many public matrices are named for the linear unit but hold log2(x + 1); no transcriptome tops out at 30."""
    linear = {
        ExpressionUnit.TPM: ExpressionUnit.LOG2_TPM,
        ExpressionUnit.FPKM: ExpressionUnit.LOG2_FPKM,
        ExpressionUnit.COUNTS: ExpressionUnit.LOG2_COUNTS,
    }
    if unit in linear and len(values) >= 1000 and pd.to_numeric(values, errors="coerce").max() <= 30:
        notes.append(f"The file speaks of {unit}, but its largest value is below 30: read as {linear[unit]}.")
        return linear[unit]
    return unit


def infer_unit(numbers: np.ndarray) -> ExpressionUnit:
    """Infer the unit from the values; the profile says that it was inferred."""
    if (numbers < 0).any():
        return ExpressionUnit.ZSCORE
    highest = numbers.max()
    if (numbers == np.rint(numbers)).all() and highest > 30:
        return ExpressionUnit.COUNTS
    if highest <= 30:
        return ExpressionUnit.LOG2_TPM
    if len(numbers) >= 5000 and abs(numbers.sum() / 1e6 - 1) > 0.1:
        return ExpressionUnit.FPKM
    return ExpressionUnit.TPM
