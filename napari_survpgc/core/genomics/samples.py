"""Which of a file's samples is a patient's: tumor before normal tissue, a whole name or parts of a barcode."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from napari_survpgc.core.errors import ExpressionError

_NORMAL_WORDS = frozenset(("normal", "adjacent", "nontumor", "nontumour", "solidtissuenormal"))


class SampleNeededError(ExpressionError):
    """A file was given without saying which of its samples is wanted; ``samples`` names them."""

    def __init__(
        self, source: str, samples: tuple[str, ...], problem: str | None = None, step: str | None = None
    ) -> None:
        super().__init__(
            problem or f"{source} holds {len(samples)} samples",
            step or f"Say which one with --case, e.g. {', '.join(samples[:3])}",
        )
        self.samples = samples


def choose_sample(source: str, names: Sequence[str], sample: str | None) -> str:
    """Return the name of the sample that is meant.

    Raises
    ------
    SampleNeededError : there are several and none was named, or the only one is normal tissue.
    ExpressionError : no such sample, several of the patient, or normal tissue alone.
    """
    if sample is None:
        if len(names) == 1:
            refuse_normal(source, names[0])
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
            f"{source} has {len(found)} samples of {sample}", f"Say which one: {', '.join(found[:4])}"
        )
    near = difflib.get_close_matches(sample, names, 3) or list(names[:3])
    raise ExpressionError(
        f"{source} has no sample {sample}", f"Choose one that it has, e.g. {', '.join(near)}"
    )


def refuse_normal(source: str, name: str) -> None:
    """Refuse normal tissue that nobody has asked for."""
    if is_normal(name):
        raise SampleNeededError(
            source,
            (name,),
            f"{source} holds the normal tissue {name}, not the tumor",
            f"Give the expression of the tumor, or ask for the normal tissue with --case {name}",
        )


def matching_samples(names: Sequence[str], sample: str) -> list[str]:
    """Return the samples of a patient: the one of that name, else those whose barcode begins with it, tumor first.

    A beginning counts up to a sign between the parts of a barcode (TCGA-AB-1234 of TCGA-AB-1234-01A, not P1 of P10), and
    up to the vial of a sample (01 of 01A); R turns the dashes into dots and writes an X before a digit.
    """
    if sample in names:
        return [sample]
    wanted = _dashed(sample)
    whole = [name for name in names if wanted == _dashed(name)]
    whole = whole or [name for name in names if wanted[:1].isdigit() and _dashed(name) == f"X{wanted}"]
    if len(whole) == 1:
        return whole
    vial = re.fullmatch(r"TCGA-\w\w-\w{4}-\d\d", wanted) is not None
    found = sorted(
        {
            name
            for name in names
            if (d := _dashed(name)) == wanted
            or d.startswith(f"{wanted}-")
            or (vial and re.fullmatch(rf"{re.escape(wanted)}[A-Z](-.*)?", d))
        }
    )
    return [name for name in found if not is_normal(name)] or found


def samples_of(names: Sequence[str], cases: Iterable[str]) -> dict[str, list[str]]:
    """Return what :func:`matching_samples` finds for each of many patients, of those who have any."""
    beginnings: dict[str, list[str]] = {}
    for name in names:
        dashed = _dashed(name)
        for start in {dashed, dashed.removeprefix("X")}:
            ends = [i for i, letter in enumerate(start) if letter == "-"]
            found = {start, *(start[:i] for i in ends)}
            found |= {one[:-1] for one in found if re.search(r"-\d\d[A-Z]$", one)}  # 01 of 01A
            for one in found:
                beginnings.setdefault(one, []).append(name)
    of_case = {case: matching_samples(beginnings.get(_dashed(case), []), case) for case in cases}
    return {case: found for case, found in of_case.items() if found}


def is_barcode(name: str) -> bool:
    """Whether a name is that of a patient or sample of TCGA."""
    return re.match(r"TCGA-\w\w-\w{4}", _dashed(name)) is not None


def is_normal(name: str) -> bool:
    """Whether a name is that of normal tissue: sample types 10 to 19 of a TCGA barcode, or a part that says so."""
    dashed = _dashed(name)
    if re.match(r"TCGA-\w\w-\w{4}-1\d", dashed):
        return True
    return any(part.lower() in _NORMAL_WORDS for part in dashed.split("-"))


def _dashed(name: str) -> str:
    return re.sub(r"[._ ]", "-", name)
