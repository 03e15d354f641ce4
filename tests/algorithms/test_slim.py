"""Neighbours compared with all cosines, and their weights with scipy's non-negative least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.sparse import csr_array, random_array

from recserver._internal.algorithms import nearest_items as nearest_module
from recserver._internal.algorithms import slim as weights_module
from recserver._internal.algorithms.nearest_items import ItemColumns, nearest_items
from recserver._internal.algorithms.slim import RIDGE, item_weights

Matrix = np.ndarray[Any, Any]


def random_matrix(users: int = 120, items: int = 40, density: float = 0.15, seed: int = 0) -> csr_array:
    return random_array((users, items), density=density, format="csr", dtype=np.float32, rng=seed)


def similarities_of(matrix: csr_array, shrinkage: float = 0.0) -> Matrix:
    dense = matrix.toarray().astype(np.float64)
    norms = np.maximum(np.linalg.norm(dense, axis=0), 1e-12)
    similarities = dense.T @ dense / (np.outer(norms, norms) + shrinkage)
    np.fill_diagonal(similarities, 0)
    return similarities


@pytest.mark.parametrize("block", [1, 7, 256])
@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_nearest_items_have_the_highest_similarity(
    monkeypatch: pytest.MonkeyPatch, block: int, shrinkage: float
) -> None:
    monkeypatch.setattr(nearest_module, "BLOCK_SIZE", block)
    matrix = random_matrix()
    nearest, similarities = nearest_items(ItemColumns.of(matrix), 6, threads=2, shrinkage=shrinkage)
    expected = similarities_of(matrix, shrinkage)
    for item, (neighbors, values) in enumerate(zip(nearest, similarities, strict=True)):
        assert (np.diff(neighbors) > 0).all()
        assert set(neighbors.tolist()) == set(np.argsort(-expected[item])[:6].tolist())
        np.testing.assert_allclose(values, expected[item, neighbors], rtol=1e-4)


def test_items_without_common_users_are_not_neighbours() -> None:
    matrix = csr_array(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], np.float32))
    nearest, similarities = nearest_items(ItemColumns.of(matrix), 30)
    assert nearest.tolist() == [[1, -1, -1], [0, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert similarities[:, 0] == pytest.approx([1, 1, 0, 0])


def test_ties_do_not_exceed_the_number_of_neighbours() -> None:
    columns = ItemColumns.of(csr_array(np.ones((5, 9), np.float32)))
    nearest, _ = nearest_items(columns, 3)
    assert all(len({*row} - {item}) == 3 for item, row in enumerate(nearest.tolist()))
    assert np.array_equal(nearest, nearest_items(columns, 3, threads=2)[0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [12, 2], ids=["at once", "in groups"])
@pytest.mark.parametrize(("cells", "panel"), [(2**27, 2**22), (20 * 91, 8 * 12 * 12), (17 * 91, 30), (91, 30)])
def test_weights_are_those_of_non_negative_least_squares(
    monkeypatch: pytest.MonkeyPatch, cells: int, panel: int, n: int
) -> None:
    monkeypatch.setattr(weights_module, "N_PASSES", 300)
    monkeypatch.setattr(weights_module, "MAX_PRODUCT_CELLS", cells)
    monkeypatch.setattr(weights_module, "PANEL_CELLS", panel)
    monkeypatch.setattr(weights_module, "SOLVE_CELLS", 5 * 13**2)
    monkeypatch.setattr(weights_module, "GROUP_SIZE", 4)
    matrix = (random_matrix(density=0.25) * 4).tolil()
    matrix[:, :2] = 0  # two items that share users with each other only
    matrix[:2] = 0
    matrix[:2, :2] = 3
    matrix = csr_array(matrix)
    columns = ItemColumns.of(matrix)
    neighbors, _ = nearest_items(columns, n)
    order = np.random.default_rng(0).permutation(40).astype(np.int32)
    weights = item_weights(columns, neighbors, order, threads=2).toarray()
    dense = matrix.toarray().astype(np.float64)
    assert (neighbors[:2] < 0).any(axis=1).all()
    for item in range(40):
        own = neighbors[item][neighbors[item] >= 0]
        stacked = np.vstack([dense[:, own], np.sqrt(RIDGE) * np.eye(len(own))])
        expected, _ = nnls(stacked, np.append(dense[:, item], np.zeros(len(own))))
        np.testing.assert_allclose(weights[own, item], expected, atol=2e-4)
        others = np.setdiff1d(np.arange(40), own)
        assert not weights[others, item].any()


def test_parts_and_threads_do_not_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ItemColumns.of(random_matrix(users=400, items=150, density=0.05))
    neighbors, _ = nearest_items(columns, 20)
    order = np.arange(150, dtype=np.int32)
    whole = item_weights(columns, neighbors, order)
    assert (whole != item_weights(columns, neighbors, order, threads=3)).nnz == 0
    monkeypatch.setattr(weights_module, "MAX_PRODUCT_CELLS", 17 * 231)
    monkeypatch.setattr(weights_module, "PANEL_CELLS", 700)
    parts = item_weights(columns, neighbors, order)
    assert (parts != item_weights(columns, neighbors, order, threads=3)).nnz == 0
    np.testing.assert_allclose(parts.toarray(), whole.toarray(), atol=1e-5)


def test_pairs_of_heavy_users_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.zeros((40, 500), np.float32)
    dense[0] = 1
    random = np.random.default_rng(0)
    for user in range(1, 40):
        dense[user, random.choice(500, 8, replace=False)] = 1 + user
    matrix = csr_array(dense)
    monkeypatch.setattr(nearest_module, "MAX_PRODUCTS", 39 * 8**2 + 100**2)
    columns = ItemColumns.of(matrix)
    lengths = np.diff(columns.rows.indptr)
    assert (lengths[1:] == 8).all() and lengths[0] == 100
    assert np.square(lengths).sum() <= 39 * 8**2 + 100**2
    assert (columns.rows[1:] != matrix[1:]).nnz == 0
    assert (ItemColumns.of(matrix).rows != columns.rows).nnz == 0, "the sample is not reproducible"
    assert (ItemColumns.of(matrix, seed=1).rows != columns.rows).nnz
    monkeypatch.setattr(nearest_module, "MAX_PRODUCTS", 39 * 8**2 + 500**2)
    assert ItemColumns.of(matrix).rows.nnz == matrix.nnz
