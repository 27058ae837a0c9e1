"""prediction.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_survpgc.core.notice import RESEARCH_NOTICE
from napari_survpgc.core.types import ClinicalRecord, Prediction


def prediction_document(
    prediction: Prediction, record: ClinicalRecord | None, sentences: Sequence[str]
) -> dict[str, Any]:
    """Return what prediction.json holds; plain numbers and texts only."""
    attribution = None
    if prediction.attribution is not None:
        attribution = {key: dict(value) for key, value in dataclasses.asdict(prediction.attribution).items()}
    return {
        "risk": prediction.risk,
        "risk_percentile": prediction.risk_percentile,
        "risk_group": prediction.risk_group,
        "hazards": prediction.hazards.tolist(),
        "survival": prediction.survival.tolist(),
        "bin_edges_months": prediction.bin_edges_months.tolist(),
        "fold_risks": prediction.fold_risks.tolist(),
        "fold_survival": prediction.fold_survival.tolist(),
        "attribution": attribution,
        "bundle": dict(prediction.provenance["bundle"]),
        "encoders": dict(prediction.provenance["encoders"]),
        "slide": dict(prediction.provenance["slide"]),
        **({"slides": prediction.provenance["slides"]} if "slides" in prediction.provenance else {}),
        "device": prediction.provenance["device"],
        "clinical": dataclasses.asdict(record) if record else None,
        "sentences": list(sentences),
        "warnings": list(prediction.warnings),
        "version": prediction.provenance["version"],
        "notice": RESEARCH_NOTICE,
    }


def write_prediction_json(
    prediction: Prediction, path: Path, record: ClinicalRecord | None, sentences: Sequence[str]
) -> None:
    """Write prediction.json; strict JSON without NaN."""
    document = prediction_document(prediction, record, sentences)
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
