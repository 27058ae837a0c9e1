"""A network, another system and an encoder are one new file each: the contract tests find them, and no other file is edited.

They are added to a copy of the program, whose own tests run on them in a process of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

NETWORK = '''"""A newcomer: the mean patch and the mean sentence, one layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_survpgc.core.models.base import GenomicInput, ModelOutput, SurvivalModel
from napari_survpgc.core.models.parts.pooling import masked_mean
from napari_survpgc.core.types import Modality


class ToyNetwork(SurvivalModel):
    REQUIRES: ClassVar = frozenset({Modality.PATHOLOGY, Modality.CLINIC})
    SMALL: ClassVar = {}

    def __init__(self, n_bins: int = 4, pathology_dim: int = 1024, clinic_dim: int = 512) -> None:
        super().__init__()
        self.head = nn.Linear(pathology_dim + clinic_dim, n_bins)

    def forward(
        self,
        pathology: Tensor,
        clinic: Tensor,
        genomic: GenomicInput | None = None,
        patch_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> ModelOutput:
        embedding = torch.cat([masked_mean(pathology, patch_mask), clinic.mean(1)], -1)
        return ModelOutput(self.head(embedding), embedding)


Model = ToyNetwork
'''

SYSTEM = '''"""A newcomer: Cox on the age alone."""

from __future__ import annotations

import dataclasses

from ..settings import Settings
from .cox_clinic import CoxClinic


class ToySystem(CoxClinic):
    def __init__(self, settings: Settings) -> None:
        super().__init__(dataclasses.replace(settings, model_config={"fields": ["age"]}))


def build(settings: Settings) -> ToySystem:
    return ToySystem(settings)
'''

ENCODER = '''"""A newcomer: mean and spread of the three colours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from napari_survpgc.core.encoders.base import resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.types import EncoderKind, Resampling

CARD = EncoderCard(
    id="toy-encoder",
    kind=EncoderKind.IMAGE,
    title="Colours",
    licence="BSD-3-Clause",
    dim=6,
    patch_px=256,
    mpp=0.5,
    weights_mb=0,
    embedded=True,
)


class ToyEncoder:
    id, dim, patch_px, mpp = CARD.id, CARD.dim, CARD.patch_px, CARD.mpp
    input_px = 32
    resampling: Resampling = "bilinear"
    weights = ""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def encode(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = patches.reshape(len(patches), -1, 3) / np.float32(255)
        return np.concatenate([pixels.mean(1), pixels.std(1)], 1).astype(np.float32)


def load(device: str = "auto") -> ToyEncoder:
    return ToyEncoder(resolve_device(device))
'''


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """Names of the contract tests that the newcomers passed, and how often; any other outcome fails here."""
    home = tmp_path_factory.mktemp("copy")
    leave = shutil.ignore_patterns("__pycache__")
    package = home / "napari_survpgc"
    shutil.copytree(ROOT / "napari_survpgc", package, ignore=leave)
    shutil.copytree(ROOT / "training", package / "training", ignore=leave)  # as it is installed
    (package / "resources").symlink_to(ROOT / "resources", target_is_directory=True)
    shutil.copytree(ROOT / "tests", home / "tests", ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", home)
    for file, text in (
        ("core/models/toy_network.py", NETWORK),
        ("training/systems/toy_system.py", SYSTEM),
        ("core/encoders/image/toy_encoder.py", ENCODER),
    ):
        assert not (package / file).exists()
        (package / file).write_text(text, encoding="utf-8")
    files = (
        "core/test_models.py", "core/test_encoders.py", "core/test_features.py", "training/test_systems.py",
        "training/test_robust.py",
    )  # fmt: skip
    report = home / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "toy",
         f"--junitxml={report}", *(f"tests/{file}" for file in files)],
        cwd=home, env={**os.environ, "PYTHONPATH": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    cases = list(ET.parse(report).getroot().iter("testcase"))
    assert not [case.get("name") for case in cases if list(case)], "failed or skipped"
    return Counter(str(case.get("name")).partition("[")[0] for case in cases)


def test_a_network_is_found_by_the_contract_of_the_models(outcomes: Counter[str]) -> None:
    assert outcomes["test_every_model_gives_logits_and_a_gradient"] == 4
    for name in (
        "test_every_model_runs_on_one_device_only",
        "test_a_padded_batch_gives_what_each_slide_gives_alone",
        "test_the_order_of_patches_does_not_matter",
        "test_a_model_looks_at_what_it_requires_and_at_nothing_else",
        "test_attention_has_the_names_and_shapes_of_the_contract",
        "test_a_training_step_stays_on_its_device",
    ):
        assert outcomes[name] == 1, name


def test_a_network_and_another_system_are_trained_like_the_others(outcomes: Counter[str]) -> None:
    name = "test_every_system_trains_into_the_same_run_folder_and_predicts_from_its_bundle"
    assert outcomes[name] == 2


def test_an_encoder_is_found_by_the_contract_of_the_encoders(outcomes: Counter[str]) -> None:
    for name in (
        "test_a_card_is_what_its_file_states",
        "test_what_comes_along_is_as_its_card_says",
        "test_every_image_encoder_keeps_its_promises",
    ):
        assert outcomes[name] == 1, name
