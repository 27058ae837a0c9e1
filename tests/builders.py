"""Small things to test with: a drawn slide file, a tiny bundle, a fake encoder."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.bundle.config import BundleConfig, EncoderSpec
from napari_survpgc.core.bundle.write import write_bundle
from napari_survpgc.core.encoders import catalog as encoders
from napari_survpgc.core.encoders.gene import scfoundation
from napari_survpgc.core.genomics.normalize import GeneReference
from napari_survpgc.core.models import build_model
from napari_survpgc.core.types import GeneSet
from napari_survpgc.resources import resource_path

GENES = ("TP53", "EGFR", "MKI67", "CD8A", "VEGFA")
GENE_SETS = (
    GeneSet("growth", "", ("TP53", "EGFR", "MKI67")),
    GeneSet("immune_hypoxia", "", ("CD8A", "VEGFA")),
)


def tissue_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return pink and purple noise in an ellipse on bright glass."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = ((x / width - 0.5) / 0.4) ** 2 + ((y / height - 0.5) / 0.4) ** 2 < 1
    image = np.full((height, width, 3), 244, np.uint8)
    stain = np.where(rng.random((height, width, 1)) < 0.25, [95, 60, 140], [220, 140, 180])
    image[inside] = np.clip(stain + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)[inside]
    return image


def write_tiff(
    path: Path, image: NDArray[np.uint8], mpp: float | None = 0.5, levels: int = 1, factor: int = 4
) -> Path:
    """Write a tiled, losslessly compressed TIFF, which OpenSlide opens as a generic slide."""
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            step = factor**level
            size = mpp * step if mpp else None
            tiff.write(
                np.ascontiguousarray(image[::step, ::step]),
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                subfiletype=1 if level else 0,
                metadata=None,
                **({"resolution": (1e4 / size, 1e4 / size), "resolutionunit": "CENTIMETER"} if size else {}),
            )
    return path


def tiny_bundle(
    out: Path, *, n_folds: int = 2, dim: int = 16, pathology_dim: int = 1280, seed: int = 0
) -> Bundle:
    """Write a bundle with random weights for EfficientNet-Lite0 features and MiniLM tokens."""
    torch.manual_seed(seed)
    sizes = {
        "n_bins": 4,
        "dim": dim,
        "pathology_dim": pathology_dim,
        "clinic_dim": 384,
        "gene_set_sizes": [len(s.genes) for s in GENE_SETS],
    }
    edges = (0.0, 10.0, 20.0, 40.0, 90.5)
    config = BundleConfig(
        name="tiny",
        model="survpgc_gene_sets",
        model_config=sizes,
        encoders={
            "pathology": EncoderSpec("efficientnet-lite0", pathology_dim, patch_px=256, mpp=0.5),
            "clinic": EncoderSpec("minilm", 384, 6),
            "genomic": EncoderSpec("gene-sets", 0, len(GENE_SETS)),
        },
        bin_edges_months=edges,
        fold_bin_edges_months=(edges,) * n_folds,
        endpoint="overall survival",
        cohort="made up",
        vocabulary={"sex": ("female", "male")},
        training={"protocol": "none"},
    )
    rng = np.random.default_rng(seed)
    reference = pd.DataFrame(
        {
            "risk": rng.uniform(-3, -1, 60),
            "survival_months": rng.uniform(1, 90, 60),
            "event": rng.integers(0, 2, 60),
        }
    )
    states = [build_model("survpgc_gene_sets", **sizes).state_dict() for _ in range(n_folds)]
    genes = GeneReference(GENES, np.full(len(GENES), 4.0), np.ones(len(GENES)))
    return write_bundle(
        out,
        config,
        states,
        reference,
        gene_reference=genes,
        gene_sets=GENE_SETS,
        templates=resource_path("templates", "default.toml"),
    )


def scfoundation_settings(n_genes: int, **encoder: Any) -> dict[str, Any]:
    """Return the settings of a tiny scFoundation, as its checkpoint states them."""
    return {
        "model": "mae_autobin", "seq_len": n_genes + 2, "bin_num": 5, "bin_alpha": 1.0, "n_class": 9,
        "mask_token_id": 102, "pad_token_id": 103, "rawcount": True,
        "encoder": {
            "hidden_dim": 8, "depth": 2, "heads": 2, "dim_head": 4, "module_type": "transformer",
            "norm_first": False, **encoder,
        },
        "decoder": {"hidden_dim": 4, "module_type": "performer"},
    }  # fmt: skip


def scfoundation_state(n_genes: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights for these settings, with some of the keys that only its decoder needs."""
    config = scfoundation.CellConfig(n_genes + 2, 8, 2, 2, 5, 1.0, 102, 103)
    generator = torch.Generator().manual_seed(seed)
    state = {
        key: torch.randn(value.shape, generator=generator) * 0.5
        for key, value in scfoundation.CellNetwork(config).state_dict().items()
    }
    unused = ("decoder.norm.weight", "decoder_embed.weight", "norm.weight", "to_final.bias")
    return {**state, **{key: torch.zeros(3) for key in unused}}


def write_scfoundation(path: Path, settings: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> Path:
    """Write a checkpoint in the layout of models.ckpt: three parts, prefixed keys, settings in two places."""
    settings = dict(settings)
    model = settings.pop("model")
    sizes = {name: settings.pop(name) for name in ("seq_len", "bin_num") if name in settings}
    # What the data set says wins over what the model says.
    config = {
        "model": model,
        "model_config": {model: {**settings, "seq_len": 7}},
        "dataset_config": {"rnaseq": sizes},
    }
    cell = {"config": config, "state_dict": {f"model.{key}": value for key, value in state.items()}}
    torch.save({"gene": {}, "cell": cell, "rde": {}}, path)
    return path


def install_scfoundation(folder: Path, genes: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a tiny scFoundation for these genes where its weights are looked for; return the folder of its files."""
    place = folder / "weights" / "scfoundation"
    place.mkdir(parents=True)
    write_scfoundation(
        place / "models.ckpt", scfoundation_settings(len(genes)), scfoundation_state(len(genes))
    )
    gene_list = place / "OS_scRNA_gene_index.19264.tsv"
    rows = [f"{gene}\t{i}" for i, gene in enumerate(genes)]
    gene_list.write_text("\n".join(["gene_name\tindex", *rows]) + "\n")
    monkeypatch.setenv("SURVPGC_WEIGHTS", str(folder / "weights"))
    monkeypatch.setenv("SURVPGC_CACHE", str(folder / "cache"))
    monkeypatch.setattr(scfoundation, "GENE_LIST_SHA256", hashlib.sha256(gene_list.read_bytes()).hexdigest())
    # An encoder is loaded once a process: these weights must not stay for the next test.
    monkeypatch.setattr(encoders, "_load", functools.cache(encoders._load.__wrapped__))
    return place
