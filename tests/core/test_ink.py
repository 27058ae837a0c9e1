"""Ink of every color is no tissue, wet or dry, on glass or over tissue; tissue in the colors of ink stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from napari_survpgc.core.tissue.find import tissue_pixels

# Densities of red, green and blue light, each of a dye at full strength; H&E as it looks at 8 µm per px.
EOSIN, HEMATOXYLIN = (0.05, 0.20, 0.115), (0.32, 0.42, 0.20)
INKS = {
    "black": (0.95, 1.0, 1.1),
    "bluish black": (1.0, 0.98, 0.9),
    "red": (0.07, 0.75, 0.62),
    "green": (0.55, 0.15, 0.2),
    "teal": (0.6, 0.17, 0.24),
    "blue": (0.82, 0.55, 0.14),
}
LIGHTS = ((243, 242, 241), (222, 224, 217), (252, 240, 228))


def _scene(
    ink: str, light: tuple[int, int, int], seed: int = 0
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """Return a picture of 8 µm per px with a section, a wet stroke and a dry one, and where they are."""
    rng = np.random.default_rng(seed)
    height, width = 480, 640
    y, x = np.mgrid[:height, :width]
    section = ((x - 360) / 190) ** 2 + ((y - 250) / 160) ** 2 < 1
    nuclei = np.clip(0.35 + 0.5 * ndimage.gaussian_filter(rng.normal(0, 3, (height, width)), 2), 0, 1)[
        ..., None
    ]
    density = section[..., None] * (np.array(EOSIN) * (1.2 - nuclei) + np.array(HEMATOXYLIN) * nuclei)
    # On glass and over the edge of the section: a stroke of 0.4 mm, and one in streaks, as of a pen that dries out.
    wet = (np.abs(x - 90 - 0.06 * y) < 25) | ((np.abs(y - 60) < 22) & (x > 100) & (x < 420))
    streaks = ndimage.gaussian_filter(rng.normal(0, 1, (height, width)), (1.2, 10)) > 0.02
    dry = (np.abs(x - 150) < 14) & (y > 120) & (y < 420) & streaks
    dry &= ndimage.binary_opening(dry, iterations=1)
    strength = np.clip(ndimage.gaussian_filter(wet * 1.0, 2) + 0.55 * dry, 0, 1)[..., None]
    density = density + strength * np.array(INKS[ink])
    noise = rng.normal(0, 1.5, (height, width, 3))
    image = np.clip(np.array(light) * 10**-density + noise, 0, 255).astype(np.uint8)
    places = {"wet": wet, "dry": dry, "section": section & ~ndimage.binary_dilation(wet | dry, iterations=6)}
    return image, places


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("ink", INKS)
def test_at_most_a_twentieth_of_ink_is_tissue_and_the_tissue_beside_it_stays(
    ink: str, light: tuple[int, int, int]
) -> None:
    image, places = _scene(ink, light)
    mask = tissue_pixels(image, 8.0)
    share = {name: float(mask[where].mean()) for name, where in places.items()}
    assert share["wet"] <= 0.05, share
    assert share["dry"] <= 0.05, share
    assert share["section"] >= 0.95, share


# Densities at 8 µm per px of what ink could be taken for.
LOOKALIKES = {
    "crowded hematoxylin": (0.60, 0.75, 0.36),
    "bluish hematoxylin": (0.46, 0.40, 0.19),
    "nearly black fold": (0.80, 1.05, 0.72),
    "melanin": (0.42, 0.68, 0.86),
    "necrosis": (0.05, 0.24, 0.14),
    "strong eosin": (0.05, 0.42, 0.25),
    "hemorrhage": (0.09, 0.45, 0.32),
    "pale stroma": (0.015, 0.055, 0.03),
}


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_tissue_in_the_colors_of_ink_stays(kind: str) -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:300, :300]
    inside = (x - 150) ** 2 + (y - 150) ** 2 < 100**2
    texture = np.clip(1 + 0.25 * ndimage.gaussian_filter(rng.normal(0, 4, (300, 300)), 1.5), 0.5, 1.5)
    density = (inside * texture)[..., None] * np.array(LOOKALIKES[kind])
    ring = ((x - 150) ** 2 + (y - 150) ** 2 < 130**2) & ~inside
    density = density + ring[..., None] * np.array(EOSIN)  # something usual around it
    image = np.clip(243 * 10**-density + rng.normal(0, 1.5, (300, 300, 3)), 0, 255).astype(np.uint8)
    assert tissue_pixels(image, 8.0)[inside].mean() >= 0.95


def test_small_vessels_full_of_blood_are_not_taken_for_ink() -> None:
    rng = np.random.default_rng(2)
    density = np.full((300, 300, 3), EOSIN)
    for row, column in rng.integers(10, 290, (60, 2)):
        density[row : row + 3, column : column + 3] = (0.08, 0.6, 0.45)
    image = np.clip(243 * 10**-density, 0, 255).astype(np.uint8)
    assert (
        tissue_pixels(np.pad(image, ((40, 40), (40, 40), (0, 0)), constant_values=243), 8.0).sum()
        >= 0.97 * 300**2
    )


@pytest.mark.parametrize("um", [4.0, 8.0, 16.0])
def test_ink_is_found_at_other_resolutions_too(um: float) -> None:
    image, places = _scene("red", LIGHTS[0])
    size = round(640 * 8 / um), round(480 * 8 / um)
    mask = tissue_pixels(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)), um)
    share = {
        name: float(mask[np.asarray(Image.fromarray(where).resize(size, Image.Resampling.NEAREST))].mean())
        for name, where in places.items()
    }
    assert share["wet"] <= 0.05, share
    assert share["section"] >= 0.95, share


@pytest.mark.parametrize(("name", "kept"), [("black", 0.0), ("red", 0.95)])
def test_ink_of_real_slides_is_left_out(shared_dir: Path, name: str, kept: float) -> None:
    folder = shared_dir / "cases" / "formats" / "pen"
    if not folder.is_dir():
        pytest.skip("the shared test data have no pictures of ink")
    image = np.asarray(Image.open(folder / f"hq_pen_{name}.png").convert("RGB"))
    ink = np.asarray(Image.open(folder / f"hq_pen_{name}_mask.png").convert("L")) > 0
    mask = tissue_pixels(image, 8.0)
    assert mask[ink].mean() <= 0.05
    # Of the section (its outline drawn by eye, well within): all but the ink.
    within = np.zeros_like(ink)
    if name == "red":
        within[220:700, 200:700] = True
        assert mask[within & ~ink].mean() >= kept
    else:
        assert not mask.any()
