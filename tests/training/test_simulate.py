"""The simulated cohort is complete, repeatable, true to its truth, and looks like H&E."""

from __future__ import annotations

import filecmp
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest
from PIL import Image

from napari_survpgc.core.clinical.record_file import read_record
from napari_survpgc.core.errors import OutputError
from napari_survpgc.core.genomics.expression_file import read_expression
from napari_survpgc.core.metrics import c_index
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.tissue.find import find_tissue
from napari_survpgc.core.tissue.outlines import rasterize
from napari_survpgc.core.tissue.patches import patch_grid
from napari_survpgc.simulation.cohort import DEMO_INDEX, DEMO_SEED, simulate_case, simulate_cohort
from napari_survpgc.simulation.histology import Histology, Region
from napari_survpgc.simulation.patients import GENES, simulate_patient
from napari_survpgc.simulation.section import draw_section

PX = (768, 768)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sim") / "cohort"
    simulate_cohort(folder, patients=12, seed=3, slide_px=PX)
    return folder


def test_the_folder_is_a_cohort_with_truth(cohort: Path) -> None:
    patients = pd.read_csv(cohort / "patients.csv", dtype={"site": str})
    assert patients.columns.tolist()[:10] == [
        "case_id", "slide_ids", "age", "sex", "stage", "staging_edition", "subtype", "race", "survival_months", "event",
    ]  # fmt: skip
    truth = pd.read_csv(cohort / "truth" / "patients.csv")
    np.testing.assert_allclose(truth.filter(like="log_hazard_").sum(axis=1), truth["log_hazard"], atol=1e-9)
    tested = pd.concat([pd.read_csv(cohort / "folds" / f"fold_{i}.csv").assign(fold=i) for i in range(5)])
    assert sorted(tested[tested["split"] == "test"]["case_id"]) == sorted(patients["case_id"])


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(cohort: Path, tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "again", patients=12, seed=3, slide_px=PX, workers=2)
    for path in sorted(p for p in cohort.rglob("*") if p.is_file()):
        assert filecmp.cmp(path, tmp_path / "again" / path.relative_to(cohort), shallow=False), path.name
    case = simulate_case(tmp_path / "case", seed=3, index=5, slide_px=PX)
    assert filecmp.cmp(case.slide, cohort / "slides" / case.slide.name, shallow=False)
    assert read_record(case.clinical) == read_record(cohort / "patients.csv", case.patient.case_id)
    one = read_expression(case.expression)
    table = read_expression(cohort / "expression.csv.gz", sample=case.patient.case_id)
    assert dict(one.values) == dict(table.values)


def test_an_interrupted_cohort_goes_on_and_others_are_kept(cohort: Path) -> None:
    slide = next((cohort / "slides").glob("*.tiff"))
    kept = next(p for p in (cohort / "slides").glob("*.tiff") if p != slide)
    content, time = slide.read_bytes(), kept.stat().st_mtime_ns
    slide.unlink()
    simulate_cohort(cohort, patients=12, seed=3, slide_px=PX)
    assert slide.read_bytes() == content
    assert kept.stat().st_mtime_ns == time
    with pytest.raises(OutputError, match="other settings"):
        simulate_cohort(cohort, patients=13, seed=3, slide_px=PX)
    with pytest.raises(OutputError, match="too few"):
        simulate_cohort(cohort / "x", patients=4, seed=3)


def test_slides_are_pyramids_with_a_pixel_size(cohort: Path) -> None:
    path = next((cohort / "slides").glob("*.tiff"))
    with openslide.OpenSlide(str(path)) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert slide.dimensions == PX


def test_each_modality_knows_what_the_others_do_not() -> None:
    patients = [simulate_patient(11, i) for i in range(500)]
    parts = pd.DataFrame([p.parts for p in patients])
    assert (parts.std() > 1.0).all()
    assert np.abs(parts.corr().to_numpy() - np.eye(3)).max() < 0.3
    months, event = [p.survival_months for p in patients], [p.event for p in patients]
    best = c_index(months, event, parts.sum(axis=1))
    assert 0.8 < best < 0.92
    for name in parts:
        alone = c_index(months, event, parts[name])
        assert 0.6 < alone < best - 0.08, name
    assert 0.4 < np.mean(event) < 0.75


def test_most_genes_are_those_of_real_cohorts(shared_dir: Path) -> None:
    assert 150 <= len(GENES) <= 220
    for name in ("lihc", "brca"):
        columns = pd.read_csv(shared_dir / "tcga" / name / "expression.csv.gz", nrows=0).columns
        assert np.mean([gene in columns for gene in GENES]) >= 0.8


def test_histology_is_drawn_as_asked() -> None:
    def shares(histology: Histology) -> np.ndarray:
        section = draw_section(histology, (1536, 1536), np.random.default_rng(1))
        return np.bincount(section.regions.ravel(), minlength=9) / (section.regions > 0).sum()

    calm, inflamed = shares(Histology(0.2, 0.02, 0.0)), shares(Histology(0.2, 0.4, 0.3))
    assert inflamed[Region.LYMPHOCYTES] > calm[Region.LYMPHOCYTES] + 0.15
    assert inflamed[Region.NECROSIS] > 0.15
    assert calm[Region.NECROSIS] == 0


def test_classes_have_the_colors_of_their_stains(cohort: Path) -> None:
    """Nuclei-rich classes are bluer, stroma pinker, glass and fat bright; nothing is off the H&E palette."""
    section = draw_section(Histology(0.6, 0.3, 0.2), (1536, 1536), np.random.default_rng(2))
    small = np.asarray(
        Image.fromarray(section.image).resize(section.regions.shape[::-1], Image.Resampling.BOX)
    )
    mean = {
        region: small[section.regions == region].mean(0)
        for region in Region
        if (section.regions == region).any()
    }
    for region in (Region.TUMOR, Region.LYMPHOCYTES, Region.STROMA, Region.NECROSIS):
        red, green, blue = mean[region]
        assert green < red + 12
        assert green < blue
    assert mean[Region.LYMPHOCYTES][0] < mean[Region.STROMA][0] - 30
    assert mean[Region.GLASS].min() > 225
    assert mean[Region.FAT].min() > mean[Region.STROMA].min()


def test_the_pen_is_no_tissue_and_the_tissue_is_found(tmp_path: Path) -> None:
    from napari_survpgc.simulation.slide_file import write_slide

    section = draw_section(Histology(0.5, 0.1, 0.1, pen="blue"), (2560, 2560), np.random.default_rng(5))
    write_slide(section, tmp_path / "pen.tiff")
    with open_slide(tmp_path / "pen.tiff") as slide:
        mask = rasterize(find_tissue(slide), 16)
        grid = patch_grid(find_tissue(slide), slide.info)
    truth = section.regions
    assert mask[np.isin(truth, (Region.TUMOR, Region.STROMA, Region.NECROSIS, Region.FAT))].mean() > 0.9
    assert mask[truth == Region.ARTEFACT].mean() < 0.2
    assert len(grid) > 40


def test_the_demo_patient_has_something_to_show() -> None:
    histology = simulate_patient(DEMO_SEED, DEMO_INDEX).histology
    assert histology.lymphocytes > 0.1
    assert histology.necrosis > 0.1
    assert histology.pen is None
