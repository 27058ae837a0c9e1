"""Writes a bundle folder in one step."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from napari_survpgc import __version__
from napari_survpgc.core import documents
from napari_survpgc.core.errors import BundleError, writing
from napari_survpgc.core.features.drift import PROFILE_FILE as _PROFILE
from napari_survpgc.core.features.drift import FeatureProfile, write_profile
from napari_survpgc.core.genomics.normalize import GeneReference
from napari_survpgc.core.types import GeneSet

if TYPE_CHECKING:
    import torch

from .bundle import FORMAT, Bundle, load_bundle
from .config import BundleConfig, config_to_json


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
) -> Bundle:
    """Write a bundle folder in one step and read it back.

    Parameters
    ----------
    out : the new folder; an existing bundle there is replaced, any other non-empty folder is refused.
    fold_states : state_dict of each fold model, float32.
    reference : columns risk, survival_months, event and, if there, fold; other columns are dropped so that
        no identifier of a patient gets into the bundle.
    templates : the TOML file with the wording used in training; copied.
    feature_profile : of the training slides.
    """
    import safetensors.torch

    if not fold_states:
        raise BundleError("There is no fold model to put into a bundle", "Train at least one fold first")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "bundle.json").is_file())):
        raise BundleError(f"{out} exists and is not a bundle", "Choose a new folder")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        with writing(out):
            for index, state in enumerate(fold_states):
                # Sorted and metadata-free, so that the same weights give the same bytes.
                tensors = {key: state[key].detach().cpu().contiguous() for key in sorted(state)}
                safetensors.torch.save_file(tensors, str(staging / f"fold_{index}.safetensors"))
            columns = [c for c in ("fold", "risk", "survival_months", "event") if c in reference.columns]
            table = reference[columns].sort_values(columns, kind="stable")
            table.to_csv(staging / "reference.csv", index=False, lineterminator="\n")
            if gene_reference is not None:
                genes = pd.DataFrame({"gene": gene_reference.genes})
                if gene_reference.mean is not None and gene_reference.sd is not None:
                    genes["mean"], genes["sd"] = gene_reference.mean, gene_reference.sd
                genes.to_csv(staging / "genes.csv", index=False, lineterminator="\n")
            if gene_sets:
                lines = ["\t".join((s.name, s.description, *s.genes)) for s in gene_sets]
                (staging / "gene_sets.gmt").write_text(
                    "\n".join(lines) + "\n", encoding="utf-8", newline="\n"
                )
            if templates is not None:
                shutil.copyfile(templates, staging / "templates.toml")
            if feature_profile is not None:
                write_profile(feature_profile, staging / _PROFILE)
            hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(staging.iterdir())}
            document = {"format": FORMAT, "version": __version__, **config_to_json(config), "files": hashes}
            text = documents.dump(document, sort_keys=True)
            (staging / "bundle.json").write_text(text, encoding="utf-8", newline="\n")
            staging.chmod(0o755)  # mkdtemp and safetensors make private files; a bundle is there to be shared
            for file in staging.iterdir():
                file.chmod(0o644)
            if out.exists():
                old = staging.with_suffix(".old")
                out.replace(old)
                staging.replace(out)
                shutil.rmtree(old)
            else:
                staging.replace(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_bundle(out)
