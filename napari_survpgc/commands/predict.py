"""``survpgc predict``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_survpgc.core.notice import RESEARCH_NOTICE

from .options import ProgressBar, demo_bundle, job_options, positive, print_notes, slide_options

if TYPE_CHECKING:
    from napari_survpgc.core.types import Prediction

HELP = "slide + patient -> risk, survival, attention maps, report"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "slides",
        type=Path,
        nargs="+",
        metavar="SLIDE",
        help="slide file or DICOM folder; several of one patient are taken together, as in training",
    )
    parser.add_argument(
        "--clinical",
        type=Path,
        required=True,
        metavar="F",
        help="JSON of the six fields, one-row CSV, or a patients.csv with --case",
    )
    parser.add_argument(
        "--expression", type=Path, metavar="F", help="one sample's file, or a table with --case"
    )
    parser.add_argument(
        "--expression-unit",
        metavar="UNIT",
        help="counts, tpm, fpkm, log2(tpm+1), z-score ... (default: detected)",
    )
    parser.add_argument("--case", metavar="ID", help="which patient of the table(s)")
    parser.add_argument(
        "--features",
        type=Path,
        action="append",
        default=[],
        metavar="F.h5",
        help="features made before (ours, CLAM, TRIDENT, STAMP); for several slides once for each, in their order",
    )
    parser.add_argument(
        "--coords", type=Path, metavar="F.h5", help="coordinates, where --features lacks them (CLAM)"
    )
    parser.add_argument(
        "--patch-px-level0",
        type=positive,
        metavar="PX",
        help="side of a patch at full resolution, where no file says",
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="trained model (default: the demonstration)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--regions",
        type=Path,
        metavar="F.geojson",
        help="regions of the slide, e.g. QuPath's annotations: the risk without each, and of each alone",
    )
    parser.add_argument("--no-attribution", action="store_true", help="leave out integrated gradients")
    slide_options(parser)


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.bundle.bundle import load_bundle
    from napari_survpgc.core.clinical.record_file import RecordFile
    from napari_survpgc.core.jobs.one_patient import predict_case
    from napari_survpgc.core.types import Case

    bundle = load_bundle(options.bundle or demo_bundle())
    clinical = RecordFile(options.clinical)
    record = clinical.record(options.case)
    print_notes(clinical.notes)
    profile = None
    if options.expression is not None:
        from napari_survpgc.core.genomics.expression_file import read_expression
        from napari_survpgc.core.genomics.units import parse_unit

        unit = parse_unit(options.expression_unit) if options.expression_unit else None
        profile = read_expression(options.expression, sample=options.case, unit=unit)
    case = Case(
        slides=tuple(options.slides),
        record=record,
        profile=profile,
        features=tuple(options.features),
        coords=options.coords,
        patch_px_level0=options.patch_px_level0,
        tissue=options.tissue,
        tissue_classes=tuple(options.tissue_class),
        mpp=options.mpp_override,
    )
    with ProgressBar() as progress:
        prediction = predict_case(
            case,
            bundle,
            options.out,
            options=job_options(options),
            regions=options.regions,
            progress=progress,
        )
    print(summary(prediction, options.out))
    return 0


def summary(prediction: Prediction, out: Path) -> str:
    """Return the few lines that a person wants to read after a prediction."""
    from napari_survpgc.core.bundle.answer import (
        OUTSIDE,
        answer_of,
        place_sentence,
        quality_sentence,
        survival_sentence,
    )

    found = answer_of(prediction)
    assert found is not None, "a new prediction has an answer"
    cohort = str(prediction.provenance["bundle"]["cohort"])
    outside = () if found.answered else (f"{OUTSIDE}: the following lines do not hold.",)
    where = " in the folder of each slide" if prediction.provenance.get("slides") else ""
    lines = [
        *outside,
        f"Risk: higher than {prediction.risk_percentile:.0f} % of the reference patients"
        f" (group: {prediction.risk_group}; risk {prediction.risk:.4f})",
        f"{survival_sentence(found)} (in brackets: 90 % of patients of this risk)"
        if found.survival_at
        else survival_sentence(found),
        place_sentence(found.place, cohort, found.model.n_reference),
        quality_sentence(found.model, cohort),
        *_maps_and_regions(prediction),
        *(f"Note: {warning}" for warning in prediction.warnings),
        f"Results: {out}{os.sep} (open report.html{where})",
        RESEARCH_NOTICE,
    ]
    return "\n".join(lines)


def _maps_and_regions(prediction: Prediction) -> list[str]:
    from napari_survpgc.core.attention.trust import measured_trust, trust_sentence

    made = prediction.provenance
    lines = [f"Map {name}: {trust_sentence(found)}" for name, found in measured_trust(made).items()]
    for region in made.get("regions") or ():
        said = f"Region {region['name']} ({region['n_patches']} patches, {100 * region['share']:.1f} %): "
        low, high = region["change_random_low"], region["change_random_high"]
        if region["change"] is None:
            said += "without it no patch is left"
        else:
            said += f"without it the risk changes by {region['change']:+.4f}"
        lines.append(said if low is None else f"{said} (random patches {low:+.4f} to {high:+.4f})")
    return lines
