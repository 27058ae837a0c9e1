"""prediction.json: what it holds, written and read here alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from napari_survpgc.core import documents, files
from napari_survpgc.core.bundle.answer import Answer, answer_of
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.notice import RESEARCH_NOTICE
from napari_survpgc.core.outlook import SurvivalAt
from napari_survpgc.core.types import Attribution, ClinicalRecord, Prediction

PREDICTION_FILE = "prediction.json"

_MAX_BYTES = 8 << 20


class _Patches(TypedDict):
    n_patches: int


class SlideFacts(_Patches, total=False):
    """The slide that is shown; features alone have only their number of patches."""

    # Not NotRequired: under postponed annotations it is not seen at run time.
    name: str
    fingerprint: str
    mpp: float | None
    mpp_source: str | None
    vendor: str | None
    backend: str


class PartFacts(TypedDict):
    """One of several slides of a patient."""

    name: str
    fingerprint: str
    n_patches: int
    patch_px_level0: float


class PlaceFacts(TypedDict):
    """Shares (0-100) of the reference patients with a smaller risk; None where it cannot be said."""

    all: float
    same_stage: float | None


class QualityFacts(TypedDict):
    """How well the model ranks patients whom it has not seen: C-index and its 95 % interval."""

    protocol: str
    c_index: float | None
    c_index_low: float | None
    c_index_high: float | None
    n_reference: int


class TrustFacts(TypedDict):
    """How far one map can be trusted; as of :class:`~napari_survpgc.core.attention.trust.MapTrust`."""

    fold_agreement: float | None
    top_overlap: float | None
    deletion: float | None
    deletion_random: float | None
    trusted: bool


# "class" is no name in Python.
RegionFacts = TypedDict(
    "RegionFacts",
    {
        "name": str,
        "class": str | None,
        "n_patches": int,
        "share": float,
        "risk_without": float | None,
        "risk_alone": float | None,
        "change": float | None,
        "change_random_low": float | None,
        "change_random_high": float | None,
    },
    total=False,
)
"""One region; as of :func:`~napari_survpgc.core.predict.patches.region_risks`."""


@documents.leaves_out(
    "slides",
    "expression_sample",
    "survival_at",
    "median_months",
    "outlived_months",
    "answered",
    "not_answered_because",
    "model",
    "place",
    "map_trust",
    "regions",
)
@dataclass(frozen=True, kw_only=True)
class PredictionDocument:
    """One patient's result.

    A key that only some results have gets the default None here and stands among the names that are left out.

    Attributes
    ----------
    risk ... attribution : as of :class:`~napari_survpgc.core.types.Prediction`.
    bundle : what it says of itself.   encoders : modality -> id.   slides : when there are several.
    clinical : None where no record was given.   version : of the software.
    survival_at ... place : as of :class:`~napari_survpgc.core.bundle.answer.Answer`; not in results of 0.2.0 and before.
    map_trust : "clinic" and "genomic", where there are maps.   regions : where some were given.
    expression_sample : the sample or column that the expression was read from; None without expression.
    """

    risk: float
    risk_percentile: float
    risk_group: str
    hazards: tuple[float, ...]
    survival: tuple[float, ...]
    bin_edges_months: tuple[float, ...]
    fold_risks: tuple[float, ...]
    fold_survival: tuple[tuple[float, ...], ...]
    attribution: Attribution | None
    bundle: Mapping[str, Any]
    encoders: Mapping[str, str]
    slide: SlideFacts
    slides: tuple[PartFacts, ...] | None = None
    device: str
    clinical: ClinicalRecord | None
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    version: str
    notice: str
    survival_at: tuple[SurvivalAt, ...] | None = None
    median_months: float | None = None
    outlived_months: float | None = None
    answered: bool | None = None
    not_answered_because: tuple[str, ...] | None = None
    model: QualityFacts | None = None
    place: PlaceFacts | None = None
    map_trust: Mapping[str, TrustFacts] | None = None
    regions: tuple[RegionFacts, ...] | None = None
    expression_sample: str | None = None

    @property
    def slide_names(self) -> tuple[str, ...]:
        """File names of all slides; () for features alone."""
        if self.slides:
            return tuple(slide["name"] for slide in self.slides)
        return (self.slide["name"],) if "name" in self.slide else ()


def prediction_document(
    prediction: Prediction, record: ClinicalRecord | None, sentences: Sequence[str]
) -> PredictionDocument:
    """Return what prediction.json says of a prediction."""
    made = prediction.provenance
    return PredictionDocument(
        risk=prediction.risk,
        risk_percentile=prediction.risk_percentile,
        risk_group=prediction.risk_group,
        hazards=tuple(prediction.hazards.tolist()),
        survival=tuple(prediction.survival.tolist()),
        bin_edges_months=tuple(prediction.bin_edges_months.tolist()),
        fold_risks=tuple(prediction.fold_risks.tolist()),
        fold_survival=tuple(tuple(row) for row in prediction.fold_survival.tolist()),
        attribution=prediction.attribution,
        bundle=made["bundle"],
        encoders=made["encoders"],
        slide=made["slide"],
        slides=made.get("slides"),
        device=made["device"],
        clinical=record,
        sentences=tuple(sentences),
        warnings=prediction.warnings,
        version=made["version"],
        notice=RESEARCH_NOTICE,
        **_answer(answer_of(prediction)),
        map_trust=made.get("map_trust"),
        regions=made.get("regions"),
        expression_sample=made.get("expression_sample"),
    )


def _answer(found: Answer | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "survival_at": found.survival_at,
        "median_months": found.median_months,
        "outlived_months": found.outlived_months,
        "answered": found.answered,
        "not_answered_because": found.not_answered_because,
        "model": dataclasses.asdict(found.model),
        "place": {"all": found.place.all, "same_stage": found.place.same_stage},
    }


def write_prediction_json(
    prediction: Prediction, path: Path, record: ClinicalRecord | None, sentences: Sequence[str]
) -> None:
    """Write prediction.json; strict JSON without NaN."""
    document = prediction_document(prediction, record, sentences)
    files.write_text(path, documents.dump(document))


def read_prediction_json(path: Path) -> PredictionDocument:
    """Read prediction.json; CohortError, naming the file, if it is none or damaged."""
    step = "Predict the patient again"
    raw = files.read_bytes(path, _MAX_BYTES, CohortError, step)
    try:
        return documents.structure(documents.parse(raw), PredictionDocument)
    except documents.DocumentError as error:
        raise CohortError(f"{path} is damaged: {error}", step) from error


documents.reads_with(ClinicalRecord, parse_record)
