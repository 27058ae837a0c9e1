"""Embeddings kept on disk by what they were made from: a sentence or an expression is encoded once on a machine.

An entry is named by a SHA-256 of the encoder, its weights and the input, so that nothing stale can be read; the name
tells nothing of the patient, and the folder belongs to the user's own cache.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.files import atomic, sweep
from napari_survpgc.core.user_folder import user_folder


class EmbeddingCache:
    """Rows of one encoder.

    Parameters
    ----------
    encoder_id : folder of the entries.
    weights : anything that changes with the weights, e.g. their SHA-256.
    shape : of an entry; others are taken for spoilt and made again.
    """

    def __init__(self, encoder_id: str, weights: str, shape: tuple[int, ...]) -> None:
        self._encoder_id, self._weights, self._shape = encoder_id, weights, shape
        self._swept = False

    def _path(self, content: bytes) -> Path:
        name = hashlib.sha256(
            b"\0".join([self._encoder_id.encode(), self._weights.encode(), content])
        ).hexdigest()
        folder = "".join(c if c.isalnum() or c in "-." else "_" for c in self._encoder_id)
        return user_folder() / "embeddings" / folder / f"{name}.npy"

    def get(self, content: bytes) -> NDArray[np.float32] | None:
        """Return the entry for an input, or None when it has to be computed."""
        try:
            row = np.load(self._path(content), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None  # not yet, or spoilt: it is made anew
        if row.shape != self._shape or row.dtype != np.float32 or not np.isfinite(row).all():
            return None
        return row

    def put(self, content: bytes, row: NDArray[np.float32]) -> None:
        """Keep an entry; OutputError when the folder cannot be written."""
        path = self._path(content)
        if not self._swept:
            sweep(path.parent, only_ours=True)
            self._swept = True
        with atomic(path, swept=True) as place, place.open("wb") as stream:
            np.save(stream, np.asarray(row, np.float32), allow_pickle=False)
