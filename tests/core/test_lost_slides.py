"""A slide that vanishes is no damaged slide; patches that failed are counted, and tried again."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_survpgc import cli
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.errors import CohortError, FeatureError, OutputError, SlideError, SlideGoneError
from napari_survpgc.core.features.compute import compute_features
from napari_survpgc.core.features.failed import FAILED, check_finished
from napari_survpgc.core.jobs.analysis import features_of_slide
from napari_survpgc.core.slide.slide import Slide, open_slide
from tests.builders import tissue_image, write_tiff
from tests.core.test_features import FakeEncoder, _grid


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    return write_tiff(tmp_path / "made.tiff", tissue_image(1024, 1280))


def _cut(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 3)


@pytest.mark.parametrize(
    "lose",
    [lambda path: path.unlink(), _cut, lambda path: path.write_bytes(b"")],
    ids=["gone", "cut", "empty"],
)
def test_a_slide_that_vanishes_stops_the_work_which_goes_on_later(
    tiff: Path, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    encoder, out = FakeEncoder(), tmp_path / "x.h5"
    shutil.copyfile(tiff, tmp_path / "kept")

    def vanish(stage: str, done: int, total: int) -> None:
        if done == 8:
            lose(tiff)

    with (
        open_slide(tiff) as slide,
        pytest.raises(SlideGoneError, match=r"made\.tiff .* of 20 patches are done"),
    ):
        compute_features(slide, _grid(), encoder, out, batch_size=4, workers=1, progress=vanish)
    assert not out.exists()
    before = encoder.encoded
    assert 8 <= before < 20
    shutil.copyfile(tmp_path / "kept", tiff)
    with open_slide(tiff) as slide:
        result = compute_features(slide, _grid(), encoder, out)
        whole = compute_features(slide, _grid(), FakeEncoder(), tmp_path / "y.h5")
    assert encoder.encoded == 20, "no patch is computed twice"
    np.testing.assert_array_equal(result.features, whole.features)
    assert result.attributes[FAILED] == 0


class _Failing:
    """A slide of which some patches cannot be read, for a reason."""

    def __init__(self, slide: Slide, columns: set[int], reason: Exception | None = None) -> None:
        self.slide, self.columns, self.reason, self.info = slide, columns, reason, slide.info
        self.asked: list[int] = []

    def read_square(self, x: int, y: int, size: float, px: int, resampling: str = "bilinear") -> np.ndarray:
        self.asked.append(x)
        if x in self.columns:
            raise SlideError("damaged", "copy it again") from self.reason
        return self.slide.read_square(x, y, size, px)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOENT])
def test_what_the_system_cannot_read_is_no_failed_patch(tiff: Path, tmp_path: Path, number: int) -> None:
    with open_slide(tiff) as slide:
        failing = _Failing(slide, {256}, OSError(number, "refused"))
        with pytest.raises(SlideGoneError, match=r"cannot be read any more"):
            compute_features(failing, _grid(), FakeEncoder(), tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


def test_failed_patches_are_counted_and_tried_again_by_the_next_run(tiff: Path, tmp_path: Path) -> None:
    out, encoder = tmp_path / "x.h5", FakeEncoder()
    with open_slide(tiff) as slide:
        first = compute_features(_Failing(slide, {256}), _grid(), encoder, out)
        assert first.attributes[FAILED] == 4
        with h5py.File(out) as file:
            assert file.attrs[FAILED] == 4
        still = _Failing(slide, {256})
        stamp = out.stat().st_mtime_ns
        again = compute_features(still, _grid(), encoder, out)
        assert set(still.asked) == {256}, "only those that failed are read again"
        assert (len(again.failed_coords), out.stat().st_mtime_ns) == (4, stamp)
        mended = compute_features(slide, _grid(), encoder, out)
        whole = compute_features(slide, _grid(), FakeEncoder(), tmp_path / "y.h5")
    assert encoder.encoded == 20
    assert mended.attributes[FAILED] == 0
    np.testing.assert_array_equal(mended.features, whole.features)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made.tiff", "x.h5", "y.h5"]


def test_features_that_lack_too_many_patches_are_not_finished(tiff: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.h5"
    with open_slide(tiff) as slide:
        found = compute_features(_Failing(slide, {256}), _grid(), FakeEncoder(), out)
        with pytest.raises(FeatureError, match="4 of 20 patches could not be read"):
            check_finished(found, "made.tiff")
        with pytest.raises(FeatureError, match=r"x\.h5 are not finished"):
            features_of_slide(out, slide.info)
        with h5py.File(out, "a") as file:
            del file.attrs[FAILED]  # as version 0.1.0 wrote it
        assert len(features_of_slide(out, slide.info).grid) == 16


def test_a_cohort_names_features_that_are_not_finished(tiff: Path, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text(
        "case_id,slide_ids,age,sex,survival_months,event\nA,made,50,male,12,1\nB,,60,male,9,1\n",
        encoding="utf-8",
    )
    with open_slide(tiff) as slide:
        compute_features(_Failing(slide, {256}), _grid(), FakeEncoder(), tmp_path / "features" / "made.h5")
    assert read_cohort(tmp_path).features["A"], "those who only look are not kept from it"
    with pytest.raises(CohortError, match=r"patient A: The features of made\.h5 are not finished: 4 of 20"):
        read_cohort(tmp_path, open_features=True)


def test_features_of_another_slide_are_not_replaced(tiff: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = write_tiff(tmp_path / "b" / "made.tiff", tissue_image(1024, 1280, seed=5))
    out = tmp_path / "out" / "made.h5"
    line = ["features", "--out", str(out.parent)]
    assert cli.run([*line, str(tiff)]) == 0
    before = out.read_bytes()
    assert cli.run([*line, str(other)]) == 2
    assert out.read_bytes() == before
    assert cli.run([*line, str(tiff), str(other)]) == 2
    assert out.read_bytes() == before


def test_unfinished_features_of_another_slide_are_not_thrown_away(tiff: Path, tmp_path: Path) -> None:
    other, out = write_tiff(tmp_path / "b.tiff", tissue_image(1024, 1280, seed=5)), tmp_path / "x.h5"

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with open_slide(tiff) as slide, pytest.raises(KeyboardInterrupt):
        compute_features(slide, _grid(), FakeEncoder(), out, batch_size=4, progress=stop)
    rows = (tmp_path / "x.h5.partial" / "rows.bin").read_bytes()
    with open_slide(other) as slide, pytest.raises(OutputError, match="unfinished features of another slide"):
        compute_features(slide, _grid(), FakeEncoder(), out)
    assert (tmp_path / "x.h5.partial" / "rows.bin").read_bytes() == rows
    encoder = FakeEncoder()
    with open_slide(tiff) as slide:
        assert len(compute_features(slide, _grid(), encoder, out).grid) == 20
    assert encoder.encoded < 20


def test_rows_that_a_kill_has_left_beside_the_finished_file_go(tiff: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "x.h5", tmp_path / "x.h5.partial"
    with open_slide(tiff) as slide:
        made = compute_features(slide, _grid(), FakeEncoder(), out)
        partial.mkdir()
        (partial / "identity").write_text(str(made.attributes["identity"]))
        (partial / "rows.bin").write_bytes(b"rows")
        compute_features(slide, _grid(), FakeEncoder(), out)
        assert not partial.exists()
