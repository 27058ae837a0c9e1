"""What training frameworks put before the names of weights is removed, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_survpgc.core.checkpoints.file import open_checkpoint
from napari_survpgc.core.checkpoints.names import plain_names

NAMES = ("to_logits.0.weight", "wsi_net.0.bias")


@pytest.mark.parametrize(
    ("prefix", "removed"),
    [
        ("", ()),
        ("model.", ("model.",)),
        ("module.", ("module.",)),
        ("_orig_mod.", ("_orig_mod.",)),
        ("model._orig_mod.module.", ("model.", "_orig_mod.", "module.")),
        ("module.module.", ("module.",)),
    ],
)
@pytest.mark.parametrize("wrap", [(), ("state_dict",), ("checkpoint", "model", "state_dict")])
def test_prefixes_are_removed_in_any_order_and_wrapping(
    tmp_path: Path, prefix: str, removed: tuple[str, ...], wrap: tuple[str, ...]
) -> None:
    document: object = {prefix + name: torch.ones(2) for name in NAMES}
    for key in reversed(wrap):
        document = {key: document, "epoch": 3, "lr": 0.1, "notes": "x"}
    torch.save(document, tmp_path / "m.pt")
    found = open_checkpoint(tmp_path / "m.pt")
    assert tuple(found.tensors) == NAMES
    assert found.removed == removed


def test_parts_that_were_compiled_or_parallel_are_known_within_a_name() -> None:
    names, removed = plain_names(["attention_net.module.0.weight", "wsi_net._orig_mod.0.bias"])
    assert list(names.values()) == ["attention_net.0.weight", "wsi_net.0.bias"]
    assert removed == ("_orig_mod.", "module.")


def test_a_prefix_that_only_some_names_have_stays() -> None:
    assert plain_names(["model.a", "other.a"]) == ({"model.a": "model.a", "other.a": "other.a"}, ())
    # Two names would become one.
    assert plain_names(["x.module.a", "x.a"])[1] == ()
