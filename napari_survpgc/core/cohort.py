"""A cohort folder: patients, expression, features, folds; every problem in it is reported at once.

patients.csv, expression.csv.gz, gene_sets.gmt, expression_reference.csv (optional), features/, folds/
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .clinical import parse_record
from .errors import (
    ClinicalError,
    CohortError,
    ExpressionError,
    FeatureError,
    counted,
    several,
    some,
    too_many,
)
from .feature_file import summarize_features
from .genes import read_gmt
from .types import CLINICAL_FIELDS, ClinicalRecord, GeneSet

SPLITS = ("train", "val", "test")


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
    endpoint: str = "survival"

    @property
    def name(self) -> str:
        return self.path.resolve().name


def read_cohort(folder: Path, *, endpoint: str = "survival", open_features: bool = False) -> Cohort:
    """Read and check a cohort folder.

    Parameters
    ----------
    endpoint : "survival" (survival_months, event) or the name of a further one (<name>_months, <name>_event).
    open_features : look into every feature file too, so that damage is listed with the other problems.

    Raises
    ------
    CohortError : lists all problems, not only the first.
    """
    table = folder / "patients.csv"
    if not table.is_file():
        raise CohortError(
            f"{folder} is not a cohort folder: it has no patients.csv", "See the README for its files"
        )
    patients = read_text_table(table)
    if "case_id" not in patients.columns:
        raise CohortError(
            f"{table} has no column case_id", "Name the column with the patients' ids like that"
        )
    months_column = "survival_months" if endpoint == "survival" else f"{endpoint}_months"
    event_column = "event" if endpoint == "survival" else f"{endpoint}_event"
    problems: list[str] = []
    case = patients["case_id"].str.strip()
    problems += several(
        "patient {} is listed twice", "patients {} are listed twice", set(case[case.duplicated()])
    )
    if case.eq("").any():
        problems.append(f"{int(case.eq('').sum())} rows have no case_id")
    if patients.empty:
        problems.append("patients.csv has no patients")
    months, event = _outcome(patients, case, months_column, event_column, problems)
    records: dict[str, ClinicalRecord] = {}
    columns = [c for c in CLINICAL_FIELDS if c in patients.columns]
    unusable = []
    for c, row in zip(case, patients[columns].to_dict("records"), strict=True):
        try:
            records[c] = parse_record({str(k): v for k, v in row.items()})
        except ClinicalError as error:
            unusable.append(f"patient {c}: {error.problem}")
    problems += some(unusable)
    features = _features(folder, case, patients, open_features, problems)
    expression = _expression(folder, set(case), problems)
    folds = _folds(folder, set(case), problems)
    gene_sets: tuple[GeneSet, ...] = ()
    if (folder / "gene_sets.gmt").is_file():
        try:
            gene_sets = read_gmt(folder / "gene_sets.gmt")
        except ExpressionError as error:
            problems.append(str(error))
    if problems:
        raise CohortError(
            f"The cohort {folder} has {counted(problems)}: {too_many(problems, 40)}", "Correct the files"
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
        endpoint=endpoint,
    )


FOLD_KINDS = ("patient", "event", "site", "leave-site-out")
_SITE_DEATHS = 2


def make_folds(
    cohort: Cohort, n_folds: int = 5, *, seed: int = 0, by: str = "event", val_share: float = 0.0
) -> tuple[Fold, ...]:
    """Make folds; every patient is tested once.

    Parameters
    ----------
    by : "patient" (at random), "event" (as many deaths in each fold as can be), "site" (all patients of a tissue
        source site in one fold, since the site alone predicts survival), "leave-site-out" (one fold a site; sites
        with fewer than 2 deaths, which cannot be scored alone, are tested together in a last fold).
    n_folds : not used by "leave-site-out".
    val_share : part of each training fold that is set aside as val, by site where the folds are by site.

    Raises
    ------
    CohortError : no column site, or more folds than there are patients or sites.
    """
    rng = np.random.default_rng(seed)
    cases = np.array(cohort.patients.index)
    event = cohort.patients["event"].to_numpy(int)
    units = cases if by in ("patient", "event") else _sites(cohort)
    if by == "leave-site-out":
        names, where = np.unique(units, return_inverse=True)
        large = np.bincount(where, event, len(names)) >= _SITE_DEATHS
        number = np.where(large, np.cumsum(large) - 1, large.sum())
        part = number[where]
        n_folds = len(np.unique(part))
    elif by in ("patient", "event", "site"):
        part = _balanced(units, event if by != "patient" else np.zeros_like(event), n_folds, rng)
    else:
        raise CohortError(f"Folds cannot be made by {by}", f"Choose from {', '.join(FOLD_KINDS)}")
    if n_folds < 2 or len(np.unique(part)) < n_folds:
        raise CohortError(
            f"The {len(np.unique(units))} {'patients' if units is cases else 'sites'} are too few for {n_folds} folds",
            "Make fewer folds, or choose another kind",
        )
    folds = []
    for fold in range(n_folds):
        training = part != fold
        val = np.zeros(len(cases), bool)
        if val_share > 0:
            share = _balanced(units[training], event[training], max(2, round(1 / val_share)), rng)
            val[training] = share == 0
        folds.append(
            Fold(
                fold,
                tuple(cases[training & ~val].tolist()),
                tuple(cases[val].tolist()),
                tuple(cases[~training].tolist()),
            )
        )
    return tuple(folds)


def write_folds(folds: Sequence[Fold], folder: Path) -> None:
    """Write fold_<i>.csv files as a cohort folder has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for fold in folds:
        rows = [(case, split) for split in SPLITS for case in getattr(fold, split)]
        table = pd.DataFrame(rows, columns=["case_id", "split"])
        table.to_csv(folder / f"fold_{fold.number}.csv", index=False, lineterminator="\n")


def _sites(cohort: Cohort) -> NDArray[np.str_]:
    if "site" not in cohort.patients.columns or (cohort.patients["site"] == "").any():
        raise CohortError(
            "patients.csv has no column site, or it is empty for some patients",
            "Fill it in, or make folds by event",
        )
    return cohort.patients["site"].to_numpy(str)


def _balanced(
    units: NDArray[np.str_], event: NDArray[np.int64], n_parts: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the part of each patient: whole units, the largest first, each into the part with the least.

    Parts fill up by deaths, then by patients; units of one patient thus go round by death and by chance.
    """
    names, where = np.unique(units, return_inverse=True)
    sizes = np.bincount(where)
    deaths = np.bincount(where, event, len(names))
    order = np.lexsort((rng.permutation(len(names)), -sizes, -deaths))
    part_of = np.zeros(len(names), np.int64)
    load, died = np.zeros(n_parts), np.zeros(n_parts)
    for unit in order:
        chosen = int(np.lexsort((load, died))[0]) if deaths[unit] else int(np.argmin(load))
        part_of[unit] = chosen
        load[chosen] += sizes[unit]
        died[chosen] += deaths[unit]
    return part_of[where]


def _outcome(
    patients: pd.DataFrame, case: pd.Series, months_column: str, event_column: str, problems: list[str]
) -> tuple[pd.Series, pd.Series]:
    """Return months and event as numbers; what is wrong with them goes into ``problems``."""
    absent = [c for c in (months_column, event_column) if c not in patients.columns]
    problems += [f"patients.csv has no column {c} (add it, or choose another endpoint)" for c in absent]
    if absent or patients.empty:
        return pd.Series(dtype=float), pd.Series(dtype=float)
    months = pd.to_numeric(patients[months_column], errors="coerce")
    event = pd.to_numeric(patients[event_column], errors="coerce")
    usable = np.isfinite(months) & (months >= 0)
    rule = f"no usable {months_column} (a number of months, 0 or more)"
    problems += several(f"patient {{}} has {rule}", f"patients {{}} have {rule}", case[~usable])
    rule = f"no usable {event_column} (1 = death, 0 = censored)"
    problems += several(f"patient {{}} has {rule}", f"patients {{}} have {rule}", case[~event.isin((0, 1))])
    deaths = int((event == 1).sum())
    if deaths < 2:
        problems.append(f"the cohort has {deaths} death{'' if deaths == 1 else 's'}, at least 2 are needed")
    elif usable.all() and months[event == 1].nunique() < 2:
        problems.append(f"all deaths have the same {months_column}, so that nobody can be ranked")
    return months, event


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


def _features(
    folder: Path, case: pd.Series, patients: pd.DataFrame, open_files: bool, problems: list[str]
) -> dict[str, tuple[Path, ...]]:
    place = folder / "features"
    if not place.is_dir() or "slide_ids" not in patients.columns:
        return {c: () for c in case}
    found: dict[str, tuple[Path, ...]] = {}
    # Ours; CLAM's folders; TRIDENT's, which may stand there for one encoder and one way to cut patches.
    trident = sorted(p for p in (*place.glob("features_*"), *place.glob("*x_*px_*/features_*")) if p.is_dir())
    places = [(place, "h5"), (place / "h5_files", "h5"), (place, "pt"), (place / "pt_files", "pt")]
    places += [(folder, "h5") for folder in trident[:1]]
    if len(trident) > 1:
        names = ", ".join(p.relative_to(place).as_posix() for p in trident)
        problems.append(f"features holds several sets of features ({names}); keep the one to train on")
    missing, shared, damaged = [], [], []
    owner: dict[str, str] = {}
    for c, text in zip(case, patients["slide_ids"], strict=True):
        files = []
        for slide in filter(None, (part.strip() for part in text.split(";"))):
            if owner.setdefault(slide, c) != c:
                shared.append(f"slide {slide} belongs to the patients {owner[slide]} and {c}")
            # Slide ids come with or without the slide's own extension.
            file = next(
                (
                    sub / f"{name}.{kind}"
                    for sub, kind in places
                    for name in (slide, Path(slide).stem)
                    if (sub / f"{name}.{kind}").is_file()
                ),
                None,
            )
            if file is None:
                missing.append(f"patient {c} has no features for slide {slide}")
                continue
            files.append(file)
            if open_files:
                try:
                    summarize_features(file)
                except FeatureError as error:
                    damaged.append(f"patient {c}: {error.problem}")
        found[c] = tuple(files)
    problems += [*some(missing), *some(shared), *some(damaged)]
    return found


def _expression(folder: Path, cases: set[str], problems: list[str]) -> pd.DataFrame | None:
    path = next((folder / n for n in ("expression.csv.gz", "expression.csv") if (folder / n).is_file()), None)
    if path is None:
        return None
    try:
        names = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0, 1:]
        frame = pd.read_csv(path, index_col=0, dtype={0: str}, low_memory=False)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        problems.append(f"{path.name} is damaged or not a table ({' '.join(str(error).split())[:80]})")
        return None
    frame.index = frame.index.astype(str).str.strip()
    # pandas renames the second column of one name, and a gene twice in a model would be one too many.
    problems += several(
        f"{path.name} has the gene {{}} twice",
        f"{path.name} has the genes {{}} twice",
        set(names[names.duplicated()]),
    )
    again = set(frame.index[frame.index.duplicated()])
    problems += several(f"{path.name} lists {{}} twice", f"{path.name} lists {{}} twice", again)
    text = [str(c) for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    if text:
        cells = frame[text[0]]
        place = pd.to_numeric(cells, errors="coerce").isna() & cells.notna()
        example = (
            f"{str(cells[place].iloc[0])[:20]!r} of {cells.index[place][0]}" if place.any() else "no number"
        )
        problems.append(
            f"{path.name} has values that are not numbers in {len(text)} gene{'s' if len(text) > 1 else ''},"
            f" e.g. {text[0]}: {example}"
        )
        return None
    infinite = np.isinf(frame.to_numpy(float))
    if infinite.any():
        problems.append(f"{path.name} has infinite values, e.g. in gene {frame.columns[infinite.any(0)][0]}")
    absent = frame.isna().to_numpy() & np.isin(frame.index, list(cases))[:, None]
    if absent.any():
        row, column = np.argwhere(absent)[0]
        problems.append(
            f"{path.name} lacks {int(absent.sum())} value{'s' if absent.sum() > 1 else ''}, e.g. of gene"
            f" {frame.columns[column]} in patient {frame.index[row]} (fill them in, or leave out the gene or the patient)"
        )
    if cases and not cases & set(frame.index):
        problems.append(f"{path.name} holds none of the patients")
    return frame


def _reference(path: Path) -> pd.DataFrame:
    frame = read_text_table(path)
    if not {"gene", "mean", "sd"} <= set(frame.columns):
        raise CohortError(
            f"{path} lacks the columns gene, mean and sd", "Give mean and sd of log2(TPM+1) a gene"
        )
    return frame.set_index("gene")[["mean", "sd"]].astype(float)


def _folds(folder: Path, cases: set[str], problems: list[str]) -> tuple[Fold, ...]:
    place = folder / "folds"
    files = sorted(place.glob("fold_*.csv"), key=lambda p: (len(p.stem), p.stem)) if place.is_dir() else []
    folds: list[Fold] = []
    for path in files:
        name = re.fullmatch(r"fold_(\d+)", path.stem)
        if name is None:
            problems.append(f"folds/{path.name} is not named fold_<number>.csv")
            continue
        number = int(name[1])
        try:
            table = read_text_table(path)
        except CohortError as error:
            problems.append(error.problem)
            continue
        if not {"case_id", "split"} <= set(table.columns):
            problems.append(f"{path.name} lacks the columns case_id and split")
            continue
        parts: dict[str, Sequence[str]] = {s: tuple(table["case_id"][table["split"] == s]) for s in SPLITS}
        other = sorted(set(table["split"]) - set(SPLITS))
        if other:
            problems.append(f"{path.name} has the split {other[0]!r}, known are {', '.join(SPLITS)}")
        unknown = sorted(set(table["case_id"]) - cases)
        if unknown:
            problems += several(
                f"{path.name} names the unknown patient {{}}",
                f"{path.name} names the unknown patients {{}}",
                unknown,
            )
        # The published folds have val == test; the honest protocol then simply does not use val.
        if (shared := set(parts["val"]) & set(parts["test"])) and set(parts["val"]) != set(parts["test"]):
            problems.append(f"{path.name} has {len(shared)} patients in val and in test, e.g. {min(shared)}")
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
        if number in {fold.number for fold in folds}:
            problems.append(f"two files of folds/ have the number {number}")
        folds.append(Fold(number, tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"])))
    return tuple(folds)
