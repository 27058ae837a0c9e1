"""Writes a bundle folder in one step."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from napari_survpgc import __version__
from napari_survpgc.core import documents
from napari_survpgc.core.calibration import Recalibration
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.features.drift import PROFILE_FILE as _PROFILE
from napari_survpgc.core.features.drift import FeatureProfile, write_profile
from napari_survpgc.core.files import atomic_folder, is_vacant, write_table, write_text
from napari_survpgc.core.genomics.gene_sets import write_gmt
from napari_survpgc.core.genomics.normalize import GeneReference, write_genes
from napari_survpgc.core.locks import claim
from napari_survpgc.core.types import GeneSet

if TYPE_CHECKING:
    import torch

from .bundle import FORMAT, FORMAT_FOLDS, RECALIBRATION_FILE, Bundle, load_bundle
from .config import BundleConfig, config_to_json
from .reference import REFERENCE_FILE, kept_columns


def write_bundle(
    out: Path,
    config: BundleConfig,
    fold_states: Sequence[Mapping[str, torch.Tensor]],
    reference: pd.DataFrame,
    *,
    gene_reference: GeneReference | None = None,
    gene_sets: Sequence[GeneSet] = (),
    templates: Path | None = None,
    feature_profile: FeatureProfile | None = None,
    recalibration: Recalibration | None = None,
) -> Bundle:
    """Write a bundle folder in one step and read it back.

    Parameters
    ----------
    out : the new folder; an existing bundle there is replaced, any other non-empty folder is refused.
    fold_states : state_dict of each fold model, float32.
    reference : columns risk, survival_months, event and, if there, fold, hashed ids and the six fields; other columns
        are dropped so that no identifier of a patient gets into the bundle.
    templates : the TOML file with the wording used in training; copied.
    feature_profile : of the training slides.   recalibration : learned from held-out predictions.
    """
    import safetensors.torch

    if not fold_states:
        raise BundleError("There is no fold model to put into a bundle", "Train at least one fold first")
    if out.exists() and (not out.is_dir() or (not is_vacant(out) and not (out / "bundle.json").is_file())):
        raise BundleError(f"{out} exists and is not a bundle", "Choose a new folder")
    # Beside it: the folder goes as a whole.
    with (
        claim(out.parent, f"writing the bundle {out}", name=f".{out.name[:100]}.lock"),
        atomic_folder(out) as place,
    ):
        for index, state in enumerate(fold_states):
            # Sorted and metadata-free, so that the same weights give the same bytes.
            tensors = {key: state[key].detach().cpu().contiguous() for key in sorted(state)}
            (place / f"fold_{index}.safetensors").write_bytes(safetensors.torch.save(tensors))
        columns = kept_columns(reference)
        order = [c for c in ("fold", "risk", "survival_months", "event") if c in columns]
        write_table(place / REFERENCE_FILE, reference[columns].sort_values(order, kind="stable"))
        if gene_reference is not None:
            write_genes(gene_reference, place / "genes.csv")
        if gene_sets:
            write_gmt(gene_sets, place / "gene_sets.gmt")
        if templates is not None:
            shutil.copyfile(templates, place / "templates.toml")
        if feature_profile is not None:
            write_profile(feature_profile, place / _PROFILE)
        if recalibration is not None:
            write_text(place / RECALIBRATION_FILE, documents.dump(recalibration))
        hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(place.iterdir())}
        of_folds = gene_reference is not None and gene_reference.folds
        document = {
            "format": FORMAT_FOLDS if of_folds else FORMAT,
            "version": __version__,
            **config_to_json(config),
            "files": hashes,
        }
        write_text(place / "bundle.json", documents.dump(document, sort_keys=True))
    return load_bundle(out)
