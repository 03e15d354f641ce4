"""Sparse, non-negative item-item weights: which few items predict each item best.

For item j with column b_j of B and its n nearest items N by cosine:
``s_j = argmin over w >= 0 of |b_j - B_N w|^2 + l2 |w|^2``. That is SLIM (Ning and Karypis 2011) with
neighbourhoods selected beforehand (their fsSLIM) and without the l1 term, since the neighbourhood makes it sparse.
The input is the inner products of the columns of an item and its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recserver._internal.algorithms.item_item_weights import ItemItemWeights
from recserver._internal.algorithms.nearest_items import BLOCK_SIZE, ItemColumns
from recserver._internal.algorithms.threads import run_in_threads

Matrix = NDArray[np.float32]
Items = NDArray[np.int32]
Indices = NDArray[np.intp]

RIDGE = 5.0
"""The l2 penalty of the weights, in units of ``InputMatrices.ridge_unit``. Quality is flat from 2 to 10."""
N_PASSES = 16
"""Passes of coordinate descent over each item's weights."""
PANEL_CELLS = 2**22
"""Products in a panel: 16 MiB, and as much for the products copied from it at once and their indices."""
SOLVE_CELLS = 2**24
"""Products of the items that a thread solves at once: 64 MiB. With fewer, threads wait for each other."""
N_STRETCHES = 8
"""How often columns that no further panel needs are dropped."""
MAX_PRODUCT_CELLS = 2**27
"""Products in memory at once: 512 MiB, those of 26,000 items with 100 neighbours each."""
GROUP_SIZE = 16
"""Items whose products are computed at once if the catalogue is so large that all at once would be slower."""


def item_weights(
    columns: ItemColumns, neighbors: Items, order: Items, threads: int = 1, l2: float = RIDGE
) -> csr_array:
    """S, shape (items, items): column j has the weights of j's neighbours.

    Args:
        neighbors: as from :func:`nearest_items`.
        order: all items, similar ones next to each other: items that are solved at once then share neighbours.
    """
    weights = np.zeros(neighbors.shape, np.float32)
    order = order[neighbors[order, 0] >= 0]
    size = max(1, MAX_PRODUCT_CELLS // _triangle_size(neighbors.shape[1] + 1))
    for start in range(0, len(order), size):
        items = order[start : start + size]
        products = _Products.of(columns, neighbors[items], items, threads)
        weights[items] = products.solve_weights(np.float32(l2), threads)
    return sparse_rows(neighbors, weights)


def sparse_rows(neighbors: Items, weights: Matrix) -> csr_array:
    """The positive weights as a matrix, shape (items, items): column j has those of j's neighbours.

    Args:
        neighbors, weights: shape (items, n).
    """
    n_items, positive = len(neighbors), weights > 0
    columns = np.repeat(np.arange(n_items, dtype=np.int32), positive.sum(axis=1))
    matrix = csr_array((weights[positive], (neighbors[positive], columns)), shape=(n_items, n_items))
    matrix.sort_indices()
    return matrix


def as_neighbors(weights: csr_array, confidences: Matrix) -> ItemItemWeights:
    """Item-item weights as part of a model."""
    indptr, indices = weights.indptr.astype(np.int64), weights.indices.astype(np.int32, copy=False)
    return ItemItemWeights(indptr, indices, weights.data, confidences)


@dataclass(frozen=True, slots=True)
class _Products:
    """The normal equations of some items: for each, the products of the columns of its group with each other.

    A group is an item and its n neighbours, ascending.

    Attributes:
        upper: shape (items, (n + 1)(n + 2) / 2): the upper triangles of the symmetric matrices, row by row.
        own_index: the index of each item in its group, shape (items,).
        size: the size of a group, n + 1.
    """

    upper: Matrix
    own_index: Indices
    size: int

    @classmethod
    def of(cls, columns: ItemColumns, neighbors: Items, items: Items, threads: int) -> _Products:
        """The products of some items: all at once or, if that takes more multiplications, a few at a time."""
        n_items, size = len(items), neighbors.shape[1] + 1
        products = cls(np.zeros((n_items, _triangle_size(size)), np.float32), np.zeros(n_items, np.intp), size)
        needed = _distinct_items(neighbors, items)
        if len(needed) ** 2 <= n_items / GROUP_SIZE * (GROUP_SIZE * size) ** 2:
            products._fill(slice(0, n_items), columns, neighbors, items, needed=needed, threads=threads)
            return products

        def fill_part(start: int) -> None:
            part = slice(start, start + GROUP_SIZE)
            distinct = _distinct_items(neighbors[part], items[part])
            products._fill(part, columns, neighbors[part], items[part], needed=distinct, threads=1)

        run_in_threads(fill_part, range(0, n_items, GROUP_SIZE), threads)
        return products

    def _fill(
        self, part: slice, columns: ItemColumns, neighbors: Items, items: Items, *, needed: Items, threads: int
    ) -> None:
        """Multiply a few columns at a time with all that follow, and copy the products that the groups need.

        Args:
            part: the rows of ``upper`` to fill: those of ``neighbors`` and ``items``.
            needed: the distinct items of all groups, ascending.
        """
        groups = np.column_stack([np.searchsorted(needed, neighbors), np.searchsorted(needed, items)])
        groups[:, :-1][neighbors < 0] = len(needed)  # padding: an empty column
        self.own_index[part] = (groups < groups[:, -1:]).sum(axis=1)
        groups.sort(axis=1)
        upper = self.upper[part].ravel()
        by_column = np.argsort(groups, axis=None, kind="stable")
        ends = np.searchsorted(groups.ravel()[by_column], np.arange(len(needed) + 1))
        vectors = columns.transposed if len(needed) == columns.transposed.shape[0] else columns.transposed[needed]
        rows = max(1, min(BLOCK_SIZE, PANEL_CELLS // len(needed)))
        stretch = rows * -(-len(needed) // (rows * N_STRETCHES))
        for first in range(0, len(needed), stretch):
            following = vectors[first:].T.tocsr()
            following.resize(following.shape[0], following.shape[1] + 1)

            def copy_panel(start: int, first: int = first, following: csr_array = following) -> None:
                stop = min(start + rows, len(needed))
                panel = (vectors[start:stop] @ following).toarray()
                chunk = max(1, PANEL_CELLS // (8 * self.size))
                for begin in range(ends[start], ends[stop], chunk):
                    members = by_column[begin : min(begin + chunk, ends[stop])]
                    _copy_products(upper, panel, (start, first), groups, members)

            run_in_threads(copy_panel, range(first, min(first + stretch, len(needed)), rows), threads)

    def solve_weights(self, l2: np.float32, threads: int) -> Matrix:
        """The weights of the neighbours, shape (items, n)."""
        weights = np.empty((len(self.upper), self.size - 1), np.float32)

        def solve_part(part: slice) -> None:
            weights[part] = _coordinate_descent(self.upper[part], self.own_index[part], self.size, l2)

        size = max(1, SOLVE_CELLS // self.size**2)
        run_in_threads(solve_part, [slice(start, start + size) for start in range(0, len(weights), size)], threads)
        return weights


def _copy_products(
    upper: Matrix, panel: Matrix, corner: tuple[int, int], groups: Indices, indices: Indices
) -> None:
    """Copy the products of some members of groups, by flat indices into ``groups``, from a panel to ``upper``.

    Args:
        corner: the row and column of the panel's first product.
    """
    n = groups.shape[1]
    items, ranks = np.divmod(indices, n)
    rows = groups[items, ranks] - corner[0]
    in_triangle = np.arange(n) >= ranks[:, None]
    offsets = items * _triangle_size(n) + _row_offsets(n, ranks)
    cells = ((rows * panel.shape[1] - corner[1])[:, None] + groups[items])[in_triangle]
    upper[(offsets[:, None] + np.arange(n))[in_triangle]] = panel.ravel()[cells]


def _coordinate_descent(upper: Matrix, own_index: Indices, n: int, l2: np.float32) -> Matrix:
    """A few passes of coordinate descent for all items at once; the weight of an item itself stays 0."""
    lower, higher = np.minimum.outer(np.arange(n), np.arange(n)), np.maximum.outer(np.arange(n), np.arange(n))
    cells = _row_offsets(n, lower) + higher
    grams = [np.take(upper, row, axis=1) for row in cells]
    targets = np.ascontiguousarray(np.take_along_axis(upper, cells[own_index], axis=1).T)
    weights = np.zeros((len(upper), n), np.float32)
    others = (np.arange(n)[:, None] != own_index).astype(np.float32)
    for _ in range(N_PASSES):
        for t, (gram, target, other) in enumerate(zip(grams, targets, others, strict=True)):
            own_product = gram[:, t]
            explained = np.vecdot(gram, weights) - own_product * weights[:, t]
            weights[:, t] = np.maximum(0, (target - explained) / (own_product + l2)) * other
    of_neighbors: Matrix = weights[others.T > 0].reshape(len(upper), n - 1)
    return of_neighbors


def _distinct_items(neighbors: Items, items: Items) -> Items:
    """The items and their neighbours, each once, ascending."""
    distinct: Items = np.unique(np.append(neighbors, items))
    return distinct[distinct >= 0]


def _triangle_size(n: int) -> int:
    return n * (n + 1) // 2


def _row_offsets(n: int, rows: Indices) -> Indices:
    """The index that column 0 of some rows would have in an upper triangle stored row by row."""
    offsets: Indices = rows * n - rows * (rows + 1) // 2
    return offsets
