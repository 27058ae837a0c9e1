"""Units of expression: said in words, told from the values, and refused where both disagree."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.types import ExpressionUnit

_UNITS = {
    "counts": ExpressionUnit.COUNTS,
    "count": ExpressionUnit.COUNTS,
    "rawcounts": ExpressionUnit.COUNTS,
    "expectedcounts": ExpressionUnit.COUNTS,
    "normalizedcounts": ExpressionUnit.COUNTS,
    "rsem": ExpressionUnit.COUNTS,
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
_LOGARITHM_OF = {
    ExpressionUnit.TPM: ExpressionUnit.LOG2_TPM,
    ExpressionUnit.FPKM: ExpressionUnit.LOG2_FPKM,
    ExpressionUnit.COUNTS: ExpressionUnit.LOG2_COUNTS,
}
_LINEAR_OF = {log: linear for linear, log in _LOGARITHM_OF.items()}
LOG_LIMIT = 40
"""2 ** 40: no count and no TPM reaches it, so larger values are no logarithms."""
_LOG_TOP = 30  # no transcriptome's logarithm tops out above
_MANY = 1000  # genes, from which the largest value says something
_WHOLE = 5000  # genes, whose sum stands for the sample's total
_SOME = 50  # genes, whose spread says whether they are z-scores
_NORMALIZED_COUNTS = (
    3e6  # TPM add up to 1e6, FPKM to 0.2e6 to 2e6, RSEM's upper-quartile counts to 15e6 and more
)
_OFFSETS = (1e-3, 1e-4, 1e-2, 0.1, 0.5)  # of log2(x + offset), the first is that of Toil
_STEP = "State the unit that the values have (--expression-unit)"


def parse_unit(text: str) -> ExpressionUnit:
    """Return the unit named by a person, e.g. "TPM", "log2(tpm+1)", "z-score"."""
    unit = _UNITS.get(re.sub(r"[\s_]", "", text.lower()).replace("normalised", "normalized"))
    if unit is None:
        raise ExpressionError(
            f"'{text}' is no unit of expression",
            f"Choose one of: {', '.join(str(u) for u in ExpressionUnit)}",
        )
    return unit


def unit_in(words: str) -> ExpressionUnit | None:
    """Return the unit that a column or file name states; RSEM alone gives normalized counts."""
    log = "log2" in words or "log_2" in words
    if re.search(r"z[-_ ]?scores?", words):
        return ExpressionUnit.ZSCORE
    if re.search(r"(^|[^a-z])tpm", words):
        return ExpressionUnit.LOG2_TPM if log else ExpressionUnit.TPM
    if re.search(r"(^|[^a-z])[fr]pkm", words):
        return ExpressionUnit.LOG2_FPKM if log else ExpressionUnit.FPKM
    if re.search(r"(^|[^a-z])(htseq_)?counts?([^a-z]|$)|(^|[^a-z])rsem([^a-z]|$)|hiseqv2", words):
        return ExpressionUnit.LOG2_COUNTS if log else ExpressionUnit.COUNTS
    return None


@dataclass(frozen=True)
class SettledValues:
    """Values of one sample in a unit that they do not contradict.

    Attributes
    ----------
    numbers : (n_genes,), those of log2(x + 0.001) and the like as x.
    declared : False when the unit was inferred from the values.   notes : how, in sentences.
    """

    numbers: NDArray[np.float64]
    unit: ExpressionUnit
    declared: bool
    notes: tuple[str, ...] = ()


def settle_unit(
    numbers: NDArray[np.float64], stated: ExpressionUnit | None, named: ExpressionUnit | None, source: str
) -> SettledValues:
    """Find the unit of one sample.

    Parameters
    ----------
    numbers : (n_genes,), finite.   stated : by a person.   named : by a column or the file's name.

    Raises
    ------
    ExpressionError : the values contradict what was said, or are of no unit that is known.
    """
    offset = log_offset(numbers)
    if stated is ExpressionUnit.LOG2_TPM_MILLI:
        if numbers.min() < np.log2(1e-3) - 0.01 or numbers.max() > LOG_LIMIT:
            raise _contradiction(
                source, stated, f"its values reach from {numbers.min():g} to {numbers.max():g}"
            )
        linear = np.maximum(np.exp2(numbers) - 1e-3, 0)
        return SettledValues(linear, ExpressionUnit.TPM, True, (_offset_note(source, 1e-3, "TPM"),))
    if stated is None and offset is not None and named not in (ExpressionUnit.ZSCORE, *_counts()):
        linear = np.maximum(np.exp2(numbers) - offset, 0)
        meant = _LINEAR_OF.get(named, named) if named else _tpm_or_fpkm(linear)
        return SettledValues(linear, meant, named is not None, (_offset_note(source, offset, meant.upper()),))
    notes: list[str] = []
    unit = stated or named
    if stated is None and named in _LOGARITHM_OF and len(numbers) >= _MANY and numbers.max() <= _LOG_TOP:
        # Many public matrices are named for the linear unit but hold log2(x + 1).
        assert named is not None
        unit = _LOGARITHM_OF[named]
        notes.append(f"The file speaks of {named}, but its largest value is below 30: read as {unit}.")
    if unit is None:
        unit, said = _inferred(numbers, source)
        notes += said
    elif reason := why_not(numbers, unit):
        raise _contradiction(source, unit, reason)
    return SettledValues(numbers, unit, bool(stated or named), tuple(notes))


def why_not(numbers: NDArray[np.float64], unit: ExpressionUnit) -> str | None:
    """Return why the values of one sample cannot be of a unit, to go after "but"; None when they can."""
    lowest, highest, total = float(numbers.min()), float(numbers.max()), float(numbers.sum())
    if unit is ExpressionUnit.ZSCORE:
        return _why_no_z_scores(numbers)
    if lowest < 0:
        offset = log_offset(numbers)
        same = f", which is log2({offset:g}): these are log2(x+{offset:g})" if offset else ""
        return f"it has negative values, down to {lowest:.4g}{same}"
    if unit in _LINEAR_OF:
        if highest > LOG_LIMIT:
            return f"its largest value is {highest:g}, too large for a logarithm"
        if unit is not ExpressionUnit.LOG2_COUNTS and len(numbers) >= _WHOLE:
            back = float((np.exp2(numbers) - 1).sum())
            if back > _NORMALIZED_COUNTS:
                return f"without the logarithm they add up to {back / 1e6:.3g} million, as counts do"
        return None
    if len(numbers) >= _MANY and highest <= _LOG_TOP:
        return f"its largest value is {highest:g}, as of logarithms"
    whole = bool((numbers == np.rint(numbers)).all())
    if unit is ExpressionUnit.TPM and total > 1.2e6:
        return f"its values add up to {total / 1e6:.3g} million, and TPM to 1 million"
    if unit is ExpressionUnit.FPKM and (total > _NORMALIZED_COUNTS or (whole and len(numbers) >= _MANY)):
        kind = "whole numbers" if whole else f"values that add up to {total / 1e6:.3g} million"
        return f"it holds {kind}, as of counts (those of RSEM are not divided by the genes' lengths)"
    return None


def log_offset(numbers: NDArray[np.float64]) -> float | None:
    """Return the offset of log2(x + offset) below 1, known by its floor: what genes without expression have in common.

    log2(0.001) = -9.966 is enough; other floors must be shared by 2 % of the values, three at least.
    """
    known = numbers[np.isfinite(numbers)]
    if not known.size or (lowest := float(known.min())) > -0.9:
        return None
    for offset in _OFFSETS:
        if abs(lowest - np.log2(offset)) < 2e-3:
            shared = int((known <= lowest + 1e-3).sum())
            enough = offset == _OFFSETS[0] or shared >= max(3, 0.02 * known.size)
            return offset if enough and known.max() <= LOG_LIMIT else None
    return None


def why_no_z_score_table(values: NDArray[np.floating]) -> str | None:
    """Return why a (n_patients, n_genes) table cannot hold z-scores of its patients, None when it can.

    The middle gene of z-scores has mean 0 and standard deviation 1 in the cohort they were made in; in part of it, or
    against the neighbouring one, still 0.5 and 0.4 to 2.5 (TCGA-BRCA: 0.07 and 1.08). Few patients say less.
    """
    if values.shape[0] < 8 or values.shape[1] < 5:
        return None
    known = values[:, np.isfinite(values).all(0)]
    if known.shape[1] < 5:
        return None
    mean, sd = float(np.median(np.abs(known.mean(0)))), float(np.median(known.std(0)))
    if mean > 0.5 + 2 / np.sqrt(len(known)):
        return f"the means of its genes lie {mean:.2g} from 0 (the middle one)"
    if not 0.4 <= sd <= 2.5:
        return f"the standard deviations of its genes are about {sd:.2g}, not 1"
    return None


def _counts() -> tuple[ExpressionUnit, ExpressionUnit]:
    return ExpressionUnit.COUNTS, ExpressionUnit.LOG2_COUNTS


def _tpm_or_fpkm(linear: NDArray[np.float64]) -> ExpressionUnit:
    """FPKM are scaled to TPM by their sum, so that a whole transcriptome may be either."""
    whole = len(linear) >= _WHOLE and abs(linear.sum() / 1e6 - 1) > 0.1
    return ExpressionUnit.FPKM if whole else ExpressionUnit.TPM


def _offset_note(source: str, offset: float, unit: str) -> str:
    return f"{source} holds log2(x+{offset:g}), known by its lowest value of {np.log2(offset):.3f}; read as {unit}."


def _contradiction(source: str, unit: ExpressionUnit, reason: str) -> ExpressionError:
    return ExpressionError(f"{source} is said to hold {unit}, but {reason}", _STEP)


def _inferred(numbers: NDArray[np.float64], source: str) -> tuple[ExpressionUnit, list[str]]:
    """Infer the unit from the values; the profile says that it was inferred."""
    if (numbers < 0).any():
        if reason := _why_no_z_scores(numbers):
            raise ExpressionError(
                f"{source} has negative values that are no z-scores: {reason}",
                "State the unit (--expression-unit), or give TPM, counts or z-scores",
            )
        return ExpressionUnit.ZSCORE, []
    highest, total = numbers.max(), float(numbers.sum())
    if (numbers == np.rint(numbers)).all() and highest > _LOG_TOP:
        return ExpressionUnit.COUNTS, []
    whole = len(numbers) >= _WHOLE
    if highest <= _LOG_TOP:
        if whole and (np.exp2(numbers) - 1).sum() > _NORMALIZED_COUNTS:
            return ExpressionUnit.LOG2_COUNTS, []
        return ExpressionUnit.LOG2_TPM, []
    if whole and total > _NORMALIZED_COUNTS:
        return ExpressionUnit.COUNTS, [
            f"The values of {source} add up to {total / 1e6:.3g} million: read as expected or normalized counts (RSEM)."
        ]
    if whole and abs(total / 1e6 - 1) > 0.1:
        return ExpressionUnit.FPKM, []
    return ExpressionUnit.TPM, []


def _why_no_z_scores(numbers: NDArray[np.float64]) -> str | None:
    """Judge one sample: across genes z-scores have a median near 0, a spread near 1 and no floor in common.

    Of TCGA-BRCA and -LIHC (1,278 patients) medians lie within 0.45, spreads (IQR / 1.349) within 0.29 to 1.44.
    """
    offset = log_offset(numbers)
    if offset is not None:
        return f"its lowest value, {numbers.min():.4g}, is log2({offset:g}), as of log2(x+{offset:g})"
    if len(numbers) < _SOME:
        return None
    first, median, third = np.percentile(numbers, (25, 50, 75))
    spread = float((third - first) / 1.349)
    if numbers.min() >= 0:
        return f"none of its {len(numbers)} values is negative"
    if abs(median) > 2.5:
        return f"half of its values are {'above' if median > 0 else 'below'} {median:.2g}, and of z-scores 0"
    if spread > 3.5:
        return f"its values spread by {spread:.2g}, and z-scores by about 1"
    shared = float((numbers <= numbers.min()).mean())
    if shared > 0.1:
        return f"{100 * shared:.0f} % of its genes share the lowest value, {numbers.min():.4g}"
    return None
