"""What a network is fed: the patients of a step as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_survpgc.core.clinical.encoding import ClinicalEncoding
from napari_survpgc.core.models.base import ModelOutput, SurvivalModel
from napari_survpgc.core.types import Modality

from ..data.dataset import Dataset
from ..settings import Settings


def sample_patches(bag: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Return ``count`` patches of a bag in their order, drawn without replacement; a smaller bag as it is."""
    if len(bag) <= count:
        return bag
    return bag[np.sort(rng.choice(len(bag), count, replace=False))]


def stack_patients(patients: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the inputs of several patients as one batch; slides are padded to the longest, with a ``patch_mask``.

    Parameters
    ----------
    patients : keyword arguments of the model's forward for one patient each, with a batch axis of 1, all with the same
        modalities. A single one comes back as it is.
    """
    if len(patients) == 1:
        return dict(patients[0])
    batch: dict[str, Any] = {}
    for name, first in patients[0].items():
        values = [patient[name] for patient in patients]
        if isinstance(first, list):  # one tensor a gene set
            batch[name] = [torch.cat(rows) for rows in zip(*values, strict=True)]
        elif name == "pathology":
            lengths = torch.tensor([bag.shape[1] for bag in values], device=first.device)
            batch[name] = torch.nn.utils.rnn.pad_sequence([bag[0] for bag in values], batch_first=True)
            if lengths.min() < lengths.max():
                batch["patch_mask"] = (
                    torch.arange(batch[name].shape[1], device=first.device) < lengths[:, None]
                )
        else:
            batch[name] = torch.cat(values)
    return batch


@dataclass(frozen=True)
class Feed:
    """What turns a patient into the keyword arguments of the model's forward."""

    data: Dataset
    settings: Settings
    model: SurvivalModel
    encoding: ClinicalEncoding | None
    device: torch.device

    def inputs(self, case: str, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """With ``rng`` (training) patches are drawn, and whole modalities dropped as the settings say."""
        data, settings = self.data, self.settings
        inputs: dict[str, Any] = {}
        if Modality.PATHOLOGY in data.forms.modalities:
            bag = data.bag(case)
            drawn = sample_patches(bag, settings.max_patches, rng) if rng else bag
            inputs["pathology"] = self._moved(drawn).float()  # a bag in float16 stays so, being read and kept
        if Modality.CLINIC in data.forms.modalities and not (rng and rng.random() < settings.clinic_dropout):
            clinic = data.clinic[case] if self.encoding is None else self._row(self.encoding, case)
            inputs["clinic"] = self._moved(clinic)
        if Modality.GENOMIC in data.forms.modalities and not (
            rng and rng.random() < settings.genomic_dropout
        ):
            genomic = data.genomic_input(case)
            if isinstance(genomic, list):
                inputs["genomic"] = [self._moved(g) for g in genomic]
            elif genomic is not None:
                inputs["genomic"] = self._moved(genomic)
        return inputs

    def groups(
        self, cases: Sequence[str], rng: np.random.Generator
    ) -> list[tuple[list[int], dict[str, Any]]]:
        """Return what a training step gives the model: (positions in ``cases``, inputs of these patients).

        Patients who are given the same modalities share a forward; most batches are one.
        """
        groups: dict[frozenset[str], list[tuple[int, dict[str, Any]]]] = {}
        for position, case in enumerate(cases):
            inputs = self.inputs(case, rng)
            groups.setdefault(frozenset(inputs), []).append((position, inputs))
        return [([i for i, _ in group], stack_patients([x for _, x in group])) for group in groups.values()]

    def forward(self, inputs: Mapping[str, Any]) -> ModelOutput:
        """Run the model in the precision of the settings; logits and embedding come back in float32."""
        if self.settings.precision == "float32":
            return self.model(**inputs)
        with torch.autocast(self.device.type, torch.bfloat16):
            out = self.model(**inputs)
        return ModelOutput(out.logits.float(), out.embedding.float())

    def _row(self, encoding: ClinicalEncoding, case: str) -> Tensor:
        return torch.from_numpy(encoding.encode(self.data.records[case]))

    def _moved(self, x: Tensor) -> Tensor:
        return x[None].to(self.device, non_blocking=True)
