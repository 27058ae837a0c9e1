"""``survpgc import-checkpoint``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_survpgc.core.errors import SurvPGCError

from .options import numbers, pixel_size, positive_int

HELP = "weights of the authors' code (state dict or whole module) -> bundle; nothing in them is run"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="checkpoint (.pt, .pth, .bin, .safetensors), one a fold",
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="survpgc, survpath, mcat, porpoise ..."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle folder")
    parser.add_argument(
        "--bin-edges",
        type=numbers,
        default=(),
        metavar="12,24,36",
        help="months at which its intervals end: the inner edges, or all from 0 to the last follow-up",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="F.csv",
        help="risk,survival_months,event: what the model predicted for its test patients, to place a new one",
    )
    parser.add_argument("--image-encoder", metavar="ID", help="made the patch features, e.g. uni")
    parser.add_argument("--text-encoder", metavar="ID", help="made the clinic tokens, e.g. conch")
    parser.add_argument("--gene-encoder", metavar="ID", help="made the genomic tokens, e.g. scfoundation")
    parser.add_argument("--patch-px", type=positive_int, help="side of a patch at --mpp, e.g. 256")
    parser.add_argument("--mpp", type=pixel_size, help="µm per px of a patch, e.g. 0.5")
    parser.add_argument(
        "--genes",
        type=Path,
        metavar="F",
        help="a gene a line, or CSV gene[,mean,sd of log2(TPM+1)], in the order of the training",
    )
    parser.add_argument(
        "--gene-sets", type=Path, metavar="F.gmt", help="sets and their genes in the order of the training"
    )
    parser.add_argument("--templates", type=Path, metavar="F.toml", help="wording of the clinical sentences")
    parser.add_argument("--name", help="name shown to the user (default: model and file)")
    parser.add_argument("--cohort", default="not stated", help="what it was trained on, e.g. TCGA-BRCA")
    parser.add_argument("--endpoint", default="overall survival", help="default: %(default)s")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the weights do not show, e.g. gated=false; repeatable",
    )


def run(options: argparse.Namespace) -> int:
    import json

    from napari_survpgc.core.checkpoints.importing import ImportFacts, import_checkpoint

    sizes = {}
    for change in options.changes:
        key, found, value = change.partition("=")
        if not found:
            raise SurvPGCError(f"--set {change} has no value", "Write e.g. --set gated=false")
        try:
            sizes[key.strip()] = json.loads(value)
        except ValueError:
            sizes[key.strip()] = value
    facts = ImportFacts(
        bin_edges=options.bin_edges,
        reference=options.reference,
        image_encoder=options.image_encoder,
        text_encoder=options.text_encoder,
        gene_encoder=options.gene_encoder,
        patch_px=options.patch_px,
        mpp=options.mpp,
        genes=options.genes,
        gene_sets=options.gene_sets,
        templates=options.templates,
        endpoint=options.endpoint,
        cohort=options.cohort,
        name=options.name,
        sizes=sizes,
    )
    done = import_checkpoint(options.files, options.model, options.out, facts)
    bundle = done.bundle
    print(f"Bundle '{bundle.config.name}' with {len(bundle.fold_files)} fold models in {options.out}")
    for note in done.notes:
        print(f"  note: {note}")
    return 0
