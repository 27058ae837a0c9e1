"""``survpgc predict``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_survpgc.core.notice import RESEARCH_NOTICE

from .options import ProgressBar, demo_bundle, positive, slide_options

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
    parser.add_argument("--no-attribution", action="store_true", help="leave out integrated gradients")
    slide_options(parser)


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.bundle.bundle import load_bundle
    from napari_survpgc.core.clinical.record_file import read_record
    from napari_survpgc.core.errors import SurvPGCError
    from napari_survpgc.core.jobs.one_patient import predict_slide, predict_slides

    bundle = load_bundle(options.bundle or demo_bundle())
    record = read_record(options.clinical, options.case)
    profile = None
    if options.expression is not None:
        from napari_survpgc.core.genomics.expression_file import read_expression
        from napari_survpgc.core.genomics.units import parse_unit

        unit = parse_unit(options.expression_unit) if options.expression_unit else None
        profile = read_expression(options.expression, sample=options.case, unit=unit)
    common = {
        "mpp_override": options.mpp_override,
        "device": options.device,
        "workers": options.workers,
        "batch_size": options.batch_size,
        "attribution": not options.no_attribution,
    }
    one_only = ("coords", "patch_px_level0", "tissue")
    with ProgressBar() as progress:
        if len(options.slides) > 1:
            for name in one_only:
                if getattr(options, name) is not None:
                    raise SurvPGCError(
                        f"--{name.replace('_', '-')} belongs to one slide, and there are {len(options.slides)}",
                        "Make the features of each slide with 'survpgc features' and give them with --features",
                    )
            prediction = predict_slides(
                options.slides, bundle, record, profile, options.out, features=options.features,
                progress=progress, **common,
            )  # fmt: skip
        else:
            if len(options.features) > 1:
                raise SurvPGCError("There are several feature files and one slide", "Give one --features")
            prediction = predict_slide(
                options.slides[0], bundle, record, profile, options.out,
                features=options.features[0] if options.features else None,
                progress=progress, **{name: getattr(options, name) for name in one_only}, **common,
            )  # fmt: skip
    print(summary(prediction, options.out))
    return 0


def summary(prediction: Prediction, out: Path) -> str:
    """Return the few lines that a person wants to read after a prediction."""
    edges = prediction.bin_edges_months
    survival = ", ".join(
        f"{100 * s:.0f} % at {m:.0f} months" for s, m in zip(prediction.survival, edges[1:], strict=True)
    )
    where = " in the folder of each slide" if prediction.provenance.get("slides") else ""
    lines = [
        f"Risk: higher than {prediction.risk_percentile:.0f} % of the reference patients"
        f" (group: {prediction.risk_group}; risk {prediction.risk:.4f})",
        f"Predicted survival: {survival}",
        *(f"Note: {warning}" for warning in prediction.warnings),
        f"Results: {out}{os.sep} (open report.html{where})",
        RESEARCH_NOTICE,
    ]
    return "\n".join(lines)
