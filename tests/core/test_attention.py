"""Scores, percentiles, best patches and the grid image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_survpgc.core.attention.scores import (
    bottom_k,
    patch_scores,
    percentiles,
    rank_of,
    score_grid,
    top_k,
)


def test_scores_by_hand() -> None:
    matrix = np.array([[1.0, 2, 3], [10, 10, 40]])
    z = [(np.array(r) - np.mean(r)) / np.std(r) for r in matrix]
    np.testing.assert_allclose(patch_scores(matrix), np.mean(z, 0))
    np.testing.assert_allclose(patch_scores(torch.tensor(matrix)), np.mean(z, 0))


def test_a_constant_row_or_a_single_patch_says_nothing() -> None:
    np.testing.assert_array_equal(patch_scores([[0.1] * 5, [0.3] * 5]), np.zeros(5))
    np.testing.assert_array_equal(patch_scores([[4.0], [5.0]]), [0])
    with pytest.raises(ValueError, match="not numbers"):
        patch_scores([[1.0, np.nan]])


def test_ranks_and_choices_break_ties_by_place() -> None:
    scores = [3.0, 1.0, 3.0, 2.0]
    np.testing.assert_allclose(percentiles(scores), [87.5, 25, 87.5, 50])
    np.testing.assert_array_equal(top_k(scores, 3), [0, 2, 3])
    np.testing.assert_array_equal(bottom_k(scores, 2), [1, 3])
    assert len(top_k(scores, 50)) == 4


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
def test_the_rank_of_a_patch_is_its_place_among_the_best_also_where_scores_tie(scores: list[int]) -> None:
    best = top_k(scores, len(scores)).tolist()
    assert [rank_of(scores, patch) for patch in best] == list(range(1, len(scores) + 1))


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40))
def test_percentiles_follow_the_scores(values: list[int]) -> None:
    ranks = percentiles(values)
    assert ((ranks > 0) & (ranks <= 100)).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(ranks[order]) >= 0).all()
    assert ranks.mean() == pytest.approx(50 * (len(values) + 1) / len(values))


@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(0, 35))
def test_the_best_are_the_beginning_of_all_sorted(values: list[int], k: int) -> None:
    expected = np.argsort(-np.array(values, float), kind="stable")[:k]
    np.testing.assert_array_equal(top_k(values, k), expected)


def test_the_grid_has_one_cell_a_patch() -> None:
    side = 256.513
    cells = [(0, 0), (3, 0), (1, 2)]
    coords = [(int(np.ceil(700 + c * side)), int(np.ceil(130 + r * side))) for c, r in cells]
    grid = score_grid(coords, [1.0, 2.0, 3.0], side)
    assert grid.values.shape == (3, 4)
    assert grid.origin == (700, 130)
    assert [grid.values[r, c] for c, r in cells] == [1, 2, 3]
    assert np.isnan(grid.values).sum() == 9


def test_overlapping_patches_are_averaged() -> None:
    grid = score_grid([(0, 0), (10, 0)], [1.0, 3.0], 256)
    assert grid.values.tolist() == [[2.0]]
