"""Units of expression as the values show them: inferred where none is stated, refused where they contradict it.

Whole transcriptomes add up: TPM to a million, FPKM to a part of it or little more, counts of reads to tens of millions. Only
log2(x + 0.001) is recognised among logarithms with another offset than 1: 0 becomes -9.966, which many genes then have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.types import ExpressionUnit

Values = NDArray[np.float64]

WHOLE = 5000
"""From this many genes on a file's sum stands for the sample's total."""
_SEVERAL = 1000  # genes, enough to see whole numbers and the largest value of a transcriptome
_HIGHEST_LOG = 30.0  # log2 of a billion: no transcriptome has more reads of a gene
_NO_LOG = 40.0
_TPM_SUM = 1.2e6  # a million, and what genes counted twice may add
_FPKM_SUM = 2.5e6  # ten times what is usual
_UQ_SUM = 1e9  # FPKM-UQ of the GDC before 2022 add up to 1e10, normalised counts to less than 1e8
_OFFSET = 0.001
FLOOR = math.log2(_OFFSET)
_AT_FLOOR = 6e-3  # -9.966, -9.97 and -9.96 are all meant
_FEW = 3.5  # log2: above ten reads, so that zeros and ones alone are no counts
_TOLD = 9.0  # log2: below 500 a rounded logarithm tells a whole number
_SOME_SAMPLES = 64
_ENOUGH = 20  # genes, to judge the middle and the spread of one sample

_LOG_OF = {
    ExpressionUnit.TPM: ExpressionUnit.LOG2_TPM,
    ExpressionUnit.FPKM: ExpressionUnit.LOG2_FPKM,
    ExpressionUnit.COUNTS: ExpressionUnit.LOG2_COUNTS,
}
LINEAR_OF = {log: linear for linear, log in _LOG_OF.items()}


@dataclass(frozen=True)
class Settled:
    """Values whose unit is settled.

    Attributes
    ----------
    values : as given, or with another offset under the logarithm.   notes : what was found out, in sentences.
    """

    values: Values
    unit: ExpressionUnit
    declared: bool
    notes: tuple[str, ...]


def settle_unit(
    values: Values, unit: ExpressionUnit | None, source: str, *, by_user: bool = False
) -> Settled:
    """Return the unit of one sample's values.

    Parameters
    ----------
    values : (n_genes,) finite.   unit : stated by the file, its name, or (``by_user``) a person; None to infer it.

    Raises
    ------
    ExpressionError : the values contradict the stated unit, or show none.
    """
    notes: list[str] = []
    declared = unit is not None
    if unit is ExpressionUnit.LOG2_TPM_MILLI:
        if values.min() < FLOOR - _AT_FLOOR or values.max() > _NO_LOG or (values == 0).sum() >= _ENOUGH:
            raise ExpressionError(
                f"{source} is said to hold {unit}, where a gene without reads is {FLOOR:.2f}, but its values lie between"
                f" {values.min():.4g} and {values.max():.4g}",
                "State the unit that the values have, or leave it out",
            )
        values, unit = shifted_log(values), ExpressionUnit.LOG2_TPM
        notes.append(f"log2(tpm+0.001) was turned into {unit}.")
        _refuse_contradiction(values, unit, source, notes)
        return Settled(values, unit, True, tuple(notes))
    if has_log_floor(values):
        if by_user or unit is ExpressionUnit.ZSCORE:
            raise ExpressionError(
                f"{source} is said to hold {'z-scores' if unit is ExpressionUnit.ZSCORE else unit}, but its lowest value"
                f" {values.min():.4g} is log2({_OFFSET:g}): the values are log2(x + 0.001)",
                f"State {ExpressionUnit.LOG2_TPM_MILLI} if x is TPM, or leave the unit out",
            )
        values = shifted_log(values)
        unit = None if unit is None else _LOG_OF.get(unit, unit)
        if unit is None:
            unit = _infer_log(values, notes)
        notes.append(f"The lowest value is log2(0.001): log2(x + 0.001) was turned into {unit}.")
        _refuse_contradiction(values, unit, source, notes)
        return Settled(values, unit, declared, tuple(notes))
    if (values < 0).any():
        if unit not in (None, ExpressionUnit.ZSCORE):
            raise ExpressionError(
                f"{source} has negative values down to {values.min():.4g}, which cannot be {unit}",
                "State the right unit, or give values without a negative one",
            )
        if reason := why_no_zscores(values):
            said = (
                "is said to hold z-scores, but "
                if declared
                else "has negative values and is no list of z-scores: "
            )
            raise ExpressionError(
                f"{source} {said}{reason}", "Give TPM, FPKM or counts, their log2(x+1), or z-scores"
            )
        return Settled(values, ExpressionUnit.ZSCORE, declared, ())
    if unit is None:
        if _lacks_zeros(values):
            raise ExpressionError(
                f"{source} has no gene without reads (the lowest value is {values.min():.4g}), as an array or a"
                " variance-stabilised table has it",
                "Give RNA sequencing as counts, TPM or FPKM, or state the unit",
            )
        return Settled(values, _infer(values, notes), False, tuple(notes))
    linear_says_log = unit in _LOG_OF and len(values) >= _SEVERAL and values.max() <= _HIGHEST_LOG
    if linear_says_log and not by_user:
        # Many public matrices are named for the linear unit but hold log2(x + 1).
        notes.append(
            f"The file speaks of {unit}, but its largest value is below {_HIGHEST_LOG:g}: read as {_LOG_OF[unit]}."
        )
        unit = _LOG_OF[unit]
    elif linear_says_log:
        raise ExpressionError(
            f"{source} is said to hold {unit}, but the largest of its {len(values)} values is {values.max():.4g}",
            f"State {_LOG_OF[unit]} if they are logarithms, or leave the unit out",
        )
    _refuse_contradiction(values, unit, source, notes)
    return Settled(values, unit, True, tuple(notes))


def table_unit(values: NDArray[np.floating], names: Sequence[str] = ()) -> ExpressionUnit:
    """Infer the unit of a (n_samples, n_genes) table, which states none, by the rules of one sample.

    Parameters
    ----------
    values : NaN where there is none; log2(x + 0.001) has been turned into log2(x + 1), see :func:`shifted_log`.
    names : of the samples, for the message.

    Returns
    -------
    COUNTS for whole numbers, however few genes; FPKM or their logarithms only of whole transcriptomes, whose sums tell.

    Raises
    ------
    ExpressionError : negative values that are no z-scores, an array, or samples in different units.
    """
    numbers = np.asarray(values, np.float64)
    rows = [row[np.isfinite(row)] for row in numbers]
    rows = [row for row in rows if row.size]
    if not rows:
        return ExpressionUnit.TPM
    lowest, highest = min(row.min() for row in rows), max(row.max() for row in rows)
    if lowest < 0:
        reason = why_no_zscore_table(numbers)
        strange = [why for row in rows[:_SOME_SAMPLES] if (why := why_no_zscores(row))]
        if reason is None and len(strange) > len(rows[:_SOME_SAMPLES]) / 2:
            reason = f"of the first sample, {strange[0]}"
        if reason:
            raise ExpressionError(
                f"The expression of the cohort has negative values that are no z-scores: {reason}",
                "Give log2(TPM+1), TPM, counts, or z-scores of the cohort's own patients",
            )
        return ExpressionUnit.ZSCORE
    if np.median([len(row) for row in rows]) >= WHOLE:
        return _infer_whole_table(rows, names)
    linear = highest > _NO_LOG
    kind = ExpressionUnit.TPM if linear else ExpressionUnit.LOG2_TPM
    if linear and all((row == np.rint(row)).all() for row in rows):
        return ExpressionUnit.COUNTS
    # Of large logarithms everything looks like a whole number.
    told = sum(int(((row > 0) & (row < _TOLD)).sum()) for row in rows)
    if (
        not linear
        and highest > _FEW
        and told >= _ENOUGH
        and all(_are_counts(np.exp2(row) - 1) for row in rows)
    ):
        return ExpressionUnit.LOG2_COUNTS
    return kind


def _infer_whole_table(rows: Sequence[Values], names: Sequence[str]) -> ExpressionUnit:
    if np.mean([_lacks_zeros(row) for row in rows]) > 0.5:
        raise ExpressionError(
            "The expression of the cohort has no gene without reads, as an array or a variance-stabilised table has it",
            "Give z-scores of the cohort's own patients, or RNA sequencing as counts, TPM or FPKM",
        )
    units = [_infer(row, []) for row in rows]
    most = Counter(units).most_common(1)[0][0]
    counted = (ExpressionUnit.COUNTS, ExpressionUnit.TPM)
    other = [
        i
        for i, unit in enumerate(units)
        if (unit in LINEAR_OF) != (most in LINEAR_OF) or (unit is not most and {unit, most} == set(counted))
    ]
    if other:
        which = f" (such as {names[other[0]]})" if len(names) == len(rows) else ""
        raise ExpressionError(
            f"The expression of the cohort is in several units: {len(other)} of {len(rows)} samples{which} look like"
            f" {units[other[0]]}, the others like {most}",
            "Give all samples in one unit",
        )
    return most


def sum_tells_unit(values: NDArray[np.floating]) -> bool:
    """Whether the sum of a whole transcriptome leaves no doubt: TPM add up to a million, counts to far more."""
    if len(values) < WHOLE or values.min() < 0:
        return False
    total = float((values if values.max() > _HIGHEST_LOG else np.exp2(values) - 1).sum())
    return abs(total / 1e6 - 1) <= 0.1 or _FPKM_SUM < total < _UQ_SUM


def has_log_floor(values: NDArray[np.floating]) -> bool:
    """Whether values are log2(x + 0.001): the lowest is log2(0.001), and more than one by chance."""
    known = values[np.isfinite(values)]
    if not known.size or abs(known.min() - FLOOR) > _AT_FLOOR:
        return False
    at_floor = int((np.abs(known - FLOOR) <= _AT_FLOOR).sum())
    return at_floor > 1 or known.size < _ENOUGH or why_no_zscores(known) is not None


def shifted_log(values: NDArray[np.floating]) -> Values:
    """Return log2(x + 1) of values log2(x + 0.001); NaN stays."""
    linear = np.exp2(np.asarray(values, np.float64)) - _OFFSET
    return np.log2(np.where(linear < _OFFSET * 1e-2, 0.0, linear) + 1)


def why_no_zscores(values: NDArray[np.floating]) -> str | None:
    """Return why the values of one sample are no z-scores, None for what may be some.

    Of 1,278 patients of TCGA with 1,550 genes the median lies between -0.45 and 0.22, the robust standard deviation
    between 0.29 and 1.44.
    """
    known = values[np.isfinite(values)]
    if known.size < _ENOUGH:
        return None
    low, middle, high = (float(q) for q in np.percentile(known, (25, 50, 75)))
    spread = (high - low) / 1.349
    if abs(middle) > 1.5 or spread > 3:
        return f"half of the values lie between {low:.3g} and {high:.3g}, not around 0 with a spread of 1{_floor_of(known)}"
    if known.size >= 50 and known.min() >= 0:
        return "none of the values is below 0"
    lowest = known.min()
    pile = float((known == lowest).mean())
    if lowest < -1 and pile > 0.05 and known.max() > -1.2 * lowest:
        return f"{100 * pile:.0f} % of the values are {lowest:.4g}, which are zeros under a logarithm{_floor_of(known)}"
    return None


def why_no_zscore_table(values: NDArray[np.floating]) -> str | None:
    """Return why a (n_samples, n_genes) table holds no z-scores, None for what may be some or is too small to tell.

    Of two cohorts of TCGA (1,550 genes) the median gene has mean 0.00 and standard deviation 1.07; 90 % of the genes
    have means between -0.21 and 0.44 and standard deviations between 0.78 and 2.2.
    """
    numbers = np.asarray(values, np.float64)
    if len(numbers) < 8 or numbers.shape[1] < 2:
        return None
    with np.errstate(invalid="ignore"):
        known = np.isfinite(numbers).sum(0) >= 8
        if not known.any():
            return None
        mean, sd = np.nanmean(numbers[:, known], 0), np.nanstd(numbers[:, known], 0)
    middle, spread = float(np.median(np.abs(mean))), float(np.median(sd))
    if middle > 1 or not 0.4 <= spread <= 2.5:
        return (
            f"the median gene has a mean of {float(np.median(mean)):.2g} and a standard deviation of {spread:.2g},"
            f" not 0 and 1{_floor_of(numbers[np.isfinite(numbers)])}"
        )
    fitting = float(((np.abs(mean) <= 1.5) & (sd >= 0.25) & (sd <= 4)).mean())
    if fitting < 0.6:
        return f"only {100 * fitting:.0f} % of the genes have a mean near 0 and a standard deviation near 1"
    return None


def _lacks_zeros(values: Values) -> bool:
    """Whether a whole transcriptome has no gene without reads, and is no list of counts."""
    return bool(len(values) >= WHOLE and values.min() > 1 and not (values == np.rint(values)).all())


def _are_counts(linear: Values) -> bool:
    """Whether values are whole numbers, up to what rounding of their logarithm to four decimals leaves."""
    return bool((np.abs(linear - np.rint(linear)) <= 1e-3 + 1e-4 * linear).all())


def _floor_of(known: NDArray[np.floating]) -> str:
    """Name the logarithm whose zeros the lowest values may be."""
    lowest = float(known.min())
    if lowest > -1 or (known == known.min()).sum() < 2:
        return ""
    for base, name in ((2.0, "log2"), (10.0, "log10"), (math.e, "ln")):
        offset = base**lowest
        digits = float(f"{offset:.1g}")
        if abs(offset - digits) < 2e-3 * digits and digits < 1:
            return f"; they may be {name}(x + {digits:g})"
    return ""


def _infer(values: Values, notes: list[str]) -> ExpressionUnit:
    highest = values.max()
    if (values == np.rint(values)).all() and highest > _HIGHEST_LOG:
        return ExpressionUnit.COUNTS
    if highest <= _HIGHEST_LOG:
        return _infer_log(values, notes)
    total = values.sum()
    if len(values) < WHOLE or abs(total / 1e6 - 1) <= 0.1:
        return ExpressionUnit.TPM
    return (
        _too_many(total, ExpressionUnit.COUNTS, notes) if _FPKM_SUM < total < _UQ_SUM else ExpressionUnit.FPKM
    )


def _infer_log(values: Values, notes: list[str]) -> ExpressionUnit:
    linear = np.exp2(values) - 1
    if len(values) < WHOLE or linear.sum() <= _TPM_SUM:
        return ExpressionUnit.LOG2_TPM
    if linear.sum() <= _FPKM_SUM:
        notes.append("Without the logarithm the values add up to more than TPM do: read as log2(fpkm+1).")
        return ExpressionUnit.LOG2_FPKM
    return _too_many(linear.sum(), ExpressionUnit.LOG2_COUNTS, notes)


def _too_many(total: float, unit: ExpressionUnit, notes: list[str]) -> ExpressionUnit:
    notes.append(
        f"The values add up to {total:.2g}, more than TPM or FPKM can: read as {unit} (expected or normalised counts,"
        " as of RSEM)."
    )
    return unit


def _refuse_contradiction(values: Values, unit: ExpressionUnit, source: str, notes: list[str]) -> None:
    """Refuse a stated unit that the values of a sample cannot have; say what is doubtful."""
    if unit is ExpressionUnit.ZSCORE:
        if reason := why_no_zscores(values):
            raise ExpressionError(
                f"{source} is said to hold z-scores, but {reason}", "State the unit that the values have"
            )
        return
    step = "State the unit that the values have, or leave it out"
    linear = values
    kind: ExpressionUnit = unit
    if unit in LINEAR_OF:
        if values.max() > _NO_LOG:
            raise ExpressionError(f"{source} has values up to {values.max():g}, which cannot be {unit}", step)
        linear, kind = np.exp2(values) - 1, LINEAR_OF[unit]
    total, whole = float(linear.sum()), len(values) >= WHOLE
    uq = "uq" in source.lower()
    most = {ExpressionUnit.TPM: _TPM_SUM, ExpressionUnit.FPKM: _FPKM_SUM}.get(kind, math.inf)
    integers = _are_counts(np.abs(linear))
    if whole and total > most and not (kind is ExpressionUnit.FPKM and (uq or total > _UQ_SUM)):
        raise ExpressionError(
            f"{source} is said to hold {unit}, but its values add up to {total:.3g}, more than {kind} can"
            + (" (whole numbers: counts)" if integers else " (expected or normalised counts do)"),
            step,
        )
    if (
        kind is not ExpressionUnit.COUNTS
        and integers
        and len(values) >= _SEVERAL
        and linear.max() > 1000
        and total > 5e5
    ) and not (kind is ExpressionUnit.TPM and whole and abs(total / 1e6 - 1) <= 0.1):
        raise ExpressionError(
            f"{source} is said to hold {unit}, but its {len(values)} values are whole numbers, as counts are",
            step,
        )
    if kind is ExpressionUnit.COUNTS and whole and not integers and abs(total / 1e6 - 1) < 2e-3:
        raise ExpressionError(
            f"{source} is said to hold {unit}, but its values add up to a million, as TPM do", step
        )
    if kind is ExpressionUnit.TPM and len(values) >= 3 * WHOLE and total < 5e5:
        notes.append(
            f"The TPM of {len(values)} genes add up to {total:.2g} instead of a million: a part of the genes, or FPKM."
        )
