"""Any sentence encoder of the Hugging Face hub by its id, ``hf:<owner>/<name>``, e.g. hf:pritamdeka/S-PubMedBert-MS-MARCO.

Repositories laid out as sentence-transformers does: network, tokenizer and ``1_Pooling/config.json`` (mean over the
words, or the class token; the mean where it is missing). The tokenizer is ``tokenizer.json``; older repositories of the
BERT family (ClinicalBERT, BioBERT) have only the word pieces, ``vocab.txt``, which are split as transformers' own
BertTokenizer does. Vectors are brought to length 1, as those of the other text encoders. No code of a repository is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_survpgc.core.encoders.base import resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.image.hub_image import hidden_size, parse_id, read_config
from napari_survpgc.core.encoders.weights.embedding_cache import EmbeddingCache
from napari_survpgc.core.encoders.weights.transformers_loading import load_network
from napari_survpgc.core.encoders.weights.weights import WeightSource, find_optional, find_weights, sha256_of
from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.types import EncoderKind

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.implementations import BaseTokenizer

_MAX_TOKENS = 512
_MAX_VOCABULARY_BYTES = 64 << 20
_POOLING = "1_Pooling/config.json"
_TOKENIZER_FACTS = "tokenizer_config.json"


def source_of(encoder_id: str) -> WeightSource:
    """Return where the weights of such an encoder come from."""
    hub = parse_id(encoder_id)
    if hub is None or hub.kind != "hf":
        raise EncoderError(f"{encoder_id} is no text encoder of a hub", "Write hf:<owner>/<name>")
    return WeightSource(
        EncoderCard(encoder_id, EncoderKind.TEXT, hub.name, "see its page"),
        files=("config.json", "tokenizer.json", "model.safetensors"),
        optional=(_POOLING, _TOKENIZER_FACTS),
        repository=hub.name,
        gated=False,
        also={"model.safetensors": "pytorch_model.bin", "tokenizer.json": "vocab.txt"},
    )


class HubText:
    """See the module's docstring."""

    def __init__(
        self,
        encoder_id: str,
        network: nn.Module,
        tokenizer: Tokenizer | BaseTokenizer,
        by_class_token: bool,
        device: torch.device,
        weights: str,
    ) -> None:
        self.id, self.dim = encoder_id, hidden_size(network)
        self.device, self.by_class_token = device, by_class_token
        self._network = network.eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._cache = EmbeddingCache(encoder_id, weights, (self.dim,))
        self._known: dict[str, NDArray[np.float32]] = {}

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode (n, t) ids without padding into (n, dim) unit vectors."""
        tokens = self._network(input_ids=input_ids).last_hidden_state
        return nn.functional.normalize(tokens[:, 0] if self.by_class_token else tokens.mean(1), dim=-1)

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        for sentence in sentences:
            if sentence not in self._known:
                self._known[sentence] = self._row(sentence)
        if not sentences:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([self._known[sentence] for sentence in sentences])

    def _row(self, sentence: str) -> NDArray[np.float32]:
        content = f"{self.device.type} {sentence}".encode()
        row = self._cache.get(content)
        if row is None:
            ids = self._tokenizer.encode(sentence).ids
            with torch.inference_mode():
                row = self.forward(torch.tensor([ids], device=self.device))[0].float().cpu().numpy()
            self._cache.put(content, row)
        return row


def load_hub_text(encoder_id: str, device: str = "auto") -> HubText:
    """Load such an encoder from local files or the hub's cache.

    Raises
    ------
    EncoderError : files are missing, damaged, of another model, or of a kind that needs code of its own.
    """
    source = source_of(encoder_id)
    where = resolve_device(device)
    config_file, tokenizer_file, weights = find_weights(source)
    pooling_file = find_optional(source, _POOLING)
    network = load_network(config_file.parent, source.card.title)
    tokenizer = _read_tokenizer(source, tokenizer_file)
    config: Any = network.config
    limit = int(getattr(config, "max_position_embeddings", _MAX_TOKENS))
    tokenizer.enable_truncation(min(limit, _MAX_TOKENS))
    tokenizer.no_padding()
    pooling = (
        read_config(pooling_file) if pooling_file else {}
    )  # the mean, as sentence-transformers does without
    by_class_token = bool(pooling.get("pooling_mode_cls_token", False))
    return HubText(encoder_id, network, tokenizer, by_class_token, where, sha256_of(weights))


def _read_tokenizer(source: WeightSource, path: Path) -> Tokenizer | BaseTokenizer:
    """Read ``tokenizer.json``, or make the tokenizer of BERT from its ``vocab.txt``."""
    from tokenizers import Tokenizer
    from tokenizers.implementations import BertWordPieceTokenizer

    try:
        if path.suffix == ".json":
            return Tokenizer.from_file(str(path))
        facts_file = find_optional(source, _TOKENIZER_FACTS)
        facts = read_config(facts_file) if facts_file else {}
        if path.stat().st_size > _MAX_VOCABULARY_BYTES:
            raise ValueError("too large")
        words = BertWordPieceTokenizer(
            str(path),
            lowercase=bool(facts.get("do_lower_case", True)),  # the default of BertTokenizer
            handle_chinese_chars=bool(facts.get("tokenize_chinese_chars", True)),
            strip_accents=facts.get("strip_accents"),
        )
        if any(words.token_to_id(mark) is None for mark in ("[CLS]", "[SEP]", "[UNK]")):
            raise ValueError("not the word pieces of BERT")
        return words
    except EncoderError:
        raise
    except Exception as error:  # the library raises a bare Exception
        raise EncoderError(
            f"The tokenizer of {source.card.title} ({path.name}) is damaged or of a kind that is not known",
            f"Get it again from {source.page}",
        ) from error
