"""The fold models in use, loaded once for everybody who asks."""

from __future__ import annotations

import threading

from napari_survpgc.core.bundle.bundle import Bundle

from .predictor import Predictor


class PredictorCache:
    """Keeps the predictor that was asked for last; safe to ask from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Bundle, str, Predictor] | None = None

    def get(self, bundle: Bundle, device: str = "auto") -> Predictor:
        """Return the fold models of a bundle on a device, loading them (seconds) unless they were asked for last.

        Raises
        ------
        BundleError : the weights were changed or do not fit.
        """
        with self._lock:
            if self._kept is None or self._kept[0] is not bundle or self._kept[1] != device:
                self._kept = None  # not two bundles in memory at once
                self._kept = (bundle, device, Predictor(bundle, device))
            return self._kept[2]
