"""A cohort folder: patients, expression, features, folds; every problem in it is reported at once.

patients.csv, expression.csv.gz, gene_sets.gmt, expression_reference.csv (optional), features/, folds/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .clinical import parse_record
from .errors import ClinicalError, CohortError, ExpressionError
from .genes import read_gmt
from .types import CLINICAL_FIELDS, ClinicalRecord, GeneSet

SPLITS = ("train", "val", "test")
_SHOWN = 12


@dataclass(frozen=True)
class Fold:
    """Case ids of one fold."""

    number: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Cohort:
    """A checked cohort.

    Attributes
    ----------
    patients : indexed by case_id: survival_months, event, site ... as in patients.csv.
    records : case_id -> ClinicalRecord.
    features : case_id -> feature files of its slides (none for a patient without slides).
    expression : index case_id, a column a gene; None when there is no file. Patients may be missing.
    expression_reference : index gene, columns mean and sd of log2(TPM+1); None when there is no file.
    """

    path: Path
    patients: pd.DataFrame
    records: Mapping[str, ClinicalRecord]
    features: Mapping[str, tuple[Path, ...]]
    expression: pd.DataFrame | None
    expression_reference: pd.DataFrame | None
    gene_sets: tuple[GeneSet, ...]
    folds: tuple[Fold, ...]

    @property
    def name(self) -> str:
        return self.path.resolve().name


def read_cohort(folder: Path, *, endpoint: str = "survival") -> Cohort:
    """Read and check a cohort folder.

    Parameters
    ----------
    endpoint : "survival" (survival_months, event) or the name of a further one (<name>_months, <name>_event).

    Raises
    ------
    CohortError : lists all problems, not only the first.
    """
    table = folder / "patients.csv"
    if not table.is_file():
        raise CohortError(
            f"{folder} is not a cohort folder: it has no patients.csv", "See the README for its files"
        )
    patients = _read_csv(table)
    if "case_id" not in patients.columns:
        raise CohortError(
            f"{table} has no column case_id", "Name the column with the patients' ids like that"
        )
    months_column = "survival_months" if endpoint == "survival" else f"{endpoint}_months"
    event_column = "event" if endpoint == "survival" else f"{endpoint}_event"
    problems = [
        f"patients.csv has no column {c}" for c in (months_column, event_column) if c not in patients.columns
    ]
    if problems:
        raise CohortError("; ".join(problems), "Add them, or choose another endpoint")
    case = patients["case_id"].str.strip()
    problems += [f"patient {c} is listed twice" for c in sorted(set(case[case.duplicated()]))]
    if case.eq("").any():
        problems.append(f"{int(case.eq('').sum())} rows have no case_id")
    months = pd.to_numeric(patients[months_column], errors="coerce")
    event = pd.to_numeric(patients[event_column], errors="coerce")
    for c, m, e in zip(case, months, event, strict=True):
        if not np.isfinite(m) or m < 0:
            problems.append(f"patient {c} has no usable {months_column} (a number of months, 0 or more)")
        if e not in (0, 1):
            problems.append(f"patient {c} has no usable {event_column} (1 = death, 0 = censored)")
    deaths = int((event == 1).sum())
    if deaths < 2:
        problems.append(f"the cohort has {deaths} deaths, at least 2 are needed")
    records: dict[str, ClinicalRecord] = {}
    columns = [c for c in CLINICAL_FIELDS if c in patients.columns]
    for c, row in zip(case, patients[columns].to_dict("records"), strict=True):
        try:
            records[c] = parse_record({str(k): v for k, v in row.items()})
        except ClinicalError as error:
            problems.append(f"patient {c}: {error.problem}")
    features = _features(folder, case, patients, problems)
    expression = _expression(folder, set(case), problems)
    folds = _folds(folder, set(case), problems)
    gene_sets: tuple[GeneSet, ...] = ()
    if (folder / "gene_sets.gmt").is_file():
        try:
            gene_sets = read_gmt(folder / "gene_sets.gmt")
        except ExpressionError as error:
            problems.append(str(error))
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CohortError(
            f"The cohort {folder} has {len(problems)} problems: {shown}{more}", "Correct the files"
        )
    clean = patients.assign(survival_months=months, event=event.astype(int), case_id=case).set_index(
        "case_id"
    )
    reference = folder / "expression_reference.csv"
    return Cohort(
        path=folder,
        patients=clean,
        records=records,
        features=features,
        expression=expression,
        expression_reference=_reference(reference) if reference.is_file() else None,
        gene_sets=gene_sets,
        folds=folds,
    )


def make_folds(
    cohort: Cohort, n_folds: int = 5, *, seed: int = 0, by_site: bool = False, val_share: float = 0.0
) -> tuple[Fold, ...]:
    """Make folds by patient, with as many deaths in each as possible.

    Parameters
    ----------
    by_site : keep all patients of a tissue source site in one fold, since the site alone predicts survival.
    val_share : part of each training fold that is set aside as val.
    """
    rng = np.random.default_rng(seed)
    cases = np.array(cohort.patients.index)
    event = cohort.patients["event"].to_numpy()
    part = np.zeros(len(cases), int)
    if by_site:
        if "site" not in cohort.patients.columns:
            raise CohortError("patients.csv has no column site", "Add it, or make folds by patient")
        load, deaths = np.zeros(n_folds), np.zeros(n_folds)
        site = cohort.patients["site"].to_numpy()
        names, counts = np.unique(site, return_counts=True)
        order = np.lexsort((rng.permutation(len(names)), -counts))
        for name in names[order]:  # the largest sites first, each into the emptiest fold
            here = site == name
            chosen = int(np.lexsort((deaths, load))[0])
            part[here] = chosen
            load[chosen] += here.sum()
            deaths[chosen] += event[here].sum()
    else:
        order = rng.permutation(len(cases))
        order = order[np.argsort(event[order], kind="stable")]
        part[order] = np.arange(len(cases)) % n_folds
    folds = []
    for number in range(n_folds):
        training = rng.permutation(cases[part != number])
        n_val = round(val_share * len(training))
        folds.append(
            Fold(
                number,
                tuple(sorted(training[n_val:])),
                tuple(sorted(training[:n_val])),
                tuple(cases[part == number]),
            )
        )
    return tuple(folds)


def _read_csv(path: Path) -> pd.DataFrame:
    """Read everything as text: site "05" stays "05"."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise CohortError(f"{path} is not a readable table", "Save it as CSV (UTF-8)") from error


def _features(
    folder: Path, case: pd.Series, patients: pd.DataFrame, problems: list[str]
) -> dict[str, tuple[Path, ...]]:
    place = folder / "features"
    if not place.is_dir() or "slide_ids" not in patients.columns:
        return {c: () for c in case}
    found: dict[str, tuple[Path, ...]] = {}
    for c, text in zip(case, patients["slide_ids"], strict=True):
        files = []
        for slide in filter(None, (part.strip() for part in text.split(";"))):
            # Slide ids come with or without the slide's own extension.
            names = (f"{slide}.h5", f"{Path(slide).stem}.h5")
            file = next((place / n for n in names if (place / n).is_file()), None)
            if file is None:
                problems.append(f"patient {c} has no features for slide {slide}")
            else:
                files.append(file)
        found[c] = tuple(files)
    return found


def _expression(folder: Path, cases: set[str], problems: list[str]) -> pd.DataFrame | None:
    path = next((folder / n for n in ("expression.csv.gz", "expression.csv") if (folder / n).is_file()), None)
    if path is None:
        return None
    try:
        frame = pd.read_csv(path, index_col=0, dtype={0: str}, low_memory=False)
    except (OSError, ValueError, EOFError) as error:
        problems.append(f"{path.name} is not a readable table ({type(error).__name__})")
        return None
    frame.index = frame.index.astype(str)
    if frame.index.duplicated().any():
        problems.append(f"{path.name} lists {frame.index[frame.index.duplicated()][0]} twice")
    text = [str(c) for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    if text:
        problems.append(f"{path.name} has values that are not numbers, e.g. in gene {text[0]}")
        return None
    if np.isinf(frame.to_numpy(float)).any():
        problems.append(f"{path.name} has infinite values")
    if not cases & set(frame.index):
        problems.append(f"{path.name} holds none of the patients")
    return frame


def _reference(path: Path) -> pd.DataFrame:
    frame = _read_csv(path)
    if not {"gene", "mean", "sd"} <= set(frame.columns):
        raise CohortError(
            f"{path} lacks the columns gene, mean and sd", "Give mean and sd of log2(TPM+1) a gene"
        )
    return frame.set_index("gene")[["mean", "sd"]].astype(float)


def _folds(folder: Path, cases: set[str], problems: list[str]) -> tuple[Fold, ...]:
    place = folder / "folds"
    files = sorted(place.glob("fold_*.csv"), key=lambda p: (len(p.stem), p.stem)) if place.is_dir() else []
    folds = []
    for number, path in enumerate(files):
        table = _read_csv(path)
        if not {"case_id", "split"} <= set(table.columns):
            problems.append(f"{path.name} lacks the columns case_id and split")
            continue
        parts: dict[str, Sequence[str]] = {s: tuple(table["case_id"][table["split"] == s]) for s in SPLITS}
        other = sorted(set(table["split"]) - set(SPLITS))
        if other:
            problems.append(f"{path.name} has the split {other[0]!r}, known are {', '.join(SPLITS)}")
        unknown = sorted(set(table["case_id"]) - cases)
        if unknown:
            problems.append(f"{path.name} names {len(unknown)} unknown patients, e.g. {unknown[0]}")
        # The published folds have val == test; the honest protocol then simply does not use val.
        both = sorted(set(parts["train"]) & (set(parts["test"]) | set(parts["val"])))
        if both:
            problems.append(
                f"{path.name} has {len(both)} patients in train and in val or test, e.g. {both[0]}"
            )
        for split in SPLITS:
            if len(set(parts[split])) < len(parts[split]):
                problems += [f"{path.name} repeats a patient in {split}"]
        if not parts["train"] or not parts["test"]:
            problems.append(f"{path.name} has no train or no test patients")
        folds.append(Fold(number, tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"])))
    return tuple(folds)
