"""Features as a plain PyTorch tensor (.pt), untrusted."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_survpgc.core.errors import FeatureError

_MAX_BYTES = 32 << 30


def read_tensor(path: Path) -> NDArray[Any]:
    """Read a tensor in float32, or the one under "features"; FeatureError for anything else. Nothing in it is executed."""
    import torch

    try:
        size = path.stat().st_size
        if size > _MAX_BYTES or not path.is_file():
            raise ValueError("too large, or no file")
        _check_packed(path, size)
        tensor = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(tensor, dict) and isinstance(tensor.get("features"), torch.Tensor):
            tensor = tensor["features"]
        if not isinstance(tensor, torch.Tensor):
            raise ValueError("no tensor")
        # A step of 0 makes any number of rows of one.
        if tensor.numel() * tensor.element_size() > size or tensor.layout != torch.strided:
            raise ValueError("larger than its file")
        return tensor.float().numpy()
    except Exception as error:  # torch raises anything from UnpicklingError to AttributeError on a bad file
        raise FeatureError(
            f"{path.name} is not a tensor file, or holds more than a tensor",
            "Make it again with 'survpgc features'",
        ) from error


def _check_packed(path: Path, size: int) -> None:
    """Raise ValueError for a zip file whose parts are packed, or together larger than it: PyTorch stores them as they are."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if (
        any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        or sum(p.file_size for p in parts) > size
    ):
        raise ValueError("its parts are larger than it")
