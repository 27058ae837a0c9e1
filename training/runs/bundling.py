"""Run folder -> bundle, without the cohort."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.bundle.config import BundleConfig
from napari_survpgc.core.bundle.reference import with_fields
from napari_survpgc.core.bundle.write import write_bundle
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.features.drift import PROFILE_FILE, FeatureProfile, parse_profile
from napari_survpgc.core.genomics.gene_sets import read_gmt
from napari_survpgc.core.genomics.normalize import GeneReference
from napari_survpgc.core.models import MODELS

from .record import PATIENTS_FILE, RUN_FILE, read_fold_record, read_run_record

_REPORTED = ("protocol", "c_index", "c_index_pooled", "epochs_kept", "n_patients", "n_events")


def make_bundle(run: Path, out: Path, *, name: str | None = None) -> Bundle:
    """Put the fold models of a finished run into a bundle.

    The edges shown to users are the mean of the folds' edges; each fold model keeps its own for the record.

    Raises
    ------
    BundleError : the run is not finished, or its system is no network (Cox models, approach_a).
    """
    record = read_run_record(run, BundleError)
    if record.labels_shuffled:
        raise BundleError(
            f"The run {run} was trained on exchanged outcomes", "Train again without shuffle_labels"
        )
    if record.model not in MODELS:
        raise BundleError(
            f"The run {run} cannot become a bundle: {record.model} is not one network that predict could run",
            "Bundle a run of another model; its held-out risks are in predictions.csv",
        )
    if not record.encoders or len(record.edges) != len(record.folds) or len({*map(len, record.edges)}) != 1:
        raise BundleError(
            f"{run / RUN_FILE} lacks what a bundle needs: the encoders, or the edges of each fold",
            "Train the run again",
        )
    folds = [read_fold_record(run / "folds" / str(fold), BundleError) for fold in record.folds]
    states = [
        safetensors.torch.load_file(str(run / "folds" / str(fold) / "weights.safetensors"))
        for fold in record.folds
    ]
    edges = np.array(record.edges, float)
    test = pd.read_csv(run / "predictions.csv", dtype={"case_id": str})
    # Of the weights, so that the same run gives the same bundle.
    salt = hashlib.sha256(safetensors.torch.save(states[0])).hexdigest()[:16]
    reference: GeneReference | None = None
    if (run / "genes.csv").is_file():
        genes = pd.read_csv(run / "genes.csv", keep_default_na=False)
        known = "mean" in genes.columns
        reference = GeneReference(
            tuple(genes["gene"]),
            genes["mean"].to_numpy(float) if known else None,
            genes["sd"].to_numpy(float) if known else None,
            clip=record.clip,
        )
    expression = record.expression
    config = BundleConfig(
        name=name or f"{record.cohort} {record.model}",
        model=record.model,
        model_config=record.model_config,
        encoders=record.encoders,
        bin_edges_months=tuple(edges.mean(0).tolist()),
        fold_bin_edges_months=tuple(tuple(row) for row in edges.tolist()),
        endpoint=record.endpoint,
        cohort=record.cohort,
        vocabulary=record.vocabulary,
        training={name: getattr(record, name) for name in _REPORTED},
        expression_clip=record.clip,
        min_gene_overlap=expression.min_gene_overlap if expression else BundleConfig.min_gene_overlap,
        expression_scale=expression.scale if expression else None,
        demonstration=record.simulated,
        optional=record.optional,
        clinical_encodings=tuple(fold.clinical_encoding for fold in folds if fold.clinical_encoding),
        salt=salt,
    )
    return write_bundle(
        out,
        config,
        states,
        with_fields(test, _fields(run), salt),
        gene_reference=reference,
        gene_sets=read_gmt(run / "gene_sets.gmt") if (run / "gene_sets.gmt").is_file() else (),
        templates=run / "templates.toml" if (run / "templates.toml").is_file() else None,
        feature_profile=_profile(run, config),
    )


def _fields(run: Path) -> dict[str, dict[str, object]]:
    """Return the six fields of the patients; {} for a run of a version that did not keep them."""
    path = run / PATIENTS_FILE
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"case_id": str}).set_index("case_id")
    known = table.astype(object).where(table.notna(), None)
    return {
        str(case): dict(zip(known.columns, row, strict=True))
        for case, row in zip(known.index, known.to_numpy(), strict=True)
    }


def _profile(run: Path, config: BundleConfig) -> FeatureProfile | None:
    path = run / PROFILE_FILE
    if not path.is_file():
        return None
    try:
        return parse_profile(path.read_bytes(), config.encoders["pathology"].dim)
    except ValueError as error:
        raise BundleError(f"{path} is damaged ({error})", "Train again into a new folder") from error
