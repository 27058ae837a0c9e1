"""A slide like the training slides is not warned of; one of another stain is, in prediction and bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.bundle.write import write_bundle
from napari_survpgc.core.encoders.catalog import load_image_encoder
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.features.drift import drift, feature_profile, parse_profile, write_profile
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.tissue.patches import patch_grid
from napari_survpgc.resources import resource_path
from tests.builders import tiny_bundle


def means(n: int, d: int = 32, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(3, 0.2, (n, d)))


def test_the_distance_of_a_training_slide_is_about_one_and_leaves_it_out() -> None:
    rows = means(60)
    profile = feature_profile(rows)
    assert profile is not None
    assert np.median(profile.distances) == pytest.approx(1, abs=0.15)
    without = np.stack(rows[1:])
    z = (rows[0] - without.mean(0)) / without.std(0, ddof=1)
    assert np.isclose(profile.distances, np.sqrt(np.mean(z**2)), rtol=1e-5).any()


def test_a_shifted_slide_is_unlike_and_an_ordinary_one_is_not() -> None:
    profile = feature_profile(means(60))
    assert profile is not None
    like = np.random.default_rng(5).normal(3, 1, (500, 32))
    assert not drift(profile, like).unlike
    found = drift(profile, like + 1.0)
    assert found.unlike
    assert "unlike the training data" in found.describe()
    assert "60 training slides" in found.describe()


def test_too_few_slides_have_no_profile_and_constant_dimensions_do_not_count() -> None:
    assert feature_profile(means(5)) is None
    rows = np.stack(means(20))
    rows[:, 3] = 0
    profile = feature_profile(rows)
    assert profile is not None
    other = np.random.default_rng(1).normal(3, 0.2, (10, 32))
    assert np.isfinite(drift(profile, other).distance)


def test_a_bundle_keeps_the_profile_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "plain")
    width = bundle.config.encoders["pathology"].dim
    profile = feature_profile(means(12, width))
    assert profile is not None
    states = [model.state_dict() for model in bundle.load_models()]
    made = write_bundle(
        tmp_path / "with",
        bundle.config,
        states,
        bundle.reference,
        gene_reference=bundle.gene_reference,
        gene_sets=bundle.gene_sets,
        feature_profile=profile,
    )
    assert made.feature_profile is not None
    assert np.array_equal(made.feature_profile.distances, profile.distances)
    assert load_bundle(tmp_path / "plain").feature_profile is None
    write_profile(profile, tmp_path / "p")
    raw = (tmp_path / "p").read_bytes()
    with pytest.raises(ValueError, match="wide"):
        parse_profile(raw, width + 1)
    with pytest.raises(ValueError, match="SafetensorError"):
        parse_profile(raw[:40], width)
    (tmp_path / "with" / "feature_profile.safetensors").write_bytes(raw[:-4])
    with pytest.raises(BundleError, match="changed"):
        load_bundle(tmp_path / "with")


def test_a_real_slide_is_unlike_the_simulated_ones_of_the_demonstration(shared_dir: Path) -> None:
    bundle = load_bundle(resource_path("demo_bundle"))
    assert bundle.feature_profile is not None
    assert bundle.feature_profile.distances.max() < 3
    with open_slide(shared_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        grid = patch_grid(find_tissue(slide), slide.info)
        rows = [slide.read_square(int(x), int(y), grid.patch_px_level0, 224) for x, y in grid.coords[::6]]
    found = drift(
        bundle.feature_profile, load_image_encoder("efficientnet-lite0", "cpu").encode(np.stack(rows))
    )
    assert found.unlike
    assert found.distance > 5
