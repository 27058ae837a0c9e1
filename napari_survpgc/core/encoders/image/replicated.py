"""One image encoder on several GPUs: each batch goes to the next that is free."""

from __future__ import annotations

import queue
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.encoders.base import ImageEncoder
from napari_survpgc.core.types import Resampling


class ReplicatedEncoder:
    """An :class:`ImageEncoder` whose ``encode`` may be called from as many threads as there are replicas.

    Parameters
    ----------
    encoders : the same encoder, once on each device; half precision may differ in the last bits between GPU models.
    """

    def __init__(self, encoders: Sequence[ImageEncoder]) -> None:
        first = encoders[0]
        self.id, self.dim = first.id, first.dim
        self.patch_px, self.mpp, self.input_px = first.patch_px, first.mpp, first.input_px
        self.resampling: Resampling = first.resampling
        self.weights = first.weights
        self.device, self.replicas = first.device, len(encoders)
        self.patch_bytes = getattr(first, "patch_bytes", 0)
        self._free: queue.SimpleQueue[ImageEncoder] = queue.SimpleQueue()
        for encoder in encoders:
            self._free.put(encoder)

    def encode(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        encoder = self._free.get()
        try:
            return encoder.encode(patches)
        finally:
            self._free.put(encoder)
