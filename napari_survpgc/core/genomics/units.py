"""Units of expression as words say them; what the values say stands in :mod:`.unit_of_values`."""

from __future__ import annotations

import re

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.types import ExpressionUnit

_UNITS = {
    "counts": ExpressionUnit.COUNTS,
    "count": ExpressionUnit.COUNTS,
    "rawcounts": ExpressionUnit.COUNTS,
    "expectedcounts": ExpressionUnit.COUNTS,
    "expectedcount": ExpressionUnit.COUNTS,
    "normalizedcounts": ExpressionUnit.COUNTS,
    "normalisedcounts": ExpressionUnit.COUNTS,
    "rsem": ExpressionUnit.COUNTS,
    "cpm": ExpressionUnit.COUNTS,
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
    "log2(tpm+0.001)": ExpressionUnit.LOG2_TPM_MILLI,
    "z-score": ExpressionUnit.ZSCORE,
    "zscore": ExpressionUnit.ZSCORE,
    "z": ExpressionUnit.ZSCORE,
}

_OTHER = re.compile(
    r"log10|log1p|(?<![a-z])(ln|loge)(?=\(|[_ ]?([fr]pkm|tpm|counts?|expr))|(?<![a-z])(vst|rlog|rma)(?![a-z])"
)


def names_unit(name: str) -> bool:
    """Whether a column is named for a unit, be it one that can be used or not."""
    return _OTHER.search(name.lower()) is not None or unit_in(name) is not None


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
    """Return the unit that a column or file name states.

    RSEM's own values (expected, scaled or normalised counts) are counts of reads, fractions included, and so are counts per
    million: none is divided by the length of its gene.

    Raises
    ------
    ExpressionError : logarithms of another base, or values without a unit (variance-stabilised, of an array).
    """
    words = words.lower()
    if other := _OTHER.search(words):
        raise ExpressionError(
            f"'{words.strip()}' speaks of {other[0]}, which cannot be compared with the model's reference",
            "Give counts, TPM or FPKM, or their log2(x+1)",
        )
    if re.search(r"log_?2\s*\(\s*tpm\s*\+\s*0?\.001\s*\)", words):
        return ExpressionUnit.LOG2_TPM_MILLI
    log = "log2" in words or "log_2" in words
    if re.search(r"z[-_ ]?scores?", words):
        return ExpressionUnit.ZSCORE
    if re.search(r"(^|[^a-z])tpm", words):
        return ExpressionUnit.LOG2_TPM if log else ExpressionUnit.TPM
    if re.search(r"(^|[^a-z])[fr]pkm", words):
        return ExpressionUnit.LOG2_FPKM if log else ExpressionUnit.FPKM
    if re.search(r"(^|[^a-z])(htseq_)?counts?([^a-z]|$)|(^|[^a-z])(rsem|cpm|hiseqv2)([^a-z]|$)", words):
        return ExpressionUnit.LOG2_COUNTS if log or "hiseqv2" in words else ExpressionUnit.COUNTS
    return None
