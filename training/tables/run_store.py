"""Runs shared between tables and figures: the same cohort and settings are trained once.

A run lives in ``<folder>/<system>-<digest>``; finished runs of any other name in the folder are found by their
settings, so that what `survpgc train` made can be used again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.errors import CohortError, OutputError, SurvPGCError
from napari_survpgc.core.models import MODELS, model_class
from napari_survpgc.core.types import ProgressCallback

from ..crossval import train
from ..runs.record import RUN_FILE
from ..runs.run_folder import Run, read_run
from ..settings import BEFORE, Settings, load_settings

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Unavailable:
    """A system that the cohort cannot feed, and why."""

    model: str
    reason: str


@dataclass
class RunStore:
    """Trains on demand.

    Attributes
    ----------
    folder : of the runs.   processes : folds trained at once.   progress : told "<run>: <stage>".
    """

    cohort: Cohort
    folder: Path
    processes: int = 1
    progress: ProgressCallback | None = None
    _kept: dict[str, Run | Unavailable] = field(default_factory=dict)
    _cohort_digest: str = ""

    def get(self, settings: Settings) -> Run | Unavailable:
        """Return the finished run of these settings; it is trained, resumed or read as need be.

        What keeps a system from this cohort (no slides, unknown name, missing encoder weights) is returned, not
        raised, so that the other systems go on.
        """
        name = self.name(settings)
        if name not in self._kept:
            try:
                self._kept[name] = self._read_or_train(settings, self.folder / name)
            except OutputError:
                raise  # the next system would meet the same full disk
            except SurvPGCError as error:
                self._kept[name] = Unavailable(settings.model, str(error))
        return self._kept[name]

    def name(self, settings: Settings) -> str:
        """Return the folder name of a run: the system, and a digest of its settings and the cohort's files."""
        if not self._cohort_digest:
            self._cohort_digest = cohort_digest(self.cohort)
        text = digested(_given(settings)) + self._cohort_digest
        return f"{settings.model}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def _read_or_train(self, settings: Settings, place: Path) -> Run:
        if not (place / RUN_FILE).is_file():
            found = self._trained_elsewhere(settings)
            if found is not None:
                return found
            train(self.cohort, settings, place, processes=self.processes, progress=self._progress(settings))
        return read_run(place)

    def _progress(self, settings: Settings) -> ProgressCallback | None:
        report = self.progress
        if report is None:
            return None
        return lambda stage, done, total: report(f"{settings.model}: {stage}", done, total)

    def _trained_elsewhere(self, settings: Settings) -> Run | None:
        """A finished run under another name with these settings, on the patients of this cohort."""
        for facts in sorted(self.folder.glob(f"*/{RUN_FILE}")):
            kept = facts.parent / "settings.toml"
            try:
                same = kept.is_file() and _given(load_settings(kept, kept=True)) == _given(settings)
                run = read_run(facts.parent) if same else None
            except CohortError:
                continue  # some other folder, or a run of an older version: it is trained anew
            if run is not None and self._fits(run):
                return run
        return None

    def _fits(self, run: Run) -> bool:
        """Whether the run is of this cohort: its patients, their follow-up and their folds."""
        patients = self.cohort.patients
        table = run.pooled
        if run.record.cohort != self.cohort.name or not set(table.index) <= set(patients.index):
            return False
        here = patients.loc[table.index]
        difference = here[["survival_months", "event"]] - table[["survival_months", "event"]]
        same_outcome = bool((difference.abs() < 1e-6).to_numpy().all())
        folds = {fold.number: set(fold.test) for fold in self.cohort.folds}
        same_folds = all(set(f.test.index) <= folds.get(f.number, set()) for f in run.folds)
        return same_outcome and (same_folds or not folds)


def digested(settings: Settings) -> str:
    """Return the settings as version 0.1.0 wrote them: the names of its runs are digests of that text."""
    values = {name: value for name, value in dataclasses.asdict(settings).items() if value is not None}
    if values["scaling"] == BEFORE["scaling"]:
        del values["scaling"]  # those versions had no word for it
    tables = {name: values.pop(name) for name, value in tuple(values.items()) if isinstance(value, dict)}
    lines = _assignments(values)
    for name, table in tables.items():
        lines += [f"\n[{name}]", *_assignments(table)]
    return "\n".join(lines) + "\n"


def _assignments(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]


def cohort_digest(cohort: Cohort) -> str:
    """Return a digest of what a run depends on: the tables by content, feature files by name and size."""
    digest = hashlib.sha256()
    for name in ("patients.csv", "expression.csv.gz", "expression.csv", "expression_reference.csv", "gene_sets.gmt"):  # fmt: skip
        _add(digest, cohort.path / name)
    for path in sorted((cohort.path / "folds").glob("*.csv")):
        _add(digest, path)
    for files in cohort.features.values():
        for path in files:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, path: Path) -> None:
    if not path.is_file():
        return
    digest.update(f"{path.name}\n".encode())
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)


def _given(settings: Settings) -> Settings:
    """Leave out modalities that the model does not take: the trainer does so before it keeps the settings."""
    if settings.model not in MODELS:
        return settings
    needs = {str(m) for m in model_class(settings.model).REQUIRES}
    return dataclasses.replace(settings, modalities=tuple(m for m in settings.modalities if m in needs))
