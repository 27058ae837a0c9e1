"""Which sample of a table is that of a patient: whole names before parts of a barcode, tumor before normal."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from napari_survpgc.core.errors import ExpressionError


class SampleNeededError(ExpressionError):
    """A matrix of many samples was given without saying which; ``samples`` names them."""

    def __init__(self, source: str, samples: tuple[str, ...]) -> None:
        super().__init__(
            f"{source} holds {len(samples)} samples",
            f"Say which one with --case, e.g. {', '.join(samples[:3])}",
        )
        self.samples = samples


def choose_sample(source: str, names: Sequence[str], sample: str | None) -> str:
    """Return the sample of a table that is meant.

    Raises
    ------
    ExpressionError : none, several, or only normal tissue of the patient; SampleNeededError when nobody said which.
    """
    if sample is None:
        if len(names) == 1:
            return names[0]
        raise SampleNeededError(source, tuple(names))
    found = matching_samples(names, sample)
    if len(found) == 1:
        if found[0] != sample and is_normal(found[0]):
            raise ExpressionError(
                f"{source} has only the normal tissue {found[0]} of {sample}",
                f"Give the expression of the tumor, or ask for {found[0]} by its whole name",
            )
        return found[0]
    if len(found) > 1:
        raise ExpressionError(
            f"{source} has {len(found)} samples of {sample}",
            f"Say which one: {', '.join(found[:4])}",
        )
    near = difflib.get_close_matches(sample, names, 3) or list(names[:3])
    raise ExpressionError(
        f"{source} has no sample {sample}", f"Choose one that it has, e.g. {', '.join(near)}"
    )


def matching_samples(names: Sequence[str], sample: str) -> list[str]:
    """Return the samples of a patient: the one of that name, else those whose barcode begins with it, tumor first.

    A beginning counts up to a sign between the parts of a barcode (TCGA-AB-1234 of TCGA-AB-1234-01A, not P1 of P10);
    R turns the dashes into dots.
    """
    if sample in names:
        return [sample]
    wanted = dashed(sample)
    found = sorted({n for n in names if (d := dashed(n)) == wanted or d.startswith(f"{wanted}-")})
    return [name for name in found if not is_normal(name)] or found


def dashed(name: str) -> str:
    """Return a barcode with dashes between its parts."""
    return re.sub(r"[._]", "-", name)


def is_barcode(name: str) -> bool:
    """Whether a name is that of a patient or sample of TCGA."""
    return re.match(r"TCGA-\w\w-\w{4}", dashed(name)) is not None


def is_normal(name: str) -> bool:
    """Whether a name is that of normal tissue: sample types 10 to 29 of TCGA (20 to 29 are controls), or a word for it."""
    barcode = dashed(name)
    if is_barcode(name):
        return re.match(r"TCGA-\w\w-\w{4}-[12]\d", barcode) is not None
    return re.search(r"(^|[-\s])(normal|adjacent|nat|healthy)([-\s]|$)", barcode.lower()) is not None
