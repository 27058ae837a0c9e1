"""What a prediction says beside its numbers: warnings and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from napari_survpgc import __version__
from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.clinical.record import field_warnings, unknown_fields
from napari_survpgc.core.tissue.patches import upsampling_warning
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord, PatchGrid, SlideInfo, SlidePart

from .patient import Patient

_NEAR_FLOOR = 0.1


def joint_warning(parts: Sequence[SlidePart], shown: int | None) -> tuple[str, ...]:
    """Say that several slides were taken together; ``shown`` is the one whose maps are shown, None for all."""
    count = len(parts)
    if not count:
        return ()
    maps = "" if shown is None else "; the maps rank the patches of this slide among themselves"
    return (f"The risk is that of the patient's {count} slides together{maps}.",)


def no_maps(bundle: Bundle) -> str:
    """Say why there are no maps."""
    return f"The model {bundle.config.model} has no attention of record or genes over the slide: there are no maps."


def general_warnings(bundle: Bundle, record: ClinicalRecord) -> tuple[str, ...]:
    """Return what holds for this model and this record, whatever the slide shows."""
    warnings = []
    if bundle.config.demonstration:
        warnings.append(
            "This model was trained on simulated patients to show how the program works:"
            " its risk means nothing for a real patient."
        )
    strange = {name for e in bundle.config.clinical_encodings for name in e.unseen(record)}
    if strange:
        names = ", ".join(n.replace("_", " ") for n in CLINICAL_FIELDS if n in strange)
        warnings.append(f"No training patient had this value: {names}; it counts as unknown.")
    missing = unknown_fields(record)
    if missing and "clinic" in bundle.config.encoders:
        warnings.append(f"Unknown clinical fields: {', '.join(n.replace('_', ' ') for n in missing)}.")
    return (*warnings, *field_warnings(record))


def provenance(
    bundle: Bundle,
    device: torch.device,
    grid: PatchGrid,
    info: SlideInfo | None,
    parts: Sequence[SlidePart],
) -> dict[str, Any]:
    """Return what a prediction was made of and with: what prediction.json repeats.

    Parameters
    ----------
    grid, info : of the slide that is shown.   parts : all slides, when there are several.
    """
    config = bundle.config
    slide: dict[str, Any] = {"n_patches": len(grid)}
    if info is not None:
        slide |= {
            "name": info.path.name,
            "fingerprint": info.fingerprint,
            "mpp": info.mpp,
            "mpp_source": str(info.mpp_source) if info.mpp_source else None,
            "vendor": info.vendor,
            "backend": info.backend,
        }
    joint = [
        {
            "name": part.name,
            "fingerprint": part.fingerprint,
            "n_patches": len(part.grid),
            "patch_px_level0": part.grid.patch_px_level0,
        }
        for part in parts
    ]
    return {
        **({"slides": joint} if joint else {}),
        "bundle": {
            "name": config.name,
            "fingerprint": bundle.fingerprint,
            "model": config.model,
            "cohort": config.cohort,
            "endpoint": config.endpoint,
            "n_folds": len(bundle.fold_files),
            "n_reference": len(bundle.reference),
            "demonstration": config.demonstration,
            "version": bundle.version,
        },
        "encoders": {modality: spec.id for modality, spec in config.encoders.items()},
        "slide": slide,
        "device": str(device),
        "version": __version__,
    }


def doubts_of(bundle: Bundle, patient: Patient, grid: PatchGrid, info: SlideInfo | None) -> tuple[str, ...]:
    """Return what lowers the trust in an answer, of the slide and the expression."""
    doubts = []
    enlarged = None if info is None or not grid.mpp > 0 else upsampling_warning(info, grid.mpp)
    if enlarged:
        doubts.append(enlarged)
    reference = bundle.gene_reference
    if reference is not None and patient.gene_overlap is not None:
        if patient.gene_overlap < reference.min_overlap + _NEAR_FLOOR:
            doubts.append(
                f"Only {100 * patient.gene_overlap:.0f} % of the model's genes were found, near the least that is taken"
                f" ({100 * reference.min_overlap:.0f} %)."
            )
    elif reference is not None and not bundle.config.optional:
        doubts.append("Without an expression file half of the model sees an average patient.")
    return tuple(doubts)
