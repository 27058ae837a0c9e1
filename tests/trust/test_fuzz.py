"""A short run of the fuzzer; ``make fuzz`` is the long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.trust import fuzz
from tests.trust.mutate import mutate
from tests.trust.readers import KINDS


@pytest.mark.skipif(os.name != "posix", reason="limits on memory are POSIX's")
def test_damaged_inputs_of_every_kind_are_read_or_refused() -> None:
    # One worker: a second would load the libraries and models once more, 10 s of processor time.
    found = list(fuzz.run(list(KINDS), range(20_000, 20_008), processes=1))
    wrong = [
        fuzz.Finding(kind, seed, what, where)
        for kind, seed, what, where in found
        if what not in ("read", "refused")
    ]
    assert not wrong, "\n".join(map(str, wrong))
    assert len(found) == 8 * len(KINDS)
    assert any(what == "refused" for _, _, what, _ in found)


def test_a_seed_gives_the_same_damage_again(tmp_path: Path) -> None:
    for kind in ("svs", "geo", "h5"):
        (tmp_path / kind).mkdir()
        path = KINDS[kind].make(tmp_path / kind)
        sound = path.read_bytes()
        mutate(path, 7)
        once = path.read_bytes()
        path.write_bytes(sound)
        mutate(path, 7)
        assert path.read_bytes() == once != sound
