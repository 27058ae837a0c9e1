"""scFoundation: what it is shown, which genes it finds, which files it takes, and that a whole transcriptome fits."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_survpgc.core.encoders.base import ExpressionEncoder, GeneEncoder
from napari_survpgc.core.encoders.catalog import load_gene_encoder
from napari_survpgc.core.encoders.gene import scfoundation
from napari_survpgc.core.encoders.gene.cell_network import CellConfig, CellNetwork
from napari_survpgc.core.encoders.gene.scfoundation import (
    SCFoundation,
    gather,
    input_row,
    load,
    pool_all,
)
from napari_survpgc.core.errors import EncoderError, ExpressionError
from napari_survpgc.core.types import GeneValues
from tests.builders import (
    install_scfoundation,
    scfoundation_settings,
    scfoundation_state,
    write_scfoundation,
)

GENES = ("TP53", "CD274", "ATP5A1", "H2AC6", "EGFR", *(f"GENE{i}" for i in range(15)))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install_scfoundation(tmp_path, GENES, monkeypatch)


@pytest.fixture
def encoder(files: Path) -> SCFoundation:
    return load("cpu")


def _sample(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 900, len(GENES)).astype(np.float32)


# --- what the network is shown ------------------------------------------------------------------------------


def test_a_bulk_sample_is_scaled_to_the_reference_total_and_its_logarithms_are_summed() -> None:
    row = input_row(np.array([1.0, 3.0, 0.0]), total=400)
    x = np.log1p([100, 300, 0])
    np.testing.assert_allclose(row, [*x, math.log10(x.sum()), math.log10(x.sum())])
    np.testing.assert_allclose(input_row(np.array([10.0, 30.0, 0.0]), total=400), row)
    np.testing.assert_allclose(input_row(np.array([1.0, 3.0, 0.0]))[:3], np.log1p([1, 3, 0]))


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ExpressionError, match="None of scFoundation's genes is expressed"):
        input_row(np.zeros(3))


def test_zeros_are_no_tokens_and_neither_are_t_and_s_of_next_to_nothing() -> None:
    values, places = gather(input_row(np.array([0.0, 50.0, 0.0, 70.0])))
    assert places.tolist() == [1, 3, 4, 5]
    assert values.dtype == np.float32
    assert gather(input_row(np.array([0.0, 0.4, 0.1])))[1].tolist() == [1, 2]


def test_the_four_tokens_are_s_t_maximum_and_mean() -> None:
    tokens = torch.tensor([[1.0, 9.0], [5.0, 3.0], [7.0, 7.0], [8.0, 8.0]])
    assert pool_all(tokens).tolist() == [[8, 8], [7, 7], [5, 9], [3, 6]]


# --- genes by name ------------------------------------------------------------------------------------------


def test_genes_are_found_by_symbol_then_by_current_symbol(encoder: SCFoundation) -> None:
    given = ["GENE3", "PDL1", "ATP5F1A", "NOVEL1", "HIST1H2AC", "H2AC6", "TP53"]
    match = encoder.align(given)
    pairs = {given[i]: GENES[j] for i, j in zip(match.source, match.target, strict=True)}
    # H2AC6 is there under its own name, so that the former one does not take its place.
    assert pairs == {"GENE3": "GENE3", "PDL1": "CD274", "ATP5F1A": "ATP5A1", "H2AC6": "H2AC6", "TP53": "TP53"}
    assert match.renamed == (("PDL1", "CD274"), ("ATP5F1A", "ATP5A1"))
    assert match.dropped == ("NOVEL1", "HIST1H2AC")
    assert len(match.missing) == 15
    assert match.describe() == (
        "5 of the encoder's 20 genes were found (2 under another symbol); 15 are absent and count as not expressed,"
        " 2 others are not used."
    )


def test_a_panel_of_genes_is_refused(encoder: SCFoundation) -> None:
    assert encoder.match(GENES[:12]).overlap == 0.6
    with pytest.raises(
        ExpressionError, match=r"The sample has 11 of the 20 genes .* \(55 %\); at least 60 % are needed"
    ):
        encoder.encode(np.ones(11, np.float32), GENES[:11])


# --- encoding -----------------------------------------------------------------------------------------------


def test_it_is_what_the_registry_promises(files: Path) -> None:
    encoder = load_gene_encoder("scfoundation", "cpu")
    assert isinstance(encoder, GeneEncoder)
    assert isinstance(encoder, ExpressionEncoder)
    assert encoder.values is GeneValues.LINEAR
    assert load_gene_encoder("gene-projection").values is GeneValues.ZSCORE
    assert not isinstance(load_gene_encoder("gene-projection"), ExpressionEncoder)
    tokens = encoder.encode(_sample(), GENES, total=5000.0)
    assert tokens.shape == (encoder.n_tokens, encoder.dim) == (4, 8)
    assert tokens.dtype == np.float32
    assert np.isfinite(tokens).all()


def test_the_order_of_the_genes_and_the_depth_do_not_matter_but_the_total_does(encoder: SCFoundation) -> None:
    tokens = encoder.encode(_sample(), GENES, total=5000.0)
    order = np.random.default_rng(1).permutation(len(GENES))
    shuffled = encoder.encode(_sample()[order], [GENES[i] for i in order], total=5000.0)
    np.testing.assert_array_equal(shuffled, tokens)
    np.testing.assert_allclose(encoder.encode(7 * _sample(), GENES, total=5000.0), tokens, atol=1e-5)
    assert np.abs(encoder.encode(_sample(), GENES, total=9000.0) - tokens).max() > 1e-3


def test_z_scores_and_empty_samples_are_refused(encoder: SCFoundation) -> None:
    z = np.random.default_rng(0).normal(size=len(GENES)).astype(np.float32)
    with pytest.raises(ExpressionError, match=r"never below 0.*Give counts, TPM or FPKM"):
        encoder.encode(z, GENES)
    with pytest.raises(ExpressionError, match="hardly any expression"):
        encoder.encode(np.full(len(GENES), 1e-3, np.float32), GENES)


def test_a_sample_is_encoded_once_on_a_machine(
    encoder: SCFoundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    tokens = encoder.encode(_sample(), GENES, progress=lambda *step: seen.append(step))
    assert seen == [("genes", 1, 2), ("genes", 2, 2)]
    again = load("cpu")
    monkeypatch.setattr(again, "_compute", lambda *_: pytest.fail("it is in the cache"))
    np.testing.assert_array_equal(again.encode(_sample(), GENES), tokens)


def test_other_weights_are_another_entry(encoder: SCFoundation, files: Path) -> None:
    tokens = encoder.encode(_sample(), GENES)
    write_scfoundation(
        files / "models.ckpt", scfoundation_settings(len(GENES)), scfoundation_state(len(GENES), 1)
    )
    assert np.abs(load("cpu").encode(_sample(), GENES) - tokens).max() > 1e-3


def test_a_cache_that_cannot_be_written_does_not_stop_the_work(
    encoder: SCFoundation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("SURVPGC_CACHE", str(tmp_path / "occupied"))
    tokens = encoder.encode(_sample(), GENES)
    monkeypatch.setattr(encoder, "_compute", lambda *_: pytest.fail("it is in memory"))
    np.testing.assert_array_equal(encoder.encode(_sample(), GENES), tokens)


def test_the_network_makes_its_tensors_where_it_is_told_to() -> None:
    with torch.device("meta"):
        network = CellNetwork(CellConfig(22, 8, 2, 2, 5, 1.0, 102, 103))
        out = network(torch.empty(9), torch.empty(9, dtype=torch.int64))
        assert pool_all(out).shape == (4, 8)
    assert out.device.type == "meta"


# --- the user's files ---------------------------------------------------------------------------------------


def test_missing_files_are_named_with_where_to_get_them(files: Path) -> None:
    (files / "OS_scRNA_gene_index.19264.tsv").unlink()
    with pytest.raises(EncoderError, match=r"OS_scRNA_gene_index.*github\.com/biomap-research/scFoundation"):
        load("cpu")


def test_an_altered_gene_list_is_refused(files: Path) -> None:
    with (files / "OS_scRNA_gene_index.19264.tsv").open("a") as stream:
        stream.write("ZZZ4\t20\n")
    with pytest.raises(EncoderError, match="SHA-256 differs"):
        load("cpu")


def _change_depth(settings: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    settings["encoder"]["depth"] = 3


def _change_kind(settings: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    settings["encoder"]["module_type"] = "performer"


def _change_order(settings: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    settings["encoder"]["norm_first"] = True


def _change_heads(settings: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    settings["encoder"]["heads"] = 3


def _drop_sizes(settings: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    del settings["bin_num"]


def _drop_key(settings: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    del state["encoder.norm.bias"]


def _add_key(settings: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    state["adapter.weight"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_change_depth, r"missing encoder\.transformer_encoder\.2\.self_attn\.in_proj_weight"),
        (_change_kind, r"another network than scFoundation's cell encoder \(mae_autobin, performer\)"),
        (_change_order, "another network"),
        (_change_heads, "do not fit together"),
        (_drop_sizes, r"does not state the sizes .*'bin_num'"),
        (_drop_key, r"missing encoder\.norm\.bias"),
        (_add_key, r"not expected adapter\.weight"),
    ],
)
def test_another_checkpoint_is_refused_with_the_difference(files: Path, change: Any, words: str) -> None:
    settings, state = scfoundation_settings(len(GENES)), scfoundation_state(len(GENES))
    change(settings, state)
    write_scfoundation(files / "models.ckpt", settings, state)
    with pytest.raises(EncoderError, match=words):
        load("cpu")


def test_a_checkpoint_of_another_list_or_model_is_refused(files: Path) -> None:
    write_scfoundation(files / "models.ckpt", scfoundation_settings(30), scfoundation_state(30))
    with pytest.raises(EncoderError, match=r"made for 30 genes, but OS_scRNA_gene_index.* lists 20"):
        load("cpu")
    torch.save({"state_dict": scfoundation_state(20)}, files / "models.ckpt")
    with pytest.raises(EncoderError, match="no part 'cell'"):
        load("cpu")


def test_the_published_gene_list_is_the_one_that_is_checked(shared_dir: Path) -> None:
    path = shared_dir / "scfoundation" / scfoundation.SOURCE.files[1]
    scfoundation.check_sha256(path, scfoundation.GENE_LIST_SHA256, "")
    genes = scfoundation.read_gene_list(path)
    assert (len(genes), len(set(genes)), genes[0], genes[-1]) == (19264, 19264, "A1BG", "ZZZ3")


# --- size ---------------------------------------------------------------------------------------------------

_REAL_SIZE = """
from pathlib import Path
import numpy as np, torch
from napari_survpgc.core.encoders.gene.cell_network import CellConfig, CellNetwork
from napari_survpgc.core.encoders.gene.scfoundation import SCFoundation, input_row
torch.manual_seed(0)
network = CellNetwork(CellConfig(19266, 768, 2, 12, 100, 1.0, 102, 103))
for parameter in network.parameters():
    torch.nn.init.normal_(parameter, std=0.02)
encoder = SCFoundation(network, tuple(f"G{i}" for i in range(19264)), torch.device("cpu"), "")
tokens = encoder._compute(input_row(np.random.default_rng(0).uniform(0.1, 500, 19264)), None)
assert tokens.shape == (4, 768) and np.isfinite(tokens).all()
# Not getrusage's maximum: Linux carries that of the parent, here the whole test run, over to a new program.
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(line.split()[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc")
def test_all_genes_expressed_at_real_width_fit_into_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _REAL_SIZE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The ten further layers of the real network add 0.26 GiB of weights; nothing else grows with depth.
    assert int(done.stdout) < 2 * 2**30
