"""What can be wrong with the files of a cohort folder; each check adds its problems to a list."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from napari_survpgc.core.cells import restored
from napari_survpgc.core.errors import (
    CohortError,
    FeatureError,
    several,
    some,
)
from napari_survpgc.core.features.feature_file import summarize_features
from napari_survpgc.core.names import file_names
from napari_survpgc.core.slide.formats import without_suffix
from napari_survpgc.core.tables import find_decimal, find_delimiter

from .cohort import SPLITS, Fold
from .text_table import read_text_table

_LOOKED_AT = 20  # lines of an expression table, which may have 20,000 cells each


def find_outcome(
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


def find_expression(folder: Path, cases: set[str], problems: list[str]) -> pd.DataFrame | None:
    path = next((folder / n for n in ("expression.csv.gz", "expression.csv") if (folder / n).is_file()), None)
    if path is None:
        return None
    try:
        first = _first_lines(path)
        delimiter = find_delimiter(first, _LOOKED_AT)
        header, *rows = [cells for cells in csv.reader(first.splitlines(), delimiter=delimiter) if any(cells)]
        while header and not header[-1].strip():
            header.pop()
        longer = [len(cells) for cells in rows if any(cell.strip() for cell in cells[len(header) :])]
        if longer or len(header) < 2:
            problems.append(
                f"{path.name} has rows of {longer[0]} cells where the header has {len(header)}"
                if longer
                else f"{path.name} has one column"
            )
            return None
        twice = _repeated(header[1:])
        # A converter keeps ids as text; with dtype= pandas makes a Series of every column, a second for 20,000.
        frame = pd.read_csv(
            path,
            sep=delimiter,
            decimal=find_decimal((cell for cells in rows for cell in cells[1:]), delimiter),
            index_col=0,
            converters={0: str},
            low_memory=False,
        ).iloc[:, : len(header) - 1]
    except (OSError, ValueError, EOFError, csv.Error, zlib.error) as error:
        problems.append(f"{path.name} is damaged or not a table ({' '.join(str(error).split())[:80]})")
        return None
    frame.index = frame.index.astype(str).str.strip().map(restored)
    frame.columns = frame.columns.map(restored)
    # pandas renames the second column of one name, and a gene twice in a model would be one too many.
    problems += several(
        f"{path.name} has the gene {{}} twice",
        f"{path.name} has the genes {{}} twice",
        twice,
    )
    again = set(frame.index[frame.index.duplicated()])
    problems += several(f"{path.name} lists {{}} twice", f"{path.name} lists {{}} twice", again)
    # By the types of the columns: taking 20,000 columns out of the table one by one takes a second.
    kinds = zip(frame.columns, frame.dtypes, strict=True)
    text = [str(c) for c, kind in kinds if not pd.api.types.is_numeric_dtype(kind)]
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


def _first_lines(path: Path) -> str:
    """Return the first lines of a table, as they stand there; pandas needs a second for a header of 20,000 cells."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
        return "".join(itertools.islice(lines, _LOOKED_AT))


def _repeated(names: Sequence[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}


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
