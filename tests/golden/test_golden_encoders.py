"""UNI's network and transform and CONCH's text tower agree with the published code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from napari_survpgc.core.encoders.image import uni
from napari_survpgc.core.encoders.image.vision_transformer import (
    ImageSpec,
    PixelEncoder,
    Pooling,
    build_transformer,
)
from napari_survpgc.core.encoders.text import conch as conch_text
from napari_survpgc.core.encoders.weights.weights import load_strictly

Load = Callable[[str], dict[str, Any]]


def _tensors(values: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in values.items()}


def _close(case: dict[str, Any], name: str, found: torch.Tensor) -> None:
    expected = case["out"][name]
    np.testing.assert_allclose(
        found.detach().numpy(), expected, rtol=0, atol=case["meta"]["out"][name]["atol"], err_msg=name
    )


@pytest.mark.parametrize("name", ["conch_text_tiny", "conch_text_vocab"])
def test_conchs_text_tower(load_golden: Load, shared_dir: Path, name: str) -> None:
    case = load_golden(name)
    c = case["meta"]["constructor"]
    tower = conch_text.ConchTextTower(
        conch_text.ConchTextSizes(
            c["context_length"], c["vocab_size"], c["width"], c["heads"], c["layers"], c["embed_dim"]
        )
    ).eval()
    conch_text.load_text_tower(tower, _tensors(case["weights"]))
    if "texts" in case["meta"]:
        tokenizer = conch_text.ConchTokenizer(
            shared_dir / "conch" / conch_text.TOKENIZER_FILE, c["context_length"]
        )
        ids = tokenizer(case["meta"]["texts"])
        np.testing.assert_array_equal(ids.numpy(), case["out"]["ids"])
    else:
        ids = torch.from_numpy(case["in"]["ids"])
    with torch.no_grad():
        pooled, hidden = tower(ids), tower.hidden_states(ids)
    _close(case, "embedding", torch.nn.functional.normalize(pooled, dim=-1))
    if "pooled" in case["out"]:
        _close(case, "pooled", pooled)
    if "tokens" in case["out"]:
        _close(case, "tokens", hidden[:, :-1])


def test_conchs_real_layout(shared_dir: Path) -> None:
    expected = json.loads((shared_dir / "golden" / "conch_real_text_keys.json").read_text())
    with torch.device("meta"):
        tower = conch_text.ConchTextTower(conch_text.ConchTextSizes())
    found = {f"text.{key}": list(value.shape) for key, value in tower.state_dict().items()}
    assert found == expected


def test_unis_real_layout(shared_dir: Path) -> None:
    expected = json.loads((shared_dir / "golden" / "uni_real_keys.json").read_text())
    with torch.device("meta"):
        network = build_transformer(uni.SPEC)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected


@pytest.mark.parametrize("name", ["uni_vit_tiny", "uni_vit_lowvar"])
def test_unis_network(load_golden: Load, name: str) -> None:
    case = load_golden(name)
    c = case["meta"]["constructor"]
    source = uni.SOURCE.of_width(c["embed_dim"])
    spec = ImageSpec(source, uni.SPEC.architecture, {**uni.SPEC.arguments, **c})
    network = build_transformer(spec)
    load_strictly(network, _tensors(case["weights"]), "UNI")
    encoder = PixelEncoder(_Tokens(network), spec).eval()
    compared = 0
    for key, value in case["in"].items():
        output = key.replace("image", "features")
        if output in case["out"]:
            pixels = torch.from_numpy(value)
            with torch.no_grad():
                tokens = encoder.tokens(pixels)
            _close(case, output, tokens[:, 0])
            compared += 1
            if key == "image" and "tokens_normed" in case["out"]:
                _close(case, "tokens_normed", tokens)
    assert compared
    assert spec.pooling is Pooling.CLASS


class _Tokens(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network.forward_features(pixels)  # type: ignore[operator]


def test_unis_transform(load_golden: Load) -> None:
    """The golden picture is resized by its shorter side and cut; a patch, being square, needs no cut."""
    case = load_golden("uni_transform")
    image, size = case["in"]["image"], case["meta"]["constructor"]["size"]
    height, width, _ = image.shape
    resized = Image.fromarray(image).resize((width * size // height, size), Image.Resampling.BILINEAR)
    left = round((resized.width - size) / 2)
    cut = np.asarray(resized.crop((left, 0, left + size, size)))
    np.testing.assert_array_equal(cut, case["out"]["resized_cropped_uint8"])
    seen: list[torch.Tensor] = []

    class Keep(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(pixels)
            return pixels.flatten(2)

    PixelEncoder(Keep(), uni.SPEC)(torch.from_numpy(cut.copy())[None])
    np.testing.assert_allclose(
        seen[0][0].numpy(), case["out"]["trident"], rtol=0, atol=case["meta"]["out"]["trident"]["atol"]
    )
    assert timm.create_model  # the network above is timm's own
