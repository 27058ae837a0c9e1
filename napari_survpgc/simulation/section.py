"""Draw H&E sections with known tissue classes, by an optical-density model.

Hematoxylin and eosin are drawn as two density maps; light passing through both gives the color (Beer-Lambert, with
the hematoxylin vector of Ruifrok & Johnston 2001 and an eosin between theirs and scanned slides'). What a tumor looks like (nuclear grade, lymphocytes, necrosis) is set
by :class:`Histology`, so that a survival model can be checked against the truth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_survpgc.core.types import ProgressCallback

from .histology import COARSE, STAIN_BLOOD, STAIN_E, STAIN_H, Histology, Region, Section
from .noise import smooth_noise
from .nuclei import draw_nuclei
from .regions import region_map, upsample_labels
from .structures import draw_fat, draw_fold, draw_glands, draw_pen, draw_vessels, fiber_field

STEPS = 14
"""Of about two seconds each for the slide of the demonstration."""


def draw_section(
    histology: Histology,
    size: tuple[int, int],
    rng: np.random.Generator,
    progress: ProgressCallback | None = None,
) -> Section:
    """Draw one section.

    Parameters
    ----------
    size : (width, height) px at 0.5 µm per px, multiples of 16.
    rng : the only source of chance: the same generator state gives the same bytes.
    progress : told after each of :data:`STEPS`; may end the drawing by raising.
    """
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("drawing a simulated slide", done, STEPS)

    width, height = size
    regions = region_map(histology, (height // COARSE, width // COARSE), rng)
    shape = (height, width)
    # Full-resolution membership with wavy borders: the coarse map is looked up at slightly displaced places.
    labels = upsample_labels(regions, shape, rng)
    step()
    flow = smooth_noise(shape, 420, rng) * 2.2
    hema = np.zeros(shape, np.float32)
    eosin = np.zeros(shape, np.float32)
    blood = np.zeros(shape, np.float32)
    grain = smooth_noise(shape, 5, rng)
    cloud = smooth_noise(shape, 60, rng)
    step()

    fibers = fiber_field(shape, flow, rng)
    step()
    stroma = (labels == Region.STROMA) | (labels == Region.VESSEL) | (labels == Region.NORMAL_GLANDS)
    eosin += stroma * np.clip(
        0.25 + 0.075 * fibers + 0.04 * cloud - 0.16 * np.clip(-fibers - 1.0, 0, None), 0.02, None
    )
    hema += stroma * 0.02

    tumor = labels == Region.TUMOR
    eosin += tumor * (0.27 + 0.05 * grain + 0.04 * cloud)
    hema += tumor * (0.07 + 0.05 * histology.grade + 0.02 * grain)

    lymph = labels == Region.LYMPHOCYTES
    eosin += lymph * (0.14 + 0.05 * grain)
    hema += lymph * 0.08

    necrosis = labels == Region.NECROSIS
    debris = smooth_noise(shape, 9, rng)
    eosin += necrosis * np.clip(0.42 + 0.10 * debris + 0.07 * grain + 0.06 * cloud, 0.1, None)
    hema += necrosis * (0.035 + 0.02 * np.clip(debris, 0, None))
    step()

    draw_fat(labels == Region.FAT, eosin, hema, rng)
    step()
    draw_vessels(labels, regions, eosin, hema, blood, rng)
    draw_glands(labels, eosin, hema, rng)
    step()
    draw_nuclei(labels, histology, flow, eosin, hema, rng, step)

    if histology.fold:
        draw_fold(labels, regions, eosin, hema, rng)
    # Section thickness varies slowly; glass stays clean but for a little dust.
    thickness = 1 + 0.10 * smooth_noise(shape, 900, rng)
    hema, eosin = hema * thickness, eosin * thickness
    step()
    image = _to_rgb(hema, eosin, blood, rng, step)
    if histology.pen:
        draw_pen(image, regions, histology.pen, rng)
    return Section(image, regions)


def _to_rgb(
    hema: NDArray[np.float32],
    eosin: NDArray[np.float32],
    blood: NDArray[np.float32],
    rng: np.random.Generator,
    step: Callable[[], object],
) -> NDArray[np.uint8]:
    """Light through both stains; the batch of stain and the scanner differ a little from slide to slide."""
    h_vector = STAIN_H * rng.normal(1, 0.05, 3).astype(np.float32) * np.float32(rng.uniform(0.9, 1.12))
    e_vector = STAIN_E * np.float32(rng.uniform(0.85, 1.12)) + np.array(
        [rng.uniform(-0.02, 0.03), 0, rng.uniform(-0.08, 0.08)], np.float32
    )
    white = np.array([244, 243, 245], np.float32) + rng.normal(0, 1.5, 3).astype(np.float32)
    sigma = rng.uniform(0.55, 0.8)
    out = np.empty((*hema.shape, 3), np.uint8)
    hema, eosin = np.clip(hema, 0, 1.8), np.clip(eosin, 0, 1.6)
    for channel in range(3):
        density = hema * h_vector[channel] + eosin * e_vector[channel] + blood * STAIN_BLOOD[channel]
        density = ndimage.gaussian_filter(density, sigma)
        light = white[channel] * np.exp(-np.float32(np.log(10)) * density)
        light += rng.standard_normal(light.shape, np.float32) * 1.6
        out[..., channel] = np.clip(light, 0, 255)
        step()
    return out
