"""What a researcher with access to UNI, CONCH and scFoundation does, from weights to a prediction, line by line.

The weights are random and small; their files are laid out as the published ones. Each line is one of README's.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from napari_survpgc.cli import run
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.encoders.catalog import _load
from napari_survpgc.core.encoders.gene import scfoundation
from napari_survpgc.core.encoders.image import conch as conch_image
from napari_survpgc.core.encoders.image.vision_transformer import build_transformer
from napari_survpgc.core.encoders.status import Readiness, encoder_statuses
from napari_survpgc.core.encoders.text import conch as conch_text
from tests.builders import (
    scfoundation_settings,
    scfoundation_state,
    tissue_image,
    write_scfoundation,
    write_tiff,
)
from tests.small_encoders import small_spec

GENES = tuple(f"GENE{i}" for i in range(40))
PATIENTS = 12


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_dir: Path) -> Iterator[Path]:
    """The files as a researcher has them after downloading."""
    monkeypatch.setenv("SURVPGC_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("SURVPGC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "downloads"
    for name in ("uni", "conch", "scfoundation"):
        (folder / name).mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(
        build_transformer(small_spec("uni", monkeypatch)).state_dict(), folder / "uni" / "pytorch_model.bin"
    )
    text_sizes = conch_text.ConchTextSizes(width=24, heads=2, layers=1, dim=8)
    image_sizes = conch_image.ConchImageSizes(
        image_px=32, width=24, layers=1, heads=2, pooler_heads=2, dim=16
    )
    monkeypatch.setattr(conch_text, "ConchTextSizes", lambda: text_sizes)
    monkeypatch.setattr(conch_image, "ConchImageSizes", lambda: image_sizes)
    text, image = conch_text.ConchTextTower(text_sizes), conch_image.ConchImageTower(image_sizes)
    for parameter in text.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    whole = {f"text.{k}": v for k, v in text.state_dict().items()}
    whole |= {f"visual.{k}": v for k, v in image.state_dict().items()} | {"logit_scale": torch.zeros(())}
    torch.save(whole, folder / "conch" / "pytorch_model.bin")
    tokenizer = (shared_dir / "conch" / conch_text.TOKENIZER_FILE).read_bytes()
    (folder / "conch" / conch_text.TOKENIZER_FILE).write_bytes(tokenizer)
    write_scfoundation(
        folder / "scfoundation" / "models.ckpt",
        scfoundation_settings(len(GENES)),
        scfoundation_state(len(GENES)),
    )
    gene_list = folder / "scfoundation" / "OS_scRNA_gene_index.19264.tsv"
    gene_list.write_text("gene_name\tindex\n" + "".join(f"{gene}\t{i}\n" for i, gene in enumerate(GENES)))
    monkeypatch.setattr(scfoundation, "GENE_LIST_SHA256", hashlib.sha256(gene_list.read_bytes()).hexdigest())
    _load.cache_clear()
    yield folder
    _load.cache_clear()


def _cohort(folder: Path) -> Path:
    """Write patients, counts and slides."""
    rng = np.random.default_rng(5)
    ids = [f"P{i:02d}" for i in range(PATIENTS)]
    (folder / "slides").mkdir(parents=True)
    for i, case in enumerate(ids):
        write_tiff(folder / "slides" / f"{case}.tiff", tissue_image(1024, 1024, seed=i))
    pd.DataFrame(
        {
            "case_id": ids, "slide_ids": ids, "age": rng.integers(40, 80, PATIENTS), "sex": "female",
            "stage": rng.choice(["Stage I", "Stage III"], PATIENTS), "staging_edition": "7th", "subtype": "",
            "race": "white", "survival_months": rng.uniform(2, 90, PATIENTS).round(1),
            "event": [i % 2 for i in range(PATIENTS)],
        }
    ).to_csv(folder / "patients.csv", index=False)  # fmt: skip
    counts = pd.DataFrame(rng.poisson(200, (PATIENTS, len(GENES))), columns=list(GENES))
    counts.insert(0, "case_id", ids)
    counts.to_csv(folder / "expression.csv.gz", index=False)
    return folder


@pytest.mark.parametrize("layout", ["survpgc", "trident"])
def test_from_downloads_to_a_prediction(
    downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture, layout: str
) -> None:
    cohort = _cohort(tmp_path / "cohort")
    slides = sorted(map(str, (cohort / "slides").glob("*.tiff")))
    line = ["features", *slides, "--out", str(cohort / "features"), "--encoder", "uni", "--format", layout]
    assert run(line) == 2
    assert "The weights of UNI are not on this machine" in capsys.readouterr().err

    for name in ("uni", "conch", "scfoundation"):
        files = [part for path in sorted((downloads / name).iterdir()) for part in ("--file", str(path))]
        assert run(["weights", name, *files]) == 0, capsys.readouterr().err
    wanted = [("image", "uni"), ("image", "conch"), ("text", "conch"), ("gene", "scfoundation")]
    assert {status.readiness for status in encoder_statuses(wanted)} == {Readiness.READY}

    assert run(line) == 0
    train = ["train", str(cohort), "--model", "survpgc", "--out", str(tmp_path / "run"), "--device", "cpu"]
    changes = (
        "text_encoder=conch",
        "gene_encoder=scfoundation",
        "epochs=1",
        "n_folds=2",
        "model_config.dim=16",
    )
    assert run([*train, *(part for change in changes for part in ("--set", change))]) == 0
    assert "40 of the encoder's 40 genes were found" in capsys.readouterr().out
    assert run(["bundle", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
    specs = load_bundle(tmp_path / "bundle").config.encoders
    assert {name: spec.id for name, spec in specs.items()} == {
        "pathology": "uni",
        "clinic": "conch",
        "genomic": "scfoundation",
    }
    assert (specs["pathology"].patch_px, specs["pathology"].mpp) == (256, 0.5)
    assert (specs["clinic"].dim, specs["genomic"].n_tokens, specs["genomic"].dim) == (8, 4, 8)

    new = write_tiff(tmp_path / "new.tiff", tissue_image(1024, 1024, seed=99))
    predict = [
        "predict", str(new), "--clinical", str(cohort / "patients.csv"), "--case", "P03", "--expression",
        str(cohort / "expression.csv.gz"), "--bundle", str(tmp_path / "bundle"), "--device", "cpu",
    ]  # fmt: skip
    assert run([*predict, "--out", str(tmp_path / "result")]) == 0
    out = capsys.readouterr().out
    assert "Risk: higher than" in out
    result = json.loads((tmp_path / "result" / "prediction.json").read_text())
    assert result["encoders"] == {
        "pathology": "uni",
        "clinic": "conch",
        "genomic": "scfoundation",
    }
    report = html.unescape((tmp_path / "result" / "report.html").read_text(encoding="utf-8"))
    assert "40 of the model's 40 genes were found" in report
    # The features of the cohort, in either layout, are taken as they are.
    own = next((cohort / "features").rglob("P03.h5"))
    predict[1] = slides[3]
    assert run([*predict, "--features", str(own), "--out", str(tmp_path / "again")]) == 0
    assert np.isfinite(json.loads((tmp_path / "again" / "prediction.json").read_text())["risk"])
