"""Run folder -> bundle, without the cohort."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.bundle.config import BundleConfig, EncoderSpec, scale_from_json
from napari_survpgc.core.bundle.write import write_bundle
from napari_survpgc.core.clinical.encoding import encoding_from_json
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.features.drift import PROFILE_FILE, FeatureProfile, parse_profile
from napari_survpgc.core.genomics.gene_sets import read_gmt
from napari_survpgc.core.genomics.normalize import GeneReference
from napari_survpgc.core.models import MODELS


def make_bundle(run: Path, out: Path, *, name: str | None = None) -> Bundle:
    """Put the fold models of a finished run into a bundle.

    The edges shown to users are the mean of the folds' edges; each fold model keeps its own for the record.

    Raises
    ------
    BundleError : the run is not finished, or its system is no network (Cox models, approach_a).
    """
    manifest = run / "run.json"
    if not manifest.is_file():
        raise BundleError(
            f"{run} is not a finished run: it has no run.json", "Finish it with 'survpgc train'"
        )
    document = json.loads(manifest.read_text(encoding="utf-8"))
    if document.get("labels_shuffled"):
        raise BundleError(
            f"The run {run} was trained on exchanged outcomes", "Train again without shuffle_labels"
        )
    if document["model"] not in MODELS:
        raise BundleError(
            f"The run {run} cannot become a bundle: {document['model']} is not one network that predict could run",
            "Bundle a run of another model; its held-out risks are in predictions.csv",
        )
    folds = [json.loads((run / "folds" / str(f) / "fold.json").read_text("utf-8")) for f in document["folds"]]
    states = [
        safetensors.torch.load_file(str(run / "folds" / str(fold) / "weights.safetensors"))
        for fold in document["folds"]
    ]
    edges = np.array(document["edges"], float)
    test = pd.read_csv(run / "predictions.csv")
    reference: GeneReference | None = None
    if (run / "genes.csv").is_file():
        genes = pd.read_csv(run / "genes.csv", keep_default_na=False)
        known = "mean" in genes.columns
        reference = GeneReference(
            tuple(genes["gene"]),
            genes["mean"].to_numpy(float) if known else None,
            genes["sd"].to_numpy(float) if known else None,
            clip=document["clip"],
        )
    expression = document.get("expression", {})
    config = BundleConfig(
        name=name or f"{document['cohort']} {document['model']}",
        model=document["model"],
        model_config=document["model_config"],
        encoders={m: EncoderSpec(**spec) for m, spec in document["encoders"].items()},
        bin_edges_months=tuple(edges.mean(0).tolist()),
        fold_bin_edges_months=tuple(tuple(row) for row in edges.tolist()),
        endpoint=document["endpoint"],
        cohort=document["cohort"],
        vocabulary={field: tuple(values) for field, values in document["vocabulary"].items()},
        training={
            key: document[key]
            for key in ("protocol", "c_index", "c_index_pooled", "epochs_kept", "n_patients", "n_events")
        },
        expression_clip=document["clip"],
        min_gene_overlap=expression.get("min_gene_overlap", BundleConfig.min_gene_overlap),
        expression_scale=scale_from_json(expression),
        demonstration=document["simulated"],
        optional=tuple(document.get("optional", ())),
        clinical_encodings=tuple(
            encoding_from_json(fold["clinical_encoding"]) for fold in folds if "clinical_encoding" in fold
        ),
    )
    return write_bundle(
        out,
        config,
        states,
        test,
        gene_reference=reference,
        gene_sets=read_gmt(run / "gene_sets.gmt") if (run / "gene_sets.gmt").is_file() else (),
        templates=run / "templates.toml" if (run / "templates.toml").is_file() else None,
        feature_profile=_profile(run, config),
    )


def _profile(run: Path, config: BundleConfig) -> FeatureProfile | None:
    path = run / PROFILE_FILE
    if not path.is_file():
        return None
    try:
        return parse_profile(path.read_bytes(), config.encoders["pathology"].dim)
    except ValueError as error:
        raise BundleError(f"{path} is damaged ({error})", "Train again into a new folder") from error
