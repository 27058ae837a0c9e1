"""What the README says is made from the code, or compared with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_survpgc.core.encoders.table import BEGIN, END, encoder_table, with_table

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_table_of_encoders_is_that_of_their_cards() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text, f"run {BEGIN[len('<!-- encoders: ') : -len(' -->')]}"


def test_the_table_stands_between_its_marks_and_nothing_else_moves() -> None:
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb\n") == f"a\n{BEGIN}\n\n{encoder_table()}\n{END}\nb\n"
    with pytest.raises(ValueError, match="no line"):
        with_table(f"a\n{END}\n{BEGIN}\n")
