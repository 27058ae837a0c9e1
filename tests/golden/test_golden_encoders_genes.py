"""scFoundation agrees with the authors' code within each output's own tolerance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_survpgc.core.encoders.gene import cell_network
from napari_survpgc.core.encoders.gene.cell_network import CellNetwork
from napari_survpgc.core.encoders.gene.scfoundation import (
    gather,
    input_row,
    pool_all,
    read_gene_list,
    read_network,
)
from tests.builders import write_scfoundation

Load = Callable[[str], dict[str, Any]]
# What the published code has besides the embedding of bulk samples: the Performer decoder, which restores expression, and
# the other pooling; values that come as logarithms, and single cells.
NOT_OURS = {"s0_decoder_expression", "s0_max", "s1_max", "s2_max"}
NOT_BULK = {"bulk_T_all", "bulk_F_max", "sc_F_t4_all", "sc_F_a1_all"}


def write_checkpoint(path: Path, case: dict[str, Any]) -> Path:
    state = {key: torch.from_numpy(value) for key, value in case["weights"].items()}
    return write_scfoundation(path, case["meta"]["constructor"], state)


@pytest.fixture(scope="module")
def tiny(load_golden: Load, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], CellNetwork]:
    case = load_golden("scfoundation_tiny")
    return case, read_network(write_checkpoint(tmp_path_factory.mktemp("tiny") / "models.ckpt", case))[0]


def _run(network: CellNetwork, row: NDArray[np.floating]) -> torch.Tensor:
    values, places = gather(row)
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(values), torch.from_numpy(places))


def _agree(case: dict[str, Any], name: str, value: Any) -> None:
    expected = case["out"][name]
    got = np.asarray(value).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=0, atol=case["meta"]["out"][name]["atol"], err_msg=name)


def test_every_step_of_the_network_agrees(tiny: tuple[dict[str, Any], CellNetwork]) -> None:
    case, network = tiny
    n = case["out"]["batch_padding"].shape[1]
    found: dict[str, Any] = {}
    batch = {
        "gathered_values": np.full((3, n), 103, np.float32),
        "position_ids": np.full((3, n), 103),
        "padding": np.ones((3, n), np.uint8),
        "encoder_output_pads_zeroed": np.zeros((3, n, 16), np.float32),
    }
    for i, row in enumerate(case["in"]["gene_x"]):
        values, places = gather(row)
        tokens = _run(network, row)
        found |= {
            f"s{i}_gathered_values": values,
            f"s{i}_padding": np.zeros(len(values), np.uint8),
            f"s{i}_position_ids": places,
            f"s{i}_value_embedding": network.token_emb(torch.from_numpy(values)).detach(),
            f"s{i}_encoder_output": tokens,
            f"s{i}_four": pool_all(tokens),
        }
        # A sample alone is what it is in a padded batch: padding is masked there.
        for name, part in (
            ("gathered_values", values),
            ("position_ids", places),
            ("padding", 0),
            ("encoder_output_pads_zeroed", tokens),
        ):
            batch[name][i, : len(values)] = part
    found |= {f"batch_{name}": value for name, value in batch.items()}
    found["batch_value_embedding"] = network.token_emb(torch.from_numpy(batch["gathered_values"])).detach()
    grid = torch.from_numpy(case["in"]["grid"])
    found["grid_embedding"] = network.token_emb(grid).detach()
    found["grid_bin_weights"] = network.token_emb.bin_weights(grid).detach()
    assert set(found) == set(case["out"]) - NOT_OURS
    for name, value in found.items():
        _agree(case, name, value)


def test_few_queries_at_a_time_change_nothing(
    tiny: tuple[dict[str, Any], CellNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, network = tiny
    monkeypatch.setattr(cell_network, "_SCORE_BYTES", 2 * 73 * 4 * 7)  # seven queries
    _agree(case, "s0_encoder_output", _run(network, case["in"]["gene_x"][0]))


def test_samples_agree_from_the_table_to_the_embedding(
    load_golden: Load, shared_dir: Path, tmp_path: Path
) -> None:
    case = load_golden("scfoundation_end_to_end")
    network, config = read_network(write_checkpoint(tmp_path / "models.ckpt", case))
    genes = read_gene_list(shared_dir / "scfoundation" / "OS_scRNA_gene_index.19264.tsv")
    assert (len(genes), genes[0], genes[-1]) == (config.seq_len - 2, "A1BG", "ZZZ3")
    index = case["in"]["gene_index"]
    aligned = np.zeros((3, len(genes)))
    aligned[:, index[index >= 0]] = case["in"]["expression"][:, index >= 0]
    total = float(np.median(aligned.sum(1)))
    rows = [input_row(x, total) for x in aligned]
    _agree(case, "bulk_F_all", torch.stack([pool_all(_run(network, row)) for row in rows]))
    _agree(case, "bulk_F_total_token", [row[-1] for row in rows])
    assert {"bulk_F_all", "bulk_F_total_token"} == set(case["out"]) - NOT_BULK
