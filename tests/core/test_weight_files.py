"""Getting weights: from a server that answers as the hub does, or from the user's own files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from napari_survpgc.cli import run
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.catalog import _load, load_image_encoder
from napari_survpgc.core.encoders.image.vision_transformer import (
    build_transformer,
    check_file,
    load_transformer,
)
from napari_survpgc.core.encoders.status import Readiness, encoder_statuses
from napari_survpgc.core.encoders.weight_files import download_weights, fetch_weights, keep_files, match_files
from napari_survpgc.core.encoders.weights.weights import WeightSource, find_weights, weights_folder
from napari_survpgc.core.errors import CancelledError, EncoderError
from napari_survpgc.core.types import EncoderKind
from tests.hub_server import Hub, hub_server
from tests.small_encoders import small_spec

SOURCE = WeightSource(
    EncoderCard("thing", EncoderKind.IMAGE, "Thing", "for tests"),
    files=("pytorch_model.bin",),
    repository="lab/thing",
    also={"pytorch_model.bin": "model.safetensors"},
)
WEIGHTS = bytes(range(256)) * 12_000  # 3 MB


pytestmark = pytest.mark.usefixtures("own_weights_folder")


def _use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT would have done when the hub's library was imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server() as server:
        _use(server.endpoint, monkeypatch)
        server.files["lab/thing/pytorch_model.bin"] = WEIGHTS
        yield server


def test_a_file_is_fetched_once_and_progress_is_told(hub: Hub) -> None:
    steps: list[tuple[str, int, int]] = []
    (path,) = download_weights(SOURCE, lambda *step: steps.append(step))
    assert path.read_bytes() == WEIGHTS
    assert steps[-1] == ("download pytorch_model.bin", 3, 3)
    before = len(hub.asked)
    assert download_weights(SOURCE) == (path,)
    assert len(hub.asked) == before  # what is here is not asked for again
    assert find_weights(SOURCE) == (path,)


def test_another_name_of_the_same_file_is_taken(hub: Hub) -> None:
    hub.files["lab/thing/model.safetensors"] = hub.files.pop("lab/thing/pytorch_model.bin")
    (path,) = download_weights(SOURCE)
    assert path.name == "model.safetensors"
    assert find_weights(SOURCE) == (path,)


@pytest.mark.parametrize("answer", ["gated", "private"])
def test_without_access_it_says_where_to_ask(hub: Hub, answer: str) -> None:
    getattr(hub, answer).add("lab/thing")
    with pytest.raises(EncoderError, match="The hub gives no access to Thing") as caught:
        download_weights(SOURCE)
    assert "https://huggingface.co/lab/thing (for tests), log in with 'hf auth login'" in str(caught.value)


def test_a_file_that_the_hub_lacks_is_named(hub: Hub) -> None:
    hub.files = {"lab/thing/README.md": b"x"}
    with pytest.raises(EncoderError, match=r"Thing has no file model\.safetensors on the hub"):
        download_weights(SOURCE)


def test_another_hash_than_stated_is_refused_and_not_kept(hub: Hub) -> None:
    hub.states["lab/thing/pytorch_model.bin"] = "0" * 64
    with pytest.raises(EncoderError, match=r"arrived damaged.*Try again with 'survpgc weights thing'"):
        download_weights(SOURCE)
    del hub.states["lab/thing/pytorch_model.bin"]
    (path,) = download_weights(SOURCE)
    assert path.read_bytes() == WEIGHTS


def test_a_file_altered_in_the_cache_is_noticed_and_replaced_on_request(hub: Hub) -> None:
    (path,) = download_weights(SOURCE)
    blob = path.resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"?")
    with pytest.raises(EncoderError, match=r"damaged.*another SHA-256.*Delete"):
        find_weights(SOURCE)
    assert download_weights(SOURCE)[0].read_bytes() == WEIGHTS


def test_a_download_that_the_user_stops_leaves_nothing_behind(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 1:
            raise CancelledError

    with pytest.raises(CancelledError):
        download_weights(SOURCE, stop)
    with pytest.raises(EncoderError, match="are not on this machine"):
        find_weights(SOURCE)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert download_weights(SOURCE)[0].read_bytes() == WEIGHTS


def test_a_connection_that_breaks_goes_on_by_itself_or_ends_in_a_sentence(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.sends = [1_000_000]
    assert download_weights(SOURCE)[0].read_bytes() == WEIGHTS
    hub.files["lab/other/pytorch_model.bin"] = WEIGHTS
    other = WeightSource(
        EncoderCard("other", EncoderKind.IMAGE, "Other", "for tests"), ("pytorch_model.bin",), "lab/other"
    )
    hub.sends = [0] * 50
    with pytest.raises(EncoderError, match=r"Other could not be downloaded.*Try again, or put the file into"):
        download_weights(other)
    with pytest.raises(EncoderError, match="are not on this machine"):
        find_weights(other)


def test_no_network_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    _use("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("tried again and again"))
    with pytest.raises(EncoderError, match=r"the hub cannot be reached.*put the file into"):
        download_weights(SOURCE)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=r"the hub cannot be reached.*HF_HUB_OFFLINE"):
        download_weights(SOURCE)


def test_nothing_is_asked_of_the_hub_unless_the_user_says_so(hub: Hub) -> None:
    for encoder_id in ("uni", "hf:lab/thing", "timm:resnet18"):
        with pytest.raises(EncoderError, match="are not on this machine"):
            load_image_encoder(encoder_id, "cpu")
    encoder_statuses(device="cpu")
    assert run(["weights"]) == 0
    assert hub.asked == []


def _small_file(spec: object) -> bytes:
    stream = io.BytesIO()
    torch.save(build_transformer(spec).state_dict(), stream)  # type: ignore[arg-type]
    return stream.getvalue()


def test_the_command_fetches_with_the_users_access_and_never_shows_the_token(
    hub: Hub, tmp_path: Path
) -> None:
    """In a process of its own, as a user runs it; UNI's file is not real, which only loading would tell."""
    hub.files["MahmoodLab/UNI/pytorch_model.bin"] = WEIGHTS
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_secretsecretsecret",
        "HF_HUB_OFFLINE": "0",
    }
    line = [sys.executable, "-m", "napari_survpgc.cli", "weights", "uni"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "UNI: CC BY-NC-ND 4.0" in done.stdout
    assert "image: uni, ready" in done.stdout
    assert hub.tokens == {"Bearer hf_secretsecretsecret"}
    assert "secret" not in done.stdout + done.stderr
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.read_bytes() == WEIGHTS for path in kept)
    assert not any(b"secret" in path.read_bytes() for path in kept)


# --- the user's own files -----------------------------------------------------------------------------------


def test_a_file_is_checked_before_it_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "whatever.bin"
    torch.save({"norm.weight": torch.zeros(3)}, path)
    assert run(["weights", "uni", "--file", str(path)]) == 2
    assert "not the weights of UNI: missing cls_token" in capsys.readouterr().err
    assert not weights_folder().exists()
    path.write_text("<html>log in</html>")
    assert run(["weights", "uni", "--file", str(path)]) == 2
    assert "whatever.bin cannot be read as weights" in capsys.readouterr().err
    assert run(["weights", "uni", "--file", str(tmp_path / "none.bin")]) == 2
    assert "There is no file" in capsys.readouterr().err
    assert run(["weights", "minilm", "--file", str(path)]) == 2
    assert "comes along" in capsys.readouterr().err
    assert run(["weights", "--file", str(path)]) == 2


def test_the_right_file_is_kept_and_the_encoder_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    spec = small_spec("uni", monkeypatch)
    path = tmp_path / "my uni.pth"
    path.write_bytes(_small_file(spec))
    assert run(["weights", "uni", "--file", str(path)]) == 0
    assert "image: uni, ready (CC BY-NC-ND 4.0" in capsys.readouterr().out
    assert load_image_encoder("uni", "cpu").dim == spec.card.dim
    assert run(["weights", "uni", "--file", str(weights_folder() / "uni" / "pytorch_model.bin")]) == 0
    check_file(spec, "pytorch_model.bin", path)
    assert load_transformer(spec, "cpu").id == "uni"


def test_files_are_told_apart_by_name_and_kind(tmp_path: Path) -> None:
    tokenizer = "conch_byte_level_bpe_uncased.json"
    source = WeightSource(
        SOURCE.card, ("pytorch_model.bin", tokenizer, "config.json"), None,
        optional=("1_Pooling/config.json",),
    )  # fmt: skip
    given = [
        Path("a/weights.pt"),
        Path(f"a/{tokenizer}"),
        Path("m/config.json"),
        Path("m/1_Pooling/config.json"),
    ]
    assert match_files([source], given) == {
        "pytorch_model.bin": given[0],
        tokenizer: given[1],
        "config.json": given[2],
        "1_Pooling/config.json": given[3],
    }
    with pytest.raises(EncoderError, match="could be none or several"):
        match_files([source], [Path("other.json")])
    with pytest.raises(EncoderError, match="could be none or several"):
        match_files([source], [Path("a.bin"), Path("b.bin")])


def test_a_sentence_encoder_of_the_hub_is_fetched_as_one(hub: Hub) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        hub.files[f"lab/words/{name}"] = b"{}"
    with pytest.raises(EncoderError, match="has no file preprocessor_config"):
        fetch_weights("hf:lab/words")  # an image encoder, unless it is said
    paths = fetch_weights("hf:lab/words", "text")
    assert [path.name for path in paths] == ["config.json", "tokenizer.json", "model.safetensors"]
    assert encoder_statuses([("text", "hf:lab/words")])[0].readiness is Readiness.READY


# --- what each encoder needs --------------------------------------------------------------------------------


def test_statuses_say_what_is_missing_and_where_to_ask(shared_dir: Path) -> None:
    found = {(s.kind, s.encoder_id): s for s in encoder_statuses()}
    assert found["image", "efficientnet-lite0"].readiness is Readiness.READY
    uni = found["image", "uni"]
    assert uni.readiness is Readiness.NEEDS_ACCESS
    assert uni.page in uni.next_step
    assert "academic" in uni.licence
    assert found["image", "phikon-v2"].readiness is Readiness.NEEDS_FILE
    assert found["gene", "scfoundation"].readiness is Readiness.NEEDS_FILE
    assert not found["gene", "scfoundation"].on_hub
    # With CONCH's weights there, its tokenizer is a file that anyone may take.
    path = weights_folder() / "conch" / "pytorch_model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    (text,) = encoder_statuses([("text", "conch")])
    assert text.readiness is Readiness.NEEDS_FILE
    assert "Get conch_byte_level_bpe_uncased.json from https://github.com" in text.next_step
    keep_files("conch", [shared_dir / "conch" / "conch_byte_level_bpe_uncased.json"])
    assert encoder_statuses([("text", "conch")])[0].readiness is Readiness.READY


def test_speed_is_estimated_for_all_that_are_not_here() -> None:
    for status in encoder_statuses(device="cpu"):
        if not status.embedded:
            assert status.speed.startswith("about "), status
    (lite,) = encoder_statuses([("image", "efficientnet-lite0")], device="cpu")
    assert lite.speed.endswith("patches a second, measured")


def test_doctor_needs_only_what_comes_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "MISSING" not in text
    assert "image: uni, needs access, about" in text
    monkeypatch.setattr("napari_survpgc.core.encoders.text.minilm._SHA256", "0" * 64)
    _load.cache_clear()
    assert run(["doctor"]) == 2
    assert "MISSING text: The weights" in capsys.readouterr().out


def test_a_bundles_own_encoders_have_a_status_too() -> None:
    wanted = [("gene", "gene-sets"), ("image", "hf:lab/thing"), ("image", "nothing")]
    own, hub_id, unknown = encoder_statuses(wanted)
    assert own.readiness is Readiness.READY
    assert hub_id.readiness is Readiness.NEEDS_FILE
    assert "There is no image encoder named nothing" in unknown.next_step
