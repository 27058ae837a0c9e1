"""What a run and each of its folds say of themselves: run.json and fold.json, written and read here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from napari_survpgc.core import documents, files
from napari_survpgc.core.bundle.config import EncoderSpec, rising
from napari_survpgc.core.clinical.encoding import ClinicalEncoding
from napari_survpgc.core.errors import CohortError, SurvPGCError
from napari_survpgc.core.genomics.normalize import ExpressionScale
from napari_survpgc.core.types import ExpressionUnit

RUN_FILE = "run.json"
FOLD_FILE = "fold.json"
PATIENTS_FILE = "patients.csv"
"""The six fields and the site of the patients of a run, and which modalities they have."""
FORMAT = 1
"""Of run.json; version 0.1.0 did not state it."""

_MAX_BYTES = 256 << 20
_AGAIN = "Train the run again"
T = TypeVar("T")


@dataclass(frozen=True)
class ExpressionFacts:
    """What a bundle must know of expression that was not read as z-scores of TPM.

    Attributes
    ----------
    unit : of the expression itself, for a gene encoder that reads that; else that of mean and sd (counts of few genes).
    reference_total : see :class:`ExpressionScale`; None for z-scores.
    """

    min_gene_overlap: float
    unit: ExpressionUnit
    reference_total: float | None = None

    @property
    def scale(self) -> ExpressionScale | None:
        return None if self.reference_total is None else ExpressionScale(self.unit, self.reference_total)


@documents.leaves_out("expression", "notes")
@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run: on whom it was trained, with what, and how well it ranks.

    What a bundle needs has no value here before the run states it, see :func:`..bundling.make_bundle`; predictions can
    be evaluated without.

    Attributes
    ----------
    format : of this record.   version : software that trained.   cohort : name.   endpoint : e.g. "overall survival".
    model, model_config : name and what all folds have in common.   encoders : by modality.   clip : of z-scores.
    protocol : "honest", or "published" (chosen on the test folds: optimistic).
    folds : numbers.   edges : (n_bins + 1,) months each fold.   epochs_kept : 0 for systems without epochs.
    c_index : by fold, of its test patients; None where no two can be compared.   c_index_pooled : of all of
        them, risks as percentiles within their fold (raw risks before version 0.3).
    left_out : patient -> what they lack.   vocabulary : clinical field -> values.   optional : modalities that the
        model was trained to go without.
    expression, notes : None for models of z-scores of TPM, or of z-scores as they came.
    labels_shuffled : outcomes were exchanged among the patients.   simulated : the patients are.
    finished : False while folds are still to come.
    """

    format: int = FORMAT
    version: str = ""
    cohort: str
    endpoint: str = "overall survival"
    model: str
    model_config: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, EncoderSpec] = field(default_factory=dict)
    clip: float = 5.0
    protocol: str
    folds: tuple[int, ...]
    edges: tuple[tuple[float, ...], ...] = ()
    epochs_kept: tuple[int, ...] = ()
    c_index: tuple[float | None, ...] = ()
    c_index_pooled: float | None = None
    n_patients: int = 0
    n_events: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    vocabulary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    expression: ExpressionFacts | None = None
    notes: tuple[str, ...] | None = None
    labels_shuffled: bool = False
    simulated: bool = False
    finished: bool = True


@documents.leaves_out("clinical_encoding", "reference_total")
@dataclass(frozen=True)
class FoldRecord:
    """A finished fold.

    Attributes
    ----------
    edges : (n_bins + 1,) months, from the deaths of the training fold.   epoch : the one whose weights were kept.
    test_c_index : None where no two test patients can be compared.
    clinical_encoding : of systems that read the record as numbers.
    reference_total : of the training patients, for a gene encoder that reads expression itself; None where it is that of
        the whole cohort. Mean and sd of z-scores are in the fold's genes.csv.
    """

    edges: tuple[float, ...]
    epoch: int = 0
    test_c_index: float | None = None
    clinical_encoding: ClinicalEncoding | None = None
    reference_total: float | None = None

    def __post_init__(self) -> None:
        if not rising(self.edges):
            raise ValueError("it has no rising edges of bins")


def write_run_record(run: Path, record: RunRecord) -> None:
    """Write run.json; OutputError as :func:`files.atomic`."""
    files.write_text(run / RUN_FILE, documents.dump(record))


def read_run_record(run: Path, error: type[SurvPGCError] = CohortError) -> RunRecord:
    """Read run.json.

    Parameters
    ----------
    error : what is raised where there is none, where it is damaged or of a later version, or the run is not finished.
    """
    record = _read(run / RUN_FILE, RunRecord, error)
    if record.format > FORMAT:
        raise error(f"{run / RUN_FILE} was written by a later version", "Update napari-survpgc")
    if not record.finished:
        raise error(f"{run} is not a finished run", "Finish it with 'survpgc train'")
    return record


def write_fold_record(fold: Path, record: FoldRecord, facts: Mapping[str, Any]) -> None:
    """Write fold.json, with what the system itself has to say; OutputError as :func:`files.atomic`."""
    files.write_text(
        fold / FOLD_FILE, documents.dump({**documents.unstructure(record), **facts}, indent=None)
    )


def read_fold_record(fold: Path, error: type[SurvPGCError] = CohortError) -> FoldRecord:
    """Read fold.json; see :func:`read_run_record`."""
    return _read(fold / FOLD_FILE, FoldRecord, error)


def _read(path: Path, kind: type[T], error: type[SurvPGCError]) -> T:
    if not path.is_file():
        raise error(
            f"{path.parent} is not a finished run: it has no {path.name}", "Finish it with 'survpgc train'"
        )
    raw = files.read_bytes(path, _MAX_BYTES, error, _AGAIN)
    try:
        return documents.structure(documents.parse(raw), kind)
    except documents.DocumentError as problem:
        raise error(f"{path} is damaged: {problem}", _AGAIN) from problem
