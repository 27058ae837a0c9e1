"""Features in the folders and under the names of TRIDENT, so that its tools, and those built on it, find them.

::

    <out>/20x_256px_0px_overlap/patches/<slide>_patches.h5         coords
    <out>/20x_256px_0px_overlap/features_<encoder>/<slide>.h5      features, coords

Written from the names that its readers ask for (TRIDENT 0.3: ``read_coords``, slide encoders, ``Processor``); the feature
file also carries the exact attributes of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_survpgc.core.encoders.catalog import IMAGE_ENCODERS
from napari_survpgc.core.hdf5 import new_hdf5, open_hdf5, readable
from napari_survpgc.core.names import file_name
from napari_survpgc.core.types import PatchFeatures

from .attributes import geometry_attributes, nominal_magnification
from .feature_file import write_features

_COMPOUND = (".ome.tiff", ".ome.tif", ".ome.zarr")


def trident_encoder(encoder: str) -> str:
    """Return an encoder's id as TRIDENT spells it."""
    card = IMAGE_ENCODERS.get(encoder)
    return card.trident or card.id if card else encoder


def trident_slide_name(slide: Path) -> str:
    """Return the name of a slide there: without its extension, which may be a double one."""
    ending = next((e for e in _COMPOUND if slide.name.lower().endswith(e)), slide.suffix)
    return slide.name[: len(slide.name) - len(ending)]


@dataclass(frozen=True)
class TridentPlace:
    """Where the files of one slide go.

    Attributes
    ----------
    folder : of one magnification and patch size.   name : of the slide.   encoder : as TRIDENT spells it.
    """

    folder: Path
    name: str
    encoder: str

    @property
    def features(self) -> Path:
        return self.folder / f"features_{self.encoder}" / f"{self.name}.h5"

    @property
    def patches(self) -> Path:
        return self.folder / "patches" / f"{self.name}_patches.h5"

    def write_features(self, features: PatchFeatures, path: Path) -> None:
        """Write the feature file; for ``write`` of :class:`napari_survpgc.core.features.featurize.FeatureRecipe`.

        Raises
        ------
        OutputError : disk full, no permission.
        """
        extra = {
            "features": {"encoder": self.encoder, "savetodir": str(path.parent)},
            "coords": {"savetodir": str(self.folder)},
        }
        write_features(features, path, extra=extra)

    def write_patches(self, features: PatchFeatures) -> None:
        """Write the coordinates apart; those of the same patches stay as they are.

        Raises
        ------
        OutputError : disk full, no permission.
        """
        coords = features.grid.coords.astype(np.int64)
        if self._has_patches(coords):
            return
        with new_hdf5(self.patches) as file:
            dataset = file.create_dataset("coords", data=coords)
            dataset.attrs.update(geometry_attributes(features, readable(self.name)))
            dataset.attrs["savetodir"] = readable(str(self.folder))

    def _has_patches(self, coords: np.ndarray) -> bool:
        try:
            with open_hdf5(self.patches) as file:
                return np.array_equal(file["coords"][()], coords)
        except (OSError, KeyError, TypeError, RuntimeError):
            return False  # none, or a damaged one


def trident_place(out: Path, slide: Path, encoder: str, *, patch_px: int, mpp: float) -> TridentPlace:
    """Return where the features of a slide go inside ``out``.

    Parameters
    ----------
    encoder : our id.   patch_px : side of a patch, px.   mpp : its µm per px.
    """
    folder = out / f"{nominal_magnification(mpp):g}x_{patch_px}px_0px_overlap"
    return TridentPlace(folder, file_name(trident_slide_name(slide)), trident_encoder(encoder))
