"""A slide that is no H&E is said to be so before features are made of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from napari_survpgc.cli import run
from napari_survpgc.core.features.featurize import featurize
from napari_survpgc.core.jobs.analysis import kept_warnings
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.tissue.overview import slide_overview
from napari_survpgc.core.tissue.stain import StainError, StainKind, check_stain, stain_warning
from napari_survpgc.core.types import JobOptions
from tests.builders import tissue_image, write_tiff
from tests.core.test_features import FakeEncoder

HEMATOXYLIN = np.array([0.65, 0.704, 0.286])
EOSIN = np.array([0.12, 0.95, 0.36])
DAB = np.array([0.268, 0.570, 0.776])


def _section(
    first: NDArray[np.float64], second: NDArray[np.float64], strength: float = 0.5, share: float = 0.4
) -> NDArray[np.uint8]:
    """Return a section in two dyes on glass: ``first`` in nuclei, ``second`` between them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    inside = ((x - 200) / 150) ** 2 + ((y - 150) / 120) ** 2 < 1
    nuclei = np.clip(share + 0.6 * ndimage.gaussian_filter(rng.normal(0, 3, (300, 400)), 1.5), 0, 1)[
        ..., None
    ]
    density = inside[..., None] * strength * (nuclei * first + (1 - nuclei) * 0.6 * second)
    return np.clip(243 * 10**-density + rng.normal(0, 1.5, (300, 400, 3)), 0, 255).astype(np.uint8)


def _he(strength: float = 0.5, share: float = 0.4) -> NDArray[np.uint8]:
    return _section(HEMATOXYLIN, EOSIN, strength, share)


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0, 1.6])
@pytest.mark.parametrize("share", [0.15, 0.4, 0.7])
@pytest.mark.parametrize("cast", [(1, 1, 1), (1, 0.96, 0.9), (0.92, 0.97, 1), (0.75, 0.75, 0.75)])
def test_pale_dark_pink_and_purple_he_on_any_scanner_is_he(
    strength: float, share: float, cast: tuple[float, float, float]
) -> None:
    check = check_stain((_he(strength, share) * np.array(cast)).astype(np.uint8))
    assert check.is_he, check
    assert check.score > 0.6
    assert check.sentence == ""


def test_glass_alone_gives_no_opinion() -> None:
    assert check_stain(np.full((200, 200, 3), 243, np.uint8)).is_he


def test_what_is_no_he_is_told_by_its_kind() -> None:
    gray = np.repeat(np.asarray(Image.fromarray(_he()).convert("L"))[..., None], 3, 2)
    blue_nuclei = np.zeros((300, 400, 3), np.uint8)
    blue_nuclei[..., 2] = 255 - gray[..., 0]
    found = {
        StainKind.DARK: (blue_nuclei, 255 - _he()),
        StainKind.BROWN: (_section(HEMATOXYLIN * (1.2, 1, 1), DAB),),
        StainKind.BLUE: (_section(HEMATOXYLIN * (1.2, 1, 1), HEMATOXYLIN * (1.2, 1, 1) * 0.3),),
        StainKind.GRAY: (gray,),
        StainKind.OTHER: (_section(np.array([0.9, 0.4, 0.2]), np.array([0.8, 0.3, 0.25])),),
    }
    for kind, pictures in found.items():
        for picture in pictures:
            check = check_stain(picture)
            assert check.kind is kind, (kind, check)
            assert check.score < 0.6
            assert check.sentence


def test_real_he_is_he_and_fluorescence_is_not(shared_dir: Path) -> None:
    for name, mpp, he in (
        ("CMU-1-Small-Region.svs", None, True),
        ("TCGA-CR-7395-01A-01-TS1.svs", 2.0, True),
        ("test3-DAPI-2-(387).ndpi", None, False),
    ):
        with open_slide(shared_dir / "slides" / name, mpp=mpp) as slide:
            assert check_stain(slide_overview(slide).image).is_he is he, name


def test_a_slide_that_is_no_he_is_refused_before_features_and_taken_when_told_to(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "inverted.tiff", 255 - tissue_image(1280, 1280))
    out = tmp_path / "inverted.h5"
    with open_slide(path) as slide:
        with pytest.raises(
            StainError, match=r"inverted\.tiff does not look like an H&E slide: .*--any-stain"
        ) as caught:
            featurize(slide, FakeEncoder(), out)
        assert not list(tmp_path.glob("*.h5*"))
        assert pickle.loads(pickle.dumps(caught.value)).check == caught.value.check
        made = featurize(slide, FakeEncoder(), out, options=JobOptions("cpu", any_stain=True))
    assert made.warnings[0] == stain_warning("inverted.tiff", caught.value.check)
    assert kept_warnings(made.features) == made.warnings[:1]


def test_the_command_line_refuses_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_tiff(tmp_path / "inverted.tiff", 255 - tissue_image(1024, 1024))
    line = ["features", str(path), "--out", str(tmp_path / "f"), "--device", "cpu"]
    assert run(line) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "inverted.tiff does not look like an H&E slide" in told[0]
    assert "--any-stain" in told[0]
    assert not list((tmp_path / "f").glob("*.h5"))
    assert run([*line, "--any-stain"]) == 0
    assert "does not look like an H&E slide" in capsys.readouterr().out
