"""Features are computed once, survive a kill, and foreign files are read as they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from napari_survpgc.core.encoders.base import check_sha256, resolve_device
from napari_survpgc.core.encoders.catalog import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    load_image_encoder,
    load_text_encoder,
    weight_sources,
)
from napari_survpgc.core.encoders.image.efficientnet_lite0 import (
    EfficientNetLite0,
    build_network,
    fold_batch_norm,
)
from napari_survpgc.core.encoders.image.replicated import ReplicatedEncoder
from napari_survpgc.core.errors import CancelledError, EncoderError, FeatureError, OutputError, SlideError
from napari_survpgc.core.features.compute import compute_features
from napari_survpgc.core.features.feature_file import (
    check_within,
    read_features,
    summarize_features,
    write_features,
)
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.types import PatchFeatures, PatchGrid
from tests.builders import tissue_image, write_tiff


class FakeEncoder:
    """Mean color and standard deviation of each patch; counts what it encodes."""

    id, dim, patch_px, mpp, input_px, resampling, weights = "fake", 6, 256, 0.5, 32, "bilinear", ""
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.encoded = 0
        self._lock = threading.Lock()

    def encode(self, patches: np.ndarray) -> np.ndarray:
        with self._lock:  # batches are encoded side by side
            self.encoded += len(patches)
        pixels = patches.astype(np.float32)
        return np.concatenate([pixels.mean((1, 2)), pixels.std((1, 2))], 1)


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("f") / "made.tiff", tissue_image(1024, 1280))


def _grid() -> PatchGrid:
    y, x = np.mgrid[0:1024:256, 0:1280:256]
    return PatchGrid(np.stack([x.ravel(), y.ravel()], 1).astype(np.int32), 256, 0.5, 256.0, (1280, 1024))


def test_features_have_one_row_a_patch_in_the_grids_order(tiff: Path, tmp_path: Path) -> None:
    encoder, grid = FakeEncoder(), _grid()
    with open_slide(tiff) as slide:
        result = compute_features(slide, grid, encoder, tmp_path / "x.h5", batch_size=3)
        expected = encoder.encode(
            np.stack([slide.read_square(int(x), int(y), 256.0, 32) for x, y in grid.coords])
        )
        np.testing.assert_array_equal(result.features, expected)
        before = encoder.encoded
        again = compute_features(slide, grid, encoder, tmp_path / "x.h5")
    assert encoder.encoded == before, "a finished file is read, not made again"
    np.testing.assert_array_equal(again.features, result.features)
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_a_stopped_run_goes_on_without_repeating_a_patch(tiff: Path, tmp_path: Path) -> None:
    encoder, grid = FakeEncoder(), _grid()

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 8:
            raise CancelledError

    with open_slide(tiff) as slide:
        with pytest.raises(CancelledError):
            compute_features(slide, grid, encoder, tmp_path / "x.h5", batch_size=4, progress=stop)
        assert not (tmp_path / "x.h5").exists()
        kept = (tmp_path / "x.h5.partial" / "rows.bin").stat().st_size // (5 + 4 * encoder.dim)
        assert encoder.encoded == kept >= 8, "what was encoded is kept"
        # A record that was cut in the middle is dropped.
        with (tmp_path / "x.h5.partial" / "rows.bin").open("ab") as stream:
            stream.write(b"half a record")
        result = compute_features(slide, grid, encoder, tmp_path / "x.h5", batch_size=4)
    assert encoder.encoded == len(grid)
    assert len(result.grid) == len(grid)
    assert not (tmp_path / "x.h5.partial").exists()


def test_a_killed_process_loses_nothing_that_was_finished(tiff: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.core.test_features import FakeEncoder, _grid\n"
        "from napari_survpgc.core.features import compute_features; from napari_survpgc.core.slide import open_slide\n"
        "class Slow(FakeEncoder):\n"
        "    def encode(self, patches):\n"
        "        time.sleep(0.4); return super().encode(patches)\n"
        "with open_slide(sys.argv[1]) as slide:\n"
        "    compute_features(slide, _grid(), Slow(), Path(sys.argv[2]), batch_size=2)\n"
    )
    out = tmp_path / "x.h5"
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(tiff), str(out)], cwd=root)
    rows = tmp_path / "x.h5.partial" / "rows.bin"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (rows.is_file() and rows.stat().st_size > 0):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = rows.stat().st_size // (5 + 4 * 6)
    assert kept >= 2
    assert not out.exists()
    encoder = FakeEncoder()
    with open_slide(tiff) as slide:
        compute_features(slide, _grid(), encoder, out)
    assert encoder.encoded == len(_grid()) - kept


def test_rows_of_another_grid_are_not_taken_over(tiff: Path, tmp_path: Path) -> None:
    grid = _grid()
    fewer = PatchGrid(grid.coords[:5], 256, 0.5, 256.0, grid.slide_size)
    with open_slide(tiff) as slide:
        compute_features(slide, fewer, FakeEncoder(), tmp_path / "x.h5")
        result = compute_features(slide, grid, FakeEncoder(), tmp_path / "x.h5")
    assert len(result.grid) == len(grid)


def test_two_processes_do_not_write_the_same_file(tiff: Path, tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("the lock is tested with flock")
    import fcntl

    (tmp_path / "x.h5.partial").mkdir()
    with (tmp_path / "x.h5.partial" / "lock").open("w") as other, open_slide(tiff) as slide:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match=r"Another process is computing x\.h5"):
            compute_features(slide, _grid(), FakeEncoder(), tmp_path / "x.h5")


class _Damaged:
    """A slide whose patches at x = 256 cannot be read."""

    def __init__(self, slide: object, all_bad: bool = False) -> None:
        self.slide, self.all_bad = slide, all_bad
        self.info = slide.info  # type: ignore[attr-defined]

    def read_square(self, x: int, y: int, size: float, px: int, resampling: str = "bilinear") -> np.ndarray:
        if x == 256 or self.all_bad:
            raise SlideError("damaged", "copy it again")
        return self.slide.read_square(x, y, size, px)  # type: ignore[attr-defined]


def test_a_corrupt_tile_is_marked_and_skipped(tiff: Path, tmp_path: Path) -> None:
    with open_slide(tiff) as slide:
        compute_features(_Damaged(slide), _grid(), FakeEncoder(), tmp_path / "x.h5")
        result = read_features(tmp_path / "x.h5")
        assert len(result.grid) == 16
        assert set(result.failed_coords[:, 0]) == {256}
        assert 256 not in result.grid.coords[:, 0]
        with pytest.raises(FeatureError, match="None of the 20 patches"):
            compute_features(_Damaged(slide, all_bad=True), _grid(), FakeEncoder(), tmp_path / "y.h5")
    assert not (tmp_path / "y.h5").exists()


def test_a_row_that_is_not_finite_counts_as_failed(tiff: Path, tmp_path: Path) -> None:
    class Overflowing(FakeEncoder):
        def encode(self, patches: np.ndarray) -> np.ndarray:
            rows = super().encode(patches)
            rows[0, 0] = np.inf
            return rows

    with open_slide(tiff) as slide:
        result = compute_features(slide, _grid(), Overflowing(), tmp_path / "x.h5", batch_size=5)
    assert len(result.failed_coords) == 4
    assert np.isfinite(result.features).all()


def test_memory_of_a_gpu_that_does_not_suffice_halves_the_batch(tiff: Path, tmp_path: Path) -> None:
    class Small(FakeEncoder):
        def encode(self, patches: np.ndarray) -> np.ndarray:
            if len(patches) > 3:
                raise torch.OutOfMemoryError
            return super().encode(patches)

    with open_slide(tiff) as slide:
        result = compute_features(slide, _grid(), Small(), tmp_path / "x.h5", batch_size=16)
    assert len(result.grid) == 20


# --- files --------------------------------------------------------------------------------------------------


def _foreign(path: Path, features: np.ndarray, coords: np.ndarray, **attributes: object) -> Path:
    with h5py.File(path, "w") as file:
        file["features"] = features
        file["coords"] = coords
        for key, value in attributes.items():
            file["coords"].attrs[key] = value
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("leading", [False, True])
def test_clam_and_trident_files_are_read_as_they_are(tmp_path: Path, dtype: type, leading: bool) -> None:
    rows, coords = np.arange(12, dtype=dtype).reshape(3, 4), np.array([[0, 0], [512, 0], [0, 512]])
    clam = _foreign(tmp_path / "clam.h5", rows[None] if leading else rows, coords.astype(np.int32))
    read = read_features(clam)
    np.testing.assert_array_equal(read.features, rows.astype(np.float32))
    assert read.encoder is None
    assert np.isnan(read.grid.patch_px_level0), "nothing is guessed"
    trident = _foreign(
        tmp_path / "t.h5", rows, coords, patch_size=256, patch_size_level0=512, level0_width=4000
    )
    with h5py.File(trident, "a") as file:
        file["features"].attrs["encoder"] = "uni_v1"
    read = read_features(trident)
    assert read.grid.patch_px_level0 == 512
    assert read.encoder == "uni", "TRIDENT's name of an encoder is ours"


def test_the_patch_size_of_clam_comes_from_its_patches_file(tmp_path: Path) -> None:
    coords = np.array([[0, 0], [512, 0]])
    patches = tmp_path / "patches.h5"
    with h5py.File(patches, "w") as file:
        file["coords"] = coords
        file["coords"].attrs.update({"patch_size": 256, "downsample": np.array([2.0, 2.0])})
    torch.save(torch.ones(2, 4), tmp_path / "x.pt")
    read = read_features(tmp_path / "x.pt", coords=patches)
    assert read.features.shape == (2, 4)
    assert read.grid.patch_px_level0 == 512
    with pytest.raises(FeatureError, match="without coordinates"):
        read_features(tmp_path / "x.pt")


def test_clams_folders_are_followed_to_the_coordinates(tmp_path: Path) -> None:
    """pt_files/<slide>.pt, h5_files/<slide>.h5 without patch size, patches/<slide>.h5 with it."""
    coords = np.array([[512, 0], [0, 512], [1024, 1024]])
    for folder in ("features/pt_files", "features/h5_files", "patches"):
        (tmp_path / folder).mkdir(parents=True)
    pt = tmp_path / "features" / "pt_files" / "S1.pt"
    torch.save(torch.ones(3, 4), pt)
    h5 = _foreign(tmp_path / "features" / "h5_files" / "S1.h5", np.ones((3, 4), "f4"), coords)
    read = read_features(pt)
    np.testing.assert_array_equal(read.grid.coords, coords)
    assert np.isnan(read.grid.patch_px_level0)
    with h5py.File(tmp_path / "patches" / "S1.h5", "w") as file:
        file["coords"] = np.concatenate([coords, coords])  # of a later, finer run
        file["coords"].attrs.update({"patch_size": 256, "downsample": np.array([2.0, 2.0])})
    read = read_features(h5)
    np.testing.assert_array_equal(read.grid.coords, coords)
    assert read.grid.patch_px_level0 == 512


def test_stamps_micrometres_become_pixels_of_the_slide(tmp_path: Path) -> None:
    path = tmp_path / "S1.h5"
    with h5py.File(path, "w") as file:
        file["feats"] = np.ones((2, 4), np.float16)
        file["coords"] = np.array([[0.0, 0.0], [256.0, 512.0]])
        file.attrs.update(
            {
                "stamp_version": "2.3.0",
                "unit": "um",
                "tile_size_um": 256.0,
                "tile_size_px": 224,
                "extractor": "mahmood-uni-1a2b3c4d5e",
            }
        )
    read = read_features(path, slide_mpp=0.25)
    np.testing.assert_array_equal(read.grid.coords, [[0, 0], [1024, 2048]])
    assert read.grid.patch_px_level0 == 1024
    assert read.grid.mpp == pytest.approx(256 / 224)
    assert read.encoder == "uni"
    with pytest.raises(FeatureError, match="pixel size of its slide is not known"):
        read_features(path)
    assert summarize_features(path).width == 4
    with h5py.File(path, "a") as file:
        del file.attrs["unit"]
    with pytest.raises(FeatureError, match="old version of STAMP"):
        read_features(path, slide_mpp=0.25)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_text("words"), "not an HDF5 file"),
        (lambda p: _foreign(p, np.ones((3, 4), "f4"), np.zeros((2, 2), int)), "3 feature rows but 2"),
        (lambda p: _foreign(p, np.full((2, 4), np.nan, "f4"), np.zeros((2, 2), int)), "not numbers"),
        (lambda p: _foreign(p, np.ones((2, 4), "f4"), np.array([[0, 0], [-5, 0]])), "cannot be pixels"),
        (lambda p: _foreign(p, np.ones(4, "f4"), np.zeros((4, 2), int)), "not a table"),
        (lambda p: _foreign(p, np.ones((0, 4), "f4"), np.zeros((0, 2), int)), "holds no patch"),
        (lambda p: _foreign(p, np.ones((2, 4), int), np.zeros((2, 2), int)), "not a table"),
    ],
)
def test_damaged_feature_files_are_refused(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "x.h5")  # type: ignore[operator]
    with pytest.raises(FeatureError, match=message):
        read_features(tmp_path / "x.h5")


def test_links_to_other_files_and_pickles_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _foreign(tmp_path / "other.h5", np.ones((2, 4), "f4"), np.zeros((2, 2), int))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/features")
        file["coords"] = np.zeros((2, 2), int)
    with pytest.raises(FeatureError, match="points to another file"):
        read_features(tmp_path / "x.h5")
    monkeypatch.chdir(tmp_path)
    torch.save({"features": _Evil()}, tmp_path / "evil.pt")
    with pytest.raises(FeatureError, match="not a tensor file"):
        read_features(tmp_path / "evil.pt", coords=tmp_path / "other.h5")
    assert not (tmp_path / "owned").exists()


def test_features_of_another_slide_are_noticed(tiff: Path, tmp_path: Path) -> None:
    grid = PatchGrid(np.array([[0, 0], [1300, 0]], np.int32), 256, 0.5, 256.0)
    bag = PatchFeatures(np.ones((2, 4), np.float32), grid, None, np.zeros((0, 2), np.int32))
    with (
        open_slide(tiff) as slide,
        pytest.raises(FeatureError, match=r"1 of 2 patches .* outside made\.tiff"),
    ):
        check_within(bag, slide.info)
    write_features(bag, tmp_path / "x.h5")
    assert read_features(tmp_path / "x.h5").grid.patch_px_level0 == 256.0


# --- encoders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder_id", [i for i in sorted(IMAGE_ENCODERS) if not weight_sources(i)])
def test_every_image_encoder_keeps_its_promises(encoder_id: str) -> None:
    encoder = load_image_encoder(encoder_id, "cpu")
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (5, encoder.input_px, encoder.input_px, 3), dtype=np.uint8)
    rows = encoder.encode(patches)
    assert rows.shape == (5, encoder.dim)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, encoder.encode(patches))
    np.testing.assert_allclose(
        rows[2:3], encoder.encode(patches[2:3]), rtol=0, atol=2e-2 * np.abs(rows).max()
    )
    assert encoder.id == encoder_id


@pytest.mark.parametrize("encoder_id", [i for i in sorted(TEXT_ENCODERS) if not weight_sources(i)])
def test_every_text_encoder_keeps_its_promises(encoder_id: str) -> None:
    encoder = load_text_encoder(encoder_id, "cpu")
    rows = encoder.encode(["Stage I cancer.", "Stage IV cancer.", "Stage I cancer."])
    assert rows.shape == (3, encoder.dim)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert np.abs(rows[0] - rows[1]).max() > 1e-3
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_no_tensor_stays_behind_on_the_cpu() -> None:
    encoder = EfficientNetLite0(build_network(), torch.device("meta"), torch.float32)
    out = encoder.forward(torch.empty(2, 224, 224, 3, dtype=torch.uint8, device="meta"))
    assert out.shape == (2, 1280)
    assert out.device.type == "meta"


def test_folding_changes_nothing_and_bf16_little() -> None:
    import timm

    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(fold_batch_norm(plain)(x), plain(x), rtol=1e-3, atol=1e-4)
        network = build_network()
        image = torch.from_numpy(tissue_image(224, 224))[None].permute(0, 3, 1, 2) / 127.5 - 1
        full, half = network(image), network.to(torch.bfloat16)(image.to(torch.bfloat16)).float()
    assert torch.cosine_similarity(full, half).item() > 0.99


def test_unknown_encoders_devices_and_altered_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"no image encoder named uni7.*efficientnet-lite0"):
        load_image_encoder("uni7")
    with pytest.raises(EncoderError, match="device"):
        resolve_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(EncoderError, match="cuda is not available"):
            resolve_device("cuda")
    (tmp_path / "w.bin").write_bytes(b"altered")
    with pytest.raises(EncoderError, match=r"w\.bin are not the expected"):
        check_sha256(tmp_path / "w.bin", "0" * 64, "reinstall")


class _GPU(FakeEncoder):
    """Stands in for an encoder on a GPU whose memory holds two patches."""

    device = torch.device("cuda")

    def __init__(self, holds: int = 1000) -> None:
        super().__init__()
        self.holds, self.sizes = holds, []
        self.barrier: threading.Barrier | None = None

    def encode(self, patches: np.ndarray) -> np.ndarray:
        self.sizes.append(len(patches))
        if self.barrier is not None:
            self.barrier.wait(timeout=30)
        if len(patches) > self.holds:
            raise torch.OutOfMemoryError
        return super().encode(patches)


def test_one_thread_drives_a_gpu_from_slide_to_slide(tiff: Path, tmp_path: Path) -> None:
    """CuDNN keeps its plans by thread; a new thread for each slide made them anew, 1.4 s each on an H200."""

    class Watched(_GPU):
        threads: set[threading.Thread]

        def encode(self, patches: np.ndarray) -> np.ndarray:
            self.threads.add(threading.current_thread())
            return super().encode(patches)

    encoder = Watched()
    encoder.threads = set()  # of threads, not of their numbers, which are used again
    with open_slide(tiff) as slide:
        for number in range(3):
            compute_features(slide, _grid(), encoder, tmp_path / f"{number}.h5")
    assert len(encoder.threads) == 1


def test_a_batch_that_the_gpu_refused_once_is_not_tried_again(tiff: Path, tmp_path: Path) -> None:
    encoder = _GPU(holds=2)
    with open_slide(tiff) as slide:
        result = compute_features(slide, _grid(), encoder, tmp_path / "x.h5", batch_size=8)
        expected = compute_features(slide, _grid(), FakeEncoder(), tmp_path / "y.h5")
    np.testing.assert_array_equal(result.features, expected.features)
    assert encoder.sizes == [8, 4, *[2] * 10]


def test_two_gpus_encode_at_the_same_time(tiff: Path, tmp_path: Path) -> None:
    """Each waits until the other has begun; one after the other would time out."""
    barrier = threading.Barrier(2)
    pair = [_GPU(), _GPU()]
    for encoder in pair:
        encoder.barrier = barrier
    with open_slide(tiff) as slide:
        result = compute_features(slide, _grid(), ReplicatedEncoder(pair), tmp_path / "x.h5", batch_size=5)
        expected = compute_features(slide, _grid(), FakeEncoder(), tmp_path / "y.h5")
    np.testing.assert_array_equal(result.features, expected.features)
    assert [len(encoder.sizes) for encoder in pair] == [2, 2]
