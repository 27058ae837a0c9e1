"""A simulated section as a pyramidal TIFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_survpgc.core.streams import atomic_stream

from .histology import MPP, Section


def write_slide(section: Section, path: Path, *, quality: int = 88) -> None:
    """Write a section as a pyramidal tiled JPEG TIFF that says its pixel size (0.5 µm)."""
    with atomic_stream(path) as stream, tifffile.TiffWriter(stream, bigtiff=False) as tiff:
        level, mpp = section.image, MPP
        first = True
        while True:
            tiff.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": quality},
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                subfiletype=0 if first else 1,
                description="Simulated H&E section" if first else None,
                metadata=None,
                software="napari-survpgc",
            )
            if max(level.shape[:2]) <= 1024:
                break
            h, w = level.shape[:2]
            level = np.asarray(Image.fromarray(level).resize((w // 2, h // 2), Image.Resampling.BOX))
            mpp, first = mpp * 2, False
