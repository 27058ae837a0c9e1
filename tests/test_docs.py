"""The documentation says what the code does: its drawing is current, its examples run."""

from __future__ import annotations

from docs.draw_architecture import DRAWING, drawing, without_implied


def test_the_drawing_shows_the_imports_as_they_are() -> None:
    assert DRAWING.read_text(encoding="utf-8") == drawing(), "run python -m docs.draw_architecture"


def test_a_line_that_a_longer_way_implies_is_left_out() -> None:
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert without_implied(edges) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}
