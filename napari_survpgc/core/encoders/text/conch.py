"""CONCH's text tower (Lu et al., Nature Medicine 2024): a sentence -> 512 numbers of length 1.

Written from the published layout and checked against the published code; the package is not needed. The class token
stands last; its attention mask is shifted by one, so that it sees the first padding position and not itself: the
weights were trained so (open_clip: ``correct_cls_mask=False``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_survpgc.core.encoders.base import check_sha256, resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.embedding_cache import EmbeddingCache
from napari_survpgc.core.encoders.weights.weights import (
    WeightSource,
    check_state,
    find_weights,
    load_strictly,
    read_checkpoint,
    sha256_of,
    state_dict_of,
)
from napari_survpgc.core.types import EncoderKind

CARD = EncoderCard(
    id="conch",
    kind=EncoderKind.TEXT,
    title="CONCH",
    licence="CC BY-NC-ND 4.0, academic use, access on request",
    dim=512,
    weights_mb=800,
)
TOKENIZER_FILE = "conch_byte_level_bpe_uncased.json"
_TOKENIZER_SHA256 = "a3861e67c64d32670eb6725a8e52d7dbdd2a06646a4a3c7463052ae7110760fb"
_END, _PAD = 2, 0
_TOWER = "CONCH's text tower"
PREFIX = "text."
SOURCE = WeightSource(
    CARD,
    files=("pytorch_model.bin", TOKENIZER_FILE),
    repository="MahmoodLab/CONCH",
    elsewhere={
        TOKENIZER_FILE: "https://github.com/mahmoodlab/CONCH, folder conch/open_clip_custom/tokenizers",
    },
)

WORK = 2.0 * 86e6 * 128
"""Floating-point operations a sentence."""


@dataclass(frozen=True)
class ConchTextSizes:
    """Sizes of the text tower (conch_ViT-B-16); ``context`` counts the class token."""

    context: int = 128
    vocabulary: int = 32007
    width: int = 768
    heads: int = 12
    layers: int = 12
    dim: int = 512


class _Block(nn.Module):
    """Pre-norm attention and MLP; keys as in the checkpoint."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=nn.GELU(), c_proj=nn.Linear(4 * width, width))
        )

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        normed = self.ln_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False, attn_mask=hidden)[0]
        return tokens + self.mlp(self.ln_2(tokens))


class _Blocks(nn.Module):
    def __init__(self, sizes: ConchTextSizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(sizes.width, sizes.heads) for _ in range(sizes.layers))

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        for block in self.resblocks:
            tokens = block(tokens, hidden)
        return tokens


class ConchTextTower(nn.Module):
    """Keys as in the checkpoint, without the prefix 'text.'."""

    def __init__(self, sizes: ConchTextSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.text_projection = nn.Parameter(torch.zeros(sizes.width, sizes.dim))
        self.cls_emb = nn.Parameter(torch.zeros(sizes.width))
        self.positional_embedding = nn.Parameter(torch.zeros(sizes.context, sizes.width))
        self.token_embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.transformer = _Blocks(sizes)
        self.ln_final = nn.LayerNorm(sizes.width)

    def hidden_states(self, ids: Tensor) -> Tensor:
        """Return the last (b, context, width) states for (b, context) ids, whose last column is a placeholder."""
        words = ids[:, :-1]
        n, length = ids.shape
        tokens = torch.cat([self.token_embedding(words), self.cls_emb.expand(n, 1, -1)], 1)
        tokens = tokens + self.positional_embedding[:length]
        hidden = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1).repeat(n, 1, 1)
        # Key 0 is always seen by the class token, key j when word j - 1 is none of the padding.
        hidden[:, -1, 1:] = words == _PAD
        hidden = hidden.repeat_interleave(self.heads, 0)
        return self.transformer(tokens, hidden)

    def forward(self, ids: Tensor) -> Tensor:
        """Encode (b, context) ids into (b, dim), not yet of length 1."""
        return self.ln_final(self.hidden_states(ids)[:, -1]) @ self.text_projection


class ConchTokenizer:
    """Words to ids, from CONCH's own file.

    Parameters
    ----------
    path : ``conch_byte_level_bpe_uncased.json``.   context : length of a row, with the class token.
    """

    def __init__(self, path: Path, context: int = 128) -> None:
        from tokenizers import Tokenizer

        check_tokenizer(path)
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.context = context

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Return (n, context) int64 ids: start, words, end, padding, and a last 0 for the class token."""
        words = self.context - 1
        rows = []
        for sentence in sentences:
            ids = self._tokenizer.encode(sentence, add_special_tokens=True).ids
            if len(ids) > words:
                ids = [*ids[: words - 1], _END]
            rows.append(ids + [_PAD] * (self.context - len(ids)))
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.context)


class ConchText:
    """A :class:`TextEncoder`; what was encoded once on this machine is read back."""

    id = CARD.id

    def __init__(
        self, tower: ConchTextTower, tokenizer: ConchTokenizer, device: torch.device, weights: str
    ) -> None:
        self.device, self.dim = device, tower.text_projection.shape[1]
        self._tower = tower.eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._cache = EmbeddingCache("conch-text", weights, (self.dim,))
        self._known: dict[str, NDArray[np.float32]] = {}

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        for sentence in sentences:
            if sentence not in self._known:
                self._known[sentence] = self._row(sentence)
        if not sentences:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([self._known[sentence] for sentence in sentences])

    def _row(self, sentence: str) -> NDArray[np.float32]:
        # One at a time: then a sentence has the same embedding, bit for bit, whatever stands beside it.
        content = f"{self.device.type} {sentence}".encode()
        row = self._cache.get(content)
        if row is None:
            with torch.inference_mode():
                found = self._tower(self._tokenizer([sentence]).to(self.device))
            row = nn.functional.normalize(found, dim=-1)[0].float().cpu().numpy()
            self._cache.put(content, row)
        return row


def load_text_tower(tower: ConchTextTower, state: Mapping[str, Tensor]) -> None:
    """Load the text tower out of the whole checkpoint, strictly: the published loader is silent on missing keys.

    Raises
    ------
    EncoderError : naming the first differences.
    """
    load_strictly(tower, _own(state), _TOWER)


def _own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}


def check_file(name: str, path: Path) -> None:
    """Raise EncoderError unless a file is the tokenizer, or holds the text tower: checked before it is kept."""
    if name == TOKENIZER_FILE:
        check_tokenizer(path)
        return
    with torch.device("meta"):
        tower = ConchTextTower(ConchTextSizes())
    check_state(tower, _own(state_dict_of(read_checkpoint(path), path)), _TOWER)


def check_tokenizer(path: Path) -> None:
    """Raise EncoderError unless a file is CONCH's tokenizer."""
    check_sha256(path, _TOKENIZER_SHA256, f"Get it again from {SOURCE.elsewhere[TOKENIZER_FILE]}")


def load(device: str = "auto") -> ConchText:
    """Load the encoder in float32; EncoderError says what is missing."""
    where = resolve_device(device)
    weights, tokenizer = find_weights(SOURCE)
    with torch.device("meta"):
        tower = ConchTextTower(ConchTextSizes())
    load_text_tower(tower, state_dict_of(read_checkpoint(weights), weights))
    return ConchText(tower, ConchTokenizer(tokenizer), where, sha256_of(weights))
