"""What can be wrong with the files of a cohort folder; each check adds its problems to a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.errors import (
    CohortError,
    FeatureError,
    several,
    some,
)
from napari_survpgc.core.features.feature_file import summarize_features
from napari_survpgc.core.names import file_names
from napari_survpgc.core.slide.formats import without_suffix
from napari_survpgc.core.tables import plain

from .cohort import SPLITS, Fold
from .text_table import read_text_table


def find_outcome(
    patients: pd.DataFrame,
    case: pd.Series,
    months_column: str,
    event_column: str,
    problems: list[str],
    notes: list[str],
) -> tuple[pd.Series, pd.Series]:
    """Return months and event as numbers; what is wrong with them goes into ``problems``."""
    patients = _with_outcome(patients, months_column, event_column, notes)
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


def _with_outcome(
    patients: pd.DataFrame, months_column: str, event_column: str, notes: list[str]
) -> pd.DataFrame:
    """Add months and event where other tables have them by another name: cBioPortal, SurvPath, PORPOISE."""
    name = months_column.removesuffix("_months")
    short = "os" if name == "survival" else name.lower()
    by_name = {plain(column): column for column in patients.columns}
    months = by_name.get(f"{short} months")
    if months_column not in patients.columns and months is not None:
        patients = patients.assign(**{months_column: patients[months]})
        notes.append(f"The column {months} was read as {months_column}.")
    if event_column in patients.columns:
        return patients
    status = by_name.get(f"{short} status")
    censored = next((c for n in ("censorship", "censored") if (c := by_name.get(n))), None)
    if status is not None:
        events = patients[status].str.strip().str.lower().map(_event_of_status)
        notes.append(f"The column {status} was read as {event_column}.")
        return patients.assign(**{event_column: events})
    if censored is not None and name == "survival":
        turned = 1 - pd.to_numeric(patients[censored], errors="coerce")
        notes.append(f"The column {censored} (1 = censored) was read the other way round as {event_column}.")
        return patients.assign(**{event_column: turned})
    return patients


def _event_of_status(status: str) -> str:
    """Return "1" or "0" for 1:DECEASED, 0:LIVING and the like of cBioPortal; "" for anything else."""
    if status[:2] in ("0:", "1:"):
        return status[0]
    return {"living": "0", "alive": "0", "deceased": "1", "dead": "1"}.get(status, "")


def find_features(
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
            # Slide ids come with or without the slide's own extension.
            name_alone = without_suffix(slide)
            if owner.setdefault(name_alone, c) != c:
                shared.append(f"slide {slide} belongs to the patients {owner[name_alone]} and {c}")
            file = next(
                (
                    sub / f"{name}.{kind}"
                    for sub, kind in places
                    for name in dict.fromkeys((*file_names(slide), *file_names(name_alone)))
                    if (sub / f"{name}.{kind}").is_file()
                ),
                None,
            )
            if file is None:
                missing.append(f"patient {c} has no features for slide {slide}")
                continue
            if file in files:
                continue  # named twice, with and without its ending
            files.append(file)
            if open_files:
                try:
                    summarize_features(file).check_finished()
                except FeatureError as error:
                    damaged.append(f"patient {c}: {error.problem}")
        found[c] = tuple(files)
    problems += [*some(missing), *some(shared), *some(damaged)]
    return found


def read_reference(path: Path) -> pd.DataFrame:
    frame = read_text_table(path)
    if not {"gene", "mean", "sd"} <= set(frame.columns):
        raise CohortError(
            f"{path} lacks the columns gene, mean and sd", "Give mean and sd of log2(TPM+1) a gene"
        )
    return frame.set_index("gene")[["mean", "sd"]].astype(float)


def find_folds(folder: Path, cases: set[str], problems: list[str]) -> tuple[Fold, ...]:
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
