"""Neighbours against all cosines written out, their weights against scipy's non-negative least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.sparse import csr_array, random_array

from recserver.algorithms import item_weights as module
from recserver.algorithms.item_weights import RIDGE, ItemColumns, item_weights, nearest_items

Matrix = np.ndarray[Any, Any]


def some(users: int = 120, items: int = 40, density: float = 0.15, seed: int = 0) -> csr_array:
    return random_array((users, items), density=density, format="csr", dtype=np.float32, rng=seed)


def likeness_of(matrix: csr_array, shrinkage: float = 0.0) -> Matrix:
    dense = matrix.toarray().astype(np.float64)
    norms = np.maximum(np.linalg.norm(dense, axis=0), 1e-12)
    found = dense.T @ dense / (np.outer(norms, norms) + shrinkage)
    np.fill_diagonal(found, 0)
    return found


@pytest.mark.parametrize("block", [1, 7, 256])
@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_the_nearest_are_those_of_the_highest_likeness(
    monkeypatch: pytest.MonkeyPatch, block: int, shrinkage: float
) -> None:
    monkeypatch.setattr(module, "BLOCK_SIZE", block)
    matrix = some()
    found, how_like = nearest_items(ItemColumns.of(matrix), 6, threads=2, shrinkage=shrinkage)
    expected = likeness_of(matrix, shrinkage)
    for item, (neighbors, values) in enumerate(zip(found, how_like, strict=True)):
        assert (np.diff(neighbors) > 0).all()
        assert set(neighbors.tolist()) == set(np.argsort(-expected[item])[:6].tolist())
        np.testing.assert_allclose(values, expected[item, neighbors], rtol=1e-4)


def test_who_shares_no_user_is_no_neighbour() -> None:
    matrix = csr_array(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], np.float32))
    found, how_like = nearest_items(ItemColumns.of(matrix), 30)
    assert found.tolist() == [[1, -1, -1], [0, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert how_like[:, 0] == pytest.approx([1, 1, 0, 0])


def test_of_equal_ones_no_more_are_taken_than_asked_for() -> None:
    columns = ItemColumns.of(csr_array(np.ones((5, 9), np.float32)))
    found, _ = nearest_items(columns, 3)
    assert all(len({*row} - {item}) == 3 for item, row in enumerate(found.tolist()))
    assert np.array_equal(found, nearest_items(columns, 3, threads=2)[0])


@pytest.mark.parametrize("n", [12, 2], ids=["at once", "in groups"])
@pytest.mark.parametrize(("kept", "panel"), [(2**27, 2**22), (20 * 91, 8 * 12 * 12), (17 * 91, 30), (91, 30)])
def test_the_weights_are_those_of_non_negative_least_squares(
    monkeypatch: pytest.MonkeyPatch, kept: int, panel: int, n: int
) -> None:
    monkeypatch.setattr(module, "N_PASSES", 300)
    monkeypatch.setattr(module, "MAX_PRODUCT_CELLS", kept)
    monkeypatch.setattr(module, "PANEL_CELLS", panel)
    monkeypatch.setattr(module, "SOLVE_CELLS", 5 * 13**2)
    monkeypatch.setattr(module, "GROUP_SIZE", 4)
    matrix = (some(density=0.25) * 4).tolil()
    matrix[:, :2] = 0  # two items that share users with each other only
    matrix[:2] = 0
    matrix[:2, :2] = 3
    matrix = csr_array(matrix)
    columns = ItemColumns.of(matrix)
    neighbors, _ = nearest_items(columns, n)
    order = np.random.default_rng(0).permutation(40).astype(np.int32)
    found = item_weights(columns, neighbors, order, threads=2).toarray()
    dense = matrix.toarray().astype(np.float64)
    assert (neighbors[:2] < 0).any(axis=1).all()
    for item in range(40):
        own = neighbors[item][neighbors[item] >= 0]
        stacked = np.vstack([dense[:, own], np.sqrt(RIDGE) * np.eye(len(own))])
        expected, _ = nnls(stacked, np.append(dense[:, item], np.zeros(len(own))))
        np.testing.assert_allclose(found[own, item], expected, atol=2e-4)
        others = np.setdiff1d(np.arange(40), own)
        assert not found[others, item].any()


def test_all_at_once_or_in_parts_and_any_number_of_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ItemColumns.of(some(users=400, items=150, density=0.05))
    neighbors, _ = nearest_items(columns, 20)
    order = np.arange(150, dtype=np.int32)
    whole = item_weights(columns, neighbors, order)
    assert (whole != item_weights(columns, neighbors, order, threads=3)).nnz == 0
    monkeypatch.setattr(module, "MAX_PRODUCT_CELLS", 17 * 231)
    monkeypatch.setattr(module, "PANEL_CELLS", 700)
    parts = item_weights(columns, neighbors, order)
    assert (parts != item_weights(columns, neighbors, order, threads=3)).nnz == 0
    np.testing.assert_allclose(parts.toarray(), whole.toarray(), atol=1e-5)


def test_of_users_with_very_many_items_a_sample_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.zeros((40, 500), np.float32)
    dense[0] = 1
    random = np.random.default_rng(0)
    for user in range(1, 40):
        dense[user, random.choice(500, 8, replace=False)] = 1 + user
    matrix = csr_array(dense)
    monkeypatch.setattr(module, "MAX_PRODUCTS", 39 * 8**2 + 100**2)
    found = ItemColumns.of(matrix)
    lengths = np.diff(found.rows.indptr)
    assert (lengths[1:] == 8).all() and lengths[0] == 100
    assert np.square(lengths).sum() <= 39 * 8**2 + 100**2
    assert (found.rows[1:] != matrix[1:]).nnz == 0
    assert (ItemColumns.of(matrix).rows != found.rows).nnz == 0, "the sample is not the same again"
    assert (ItemColumns.of(matrix, seed=1).rows != found.rows).nnz
    monkeypatch.setattr(module, "MAX_PRODUCTS", 39 * 8**2 + 500**2)
    assert ItemColumns.of(matrix).rows.nnz == matrix.nnz
