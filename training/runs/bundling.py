"""Run folder -> bundle, without the cohort."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.bundle.config import BundleConfig
from napari_survpgc.core.bundle.reference import with_fields
from napari_survpgc.core.bundle.write import write_bundle
from napari_survpgc.core.calibration import Recalibration
from napari_survpgc.core.cells import restored_frame
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.features.drift import PROFILE_FILE, FeatureProfile, parse_profile
from napari_survpgc.core.files import read_bytes
from napari_survpgc.core.genomics.gene_sets import read_gmt
from napari_survpgc.core.genomics.normalize import FoldScale, GeneReference
from napari_survpgc.core.models import MODELS

from .recalibration import learn_recalibration
from .record import RUN_FILE, read_fold_record, read_run_record
from .run_folder import Run, read_run

_REPORTED = ("protocol", "c_index", "c_index_pooled", "epochs_kept", "n_patients", "n_events")

_MAX_WEIGHTS, _MAX_TABLE = 16 << 30, 256 << 20
_TORN = "Finish the run with 'survpgc train', or train again into a new folder"


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
    states = [_weights(run / "folds" / str(fold) / "weights.safetensors") for fold in record.folds]
    edges = np.array(record.edges, float)
    test = _table(run / "predictions.csv", ("fold", "risk", "survival_months", "event"))
    lacking = sorted(set(record.folds) - set(test["fold"]))
    if lacking:
        raise BundleError(
            f"The run {run} is torn: predictions.csv has no patient of fold {lacking[0]}",
            "Finish it with 'survpgc train'",
        )
    finished = read_run(run)
    # Of the weights, so that the same run gives the same bundle.
    salt = hashlib.sha256(safetensors.torch.save(states[0])).hexdigest()[:16]
    reference: GeneReference | None = None
    if (run / "genes.csv").is_file():
        genes = _table(run / "genes.csv", ("gene",))
        known = "mean" in genes.columns
        reference = GeneReference(
            tuple(genes["gene"]),
            genes["mean"].to_numpy(float) if known else None,
            genes["sd"].to_numpy(float) if known else None,
            clip=record.clip,
        )
        if known:
            reference = replace(reference, folds=_fold_scales(run, record.folds, reference.genes))
    totals = tuple(fold.reference_total for fold in folds if fold.reference_total is not None)
    if reference is not None and len(totals) == len(folds):
        reference = replace(reference, folds=tuple(FoldScale(np.zeros(0), np.zeros(0), t) for t in totals))
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
        expression_unit=expression.unit if expression and expression.scale is None else None,
        demonstration=record.simulated,
        optional=record.optional,
        fold_totals=totals,
        clinical_encodings=tuple(fold.clinical_encoding for fold in folds if fold.clinical_encoding),
        salt=salt,
    )
    return write_bundle(
        out,
        config,
        states,
        with_fields(test, _fields(finished.patients), salt),
        gene_reference=reference,
        gene_sets=read_gmt(run / "gene_sets.gmt") if (run / "gene_sets.gmt").is_file() else (),
        templates=run / "templates.toml" if (run / "templates.toml").is_file() else None,
        feature_profile=_profile(run, config),
        recalibration=_recalibration(finished),
    )


def _fields(patients: pd.DataFrame | None) -> dict[str, dict[str, object]]:
    """Return the six fields of the patients; {} for a run of a version that did not keep them."""
    if patients is None:
        return {}
    known = patients.astype(object).where(patients.notna(), None)
    return {
        str(case): dict(zip(known.columns, row, strict=True))
        for case, row in zip(known.index, known.to_numpy(), strict=True)
    }


def _weights(path: Path) -> dict[str, torch.Tensor]:
    raw = read_bytes(path, _MAX_WEIGHTS, BundleError, _TORN, "a fold model")
    try:
        return safetensors.torch.load(raw)
    except Exception as error:  # safetensors' own error, and what its headers lead to
        raise BundleError(f"{path} is damaged or not whole", _TORN) from error


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    raw = read_bytes(path, _MAX_TABLE, BundleError, _TORN, "a run")
    try:
        table = restored_frame(
            pd.read_csv(io.BytesIO(raw), dtype={"case_id": str}, keep_default_na=False, na_values=[""])
        )
    except ValueError as error:
        raise BundleError(f"{path} is not a readable table", _TORN) from error
    missing = [column for column in columns if column not in table.columns]
    if missing or table.empty or not _are_numbers(table, columns):
        raise BundleError(f"{path} is damaged or not whole", _TORN)
    return table


def _are_numbers(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    numbers = [column for column in (*columns, "mean", "sd") if column in table.columns and column != "gene"]
    return all(pd.api.types.is_numeric_dtype(table[c]) and table[c].notna().all() for c in numbers)


def _fold_scales(run: Path, folds: Sequence[int], genes: Sequence[str]) -> tuple[FoldScale, ...]:
    """Read each fold's mean and sd of the genes; () of a run whose folds share those of the cohort."""
    paths = [run / "folds" / str(fold) / "genes.csv" for fold in folds]
    if not any(path.is_file() for path in paths):
        return ()
    scales = []
    for path in paths:
        try:
            table = restored_frame(pd.read_csv(path, keep_default_na=False))
            same = tuple(table["gene"]) == tuple(genes)
            scales.append(FoldScale(table["mean"].to_numpy(float), table["sd"].to_numpy(float)))
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"{path} is missing or damaged", "Train again into a new folder") from error
        if not same:
            raise BundleError(f"{path} has other genes than its run", "Train again into a new folder")
    return tuple(scales)


def _recalibration(finished: Run) -> Recalibration | None:
    """Learn it from the held-out predictions; none where the epoch was chosen on the test patients."""
    return None if finished.optimistic else learn_recalibration(finished)


def _profile(run: Path, config: BundleConfig) -> FeatureProfile | None:
    path = run / PROFILE_FILE
    if not path.is_file():
        return None
    try:
        return parse_profile(
            read_bytes(path, _MAX_TABLE, BundleError, _TORN, "a run"), config.encoders["pathology"].dim
        )
    except ValueError as error:
        raise BundleError(f"{path} is damaged ({error})", "Train again into a new folder") from error
