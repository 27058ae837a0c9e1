"""A copy of results without names, paths, ids and days: ``survpgc anonymise``.

Nothing is copied as it is: each file that we know is read, and what may leave is written anew. Everything else is left
out. Before the copy takes its name every file in it is searched for the ids of the originals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_survpgc.core.errors import CohortError, OutputError, SurvPGCError
from napari_survpgc.core.files import atomic_folder, read_json, write_text
from napari_survpgc.core.output.case_file import SUFFIX, load_case
from napari_survpgc.core.output.prediction_json import PREDICTION_FILE
from napari_survpgc.core.types import ProgressCallback

from .anonymous_files import Copier, list_columns, read_list
from .pseudonyms import OLDEST, Pseudonyms

SAID_FILE = "anonymised.txt"
_LISTS = ("risks.csv", "failed.csv", "patients.csv")
_TEXTS = (".json", ".csv", ".html", ".geojson", ".txt")
_LARGEST = 1 << 30
_LIST = "Give a folder of results: of 'survpgc predict', of a list of patients, or with case files"


@dataclass(frozen=True)
class Copy:
    """What was done.

    Attributes
    ----------
    patients, files : how many are in the copy.   left_out : what of the originals is not, by name, for the screen.
    kinds : the same by kind, which names nobody, with how many there are.   key : who is who, as CSV.
    """

    patients: int
    files: int
    left_out: tuple[str, ...]
    kinds: tuple[tuple[str, int], ...]
    key: str = field(repr=False)


def anonymise(folder: Path, out: Path, progress: ProgressCallback | None = None) -> Copy:
    """Write a copy of results that names nobody.

    Parameters
    ----------
    folder : one result, a folder of results, the results of a list.   out : a new folder.

    Raises
    ------
    CohortError : there is no result.
    OutputError : ``out`` is there already or lies in ``folder``; disk full; an id of the originals would be in the copy.
    """
    _check_places(folder, out)
    results = _results(folder)
    if not results:
        raise CohortError(f"{folder} holds no result", _LIST)
    names = Pseudonyms()
    _learn(folder, results, names)
    copier = Copier(names)
    places = _places(folder, results, names)
    with atomic_folder(out) as made:
        for number, (source, target) in enumerate(places.items()):
            if progress:
                progress("results", number, len(places))
            copier.folder(source, made / target, results[source])
        for name in _LISTS:
            copier.table(folder / name, made / name)
        copier.leave_the_rest(folder, places)
        patients = len({target.split("/")[0] for target in places.values()})
        kinds = tuple(sorted(Counter(copier.kinds).items()))
        write_text(made / SAID_FILE, said(patients, kinds))
        files = _search(made, names)
    return Copy(patients, files, tuple(copier.left_out), kinds, names.table())


def said(patients: int, kinds: tuple[tuple[str, int], ...]) -> str:
    """Return what goes with the copy: what it is, what was left out, what nobody can know."""
    left = "".join(f"  {count:6d}  {kind}\n" for kind, count in kinds) or "  nothing\n"
    return f"""Results of {patients} patient{"" if patients == 1 else "s"}, made by 'survpgc anonymise'.

Taken out: ids and names of patients, samples, slides and files; paths; fingerprints of slides; notes that may name a
patient, a file or a day; data that a file carried beside its contents. The numbers of patients and slides follow no
order and hold in this copy only. An age above {OLDEST} is written as {OLDEST + 1}.

Left out of the copy (how many of what):
{left}
Still in it, and no program can know whether it names someone:
  - Pixels: maps and patches are pictures of the tissue. Handwriting, stamps or labels on the glass are in them where they
    lay in a patch or under a map, and whoever has the slide can find the place again. Look at the pictures.
  - Age, sex, stage, subtype, race, follow-up: together they may be those of one person of a small group.
  - Places and shapes: coordinates and outlines are those of this one section.
  - The name, cohort and fingerprint of the model, which say where it was trained.
  - What was written into a class, a stage or a subtype by hand, if it looks like any other word.
"""


def _check_places(folder: Path, out: Path) -> None:
    if not folder.is_dir():
        raise CohortError(f"There is no folder {folder}", _LIST)
    here, there = folder.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(f"{out} and {folder} lie in each other", "Choose another --out folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is there already", "Choose a new --out folder")


def _results(folder: Path) -> dict[Path, dict[str, Any] | None]:
    """Return the folders with a result, and what their prediction.json says (None: a case file alone)."""
    found: dict[Path, dict[str, Any] | None] = {}
    for path in sorted(folder.rglob(PREDICTION_FILE)):
        if not _leads_out(path, folder):
            found[path.parent] = _document(path)
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        if not _leads_out(path, folder):
            found.setdefault(path.parent, None)
    return dict(sorted(found.items()))


def _leads_out(path: Path, folder: Path) -> bool:
    return folder.resolve() not in path.resolve().parents


def _document(path: Path) -> dict[str, Any] | None:
    try:
        document = read_json(path, 8 << 20, CohortError, "Predict the patient again")
    except CohortError:
        return None  # left out, and said
    return document if isinstance(document, dict) else None


def _learn(folder: Path, results: dict[Path, dict[str, Any] | None], names: Pseudonyms) -> None:
    """Find out who and what is named anywhere, before the first name is given."""
    patients: list[str] = []
    slides: list[str] = []
    names.note(str(folder.resolve()), folder.resolve().parent.as_posix())
    for place, document in results.items():
        parts = _parts_above(place, results)
        (slides if parts else patients).append(place.name)
        said = (document or {}).get("slide"), *((document or {}).get("slides") or ())
        for facts in said:
            if isinstance(facts, dict):
                slides += [str(facts["name"])] if facts.get("name") else []
                names.note(facts.get("fingerprint"))
        names.note((document or {}).get("expression_sample"))
        for path in place.glob(f"*{SUFFIX}"):
            try:
                saved = load_case(path, features=False)
            except SurvPGCError:
                continue
            slides += [saved.slide.name] if saved.slide else []
            names.note(saved.fingerprint, saved.name, path.stem)
            if saved.profile is not None:
                names.note(saved.profile.sample, saved.profile.source, Path(saved.profile.source).stem)
    for name in _LISTS:
        for row in read_list(folder / name):
            case, of_case = list_columns(row)
            patients += [case] if case else []
            slides += of_case
    names.note_patients(patients)
    names.note_slides(slides)


def _parts_above(place: Path, results: dict[Path, dict[str, Any] | None]) -> bool:
    """Whether a result is that of one slide of a patient with several, whose own lies above."""
    return place.parent in results


def _places(folder: Path, results: dict[Path, dict[str, Any] | None], names: Pseudonyms) -> dict[Path, str]:
    """Return where each result goes in the copy: a folder a patient, in it one a slide where there are several."""
    found: dict[Path, str] = {}
    taken: Counter[str] = Counter()
    for place in results:
        if _parts_above(place, results):
            found[place] = f"{found[place.parent]}/{names.slide(place.name)}"
            continue
        target = names.patient(place.name)
        taken[target] += 1  # results of one patient in two folders
        found[place] = target if taken[target] == 1 else f"{target}-{taken[target]}"
    return found


def _search(made: Path, names: Pseudonyms) -> int:
    """Return how many files there are; OutputError where one still names anybody."""
    files = [path for path in sorted(made.rglob("*")) if path.is_file()]
    search = names.search()
    for path in files:
        text = path.suffix in _TEXTS
        place = path.relative_to(made).as_posix().encode()
        if search.finds(path.read_bytes(), text=text) or search.finds(place, text=True):
            raise OutputError(
                f"An id of the originals would still be in {path.relative_to(made)}, so nothing was written",
                "Rename patients whose id is an everyday word, or tell the developers",
            )
    return len(files)
