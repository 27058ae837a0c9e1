"""Batches of patients: the mean of what the patients give one by one, whatever their slides' lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.models import build_model
from napari_survpgc.core.survival import nll_loss
from napari_survpgc.training.crossval import train
from napari_survpgc.training.fitting.feed import stack_patients
from napari_survpgc.training.settings import Settings

from .test_train import make_cohort

SIZES = [3, 5]


def _patients(lengths: list[int]) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    return [
        {
            "pathology": torch.randn(1, length, 10),
            "clinic": torch.randn(1, 6, 12),
            "genomic": [torch.randn(1, size) for size in SIZES],
        }
        for length in lengths
    ]


@pytest.mark.parametrize("lengths", [[7], [4, 4], [3, 9, 6]])
def test_a_batch_has_the_mean_gradient_of_its_patients(lengths: list[int]) -> None:
    model = build_model(
        "survpgc_gene_sets", gene_set_sizes=SIZES, dim=8, pathology_dim=10, clinic_dim=12, dropout=0.0,
        tokenizer_dropout=0.0,
    )  # fmt: skip
    bins, event = torch.arange(len(lengths)), torch.ones(len(lengths), dtype=torch.int64)

    def gradient(groups: list[tuple[list[int], dict[str, Any]]]) -> torch.Tensor:
        model.zero_grad()
        for rows, inputs in groups:
            (nll_loss(model(**inputs).logits, bins[rows], event[rows]) / len(lengths)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    patients = _patients(lengths)
    together = stack_patients(patients)
    assert ("patch_mask" in together) == (len(set(lengths)) > 1)
    alone = gradient([([i], patient) for i, patient in enumerate(patients)])
    assert alone.abs().max() > 1e-3
    torch.testing.assert_close(gradient([(list(range(len(lengths))), together)]), alone, rtol=1e-4, atol=1e-6)


def test_batches_train_with_patients_who_are_given_different_modalities(tmp_path: Path) -> None:
    cohort = read_cohort(make_cohort(tmp_path / "cohort"))
    settings = Settings(
        model="survpgc_gene_sets", model_config={"dim": 16}, epochs=12, n_folds=3, folds=(0,), lr=4e-3,
        batch_size=7, genomic_dropout=0.3, clinic_dropout=0.3,
    )  # fmt: skip
    train(cohort, settings, tmp_path / "run")
    loss = pd.read_csv(tmp_path / "run" / "folds" / "0" / "log.csv")["loss"].to_numpy()
    assert np.isfinite(loss).all()
    assert loss[-1] < 0.95 * loss[0]


def test_a_batch_needs_a_patient() -> None:
    with pytest.raises(CohortError, match="batch_size must be a positive number"):
        Settings(model="survpgc", batch_size=0)
