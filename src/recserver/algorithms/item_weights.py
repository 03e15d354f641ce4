"""Sparse, non-negative item-item weights: which few items foretell each item best.

For item j with column b_j of B and its n nearest items N by cosine:
``s_j = argmin over w >= 0 of |b_j - B_N w|^2 + l2 |w|^2``. That is SLIM (Ning and Karypis 2011) with
neighbourhoods chosen beforehand (their fsSLIM) and without the l1 term: the neighbourhood makes it sparse. Only
products of columns are needed, those of an item and its neighbours with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from recserver.algorithms.neighbors import ItemItemWeights

Matrix = NDArray[np.float32]
Items = NDArray[np.int32]
Indices = NDArray[np.intp]
WorkT = TypeVar("WorkT")

RIDGE = 5.0
"""Ridge of the weights, in multiples of ``Matrices.ridge_unit``. Quality is flat from 2 to 10."""
N_PASSES = 16
"""Of coordinate descent over each item's weights."""
BLOCK_SIZE = 256
"""Items whose products with all are computed together."""
PANEL_CELLS = 2**22
"""Products of a panel, 16 MiB; what is taken from it at once is as much, with the places that it comes from."""
SOLVE_CELLS = 2**24
"""Products of items whose weights a thread finds together, 64 MiB: with fewer, threads wait for each other."""
N_STRETCHES = 8
"""So often the columns that no panel needs any more are dropped."""
MAX_PRODUCT_CELLS = 2**27
"""Products of neighbours that are kept at once: 512 MiB, those of 26,000 items with 100 neighbours each."""
GROUP_SIZE = 16
"""Items whose products are found together where the catalogue is so large that all at once would be dearer."""
MAX_PRODUCTS = 6e8
"""Multiplications of all pairs of items that a user has, summed over users. What is beyond comes from few users
with very many items each: of those a sample counts."""


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """The columns of B, ready to be multiplied with each other.

    Attributes:
        rows: shape (users, items).
        turned: its transpose, shape (items, users).
    """

    rows: csr_array
    transposed: csr_array

    @classmethod
    def of(cls, matrix: csr_array, seed: int = 0) -> ItemColumns:
        rows = _sample_excess_pairs(matrix, seed)
        return cls(rows, rows.T.tocsr())

    def products(self, items: Items | slice) -> csr_array:
        """Of some items with all, shape (their number, items)."""
        return self.transposed[items] @ self.rows

    def norms(self) -> Matrix:
        """Of the items' columns, shape (items,)."""
        squares = np.bincount(self.rows.indices, np.square(self.rows.data), minlength=self.rows.shape[1])
        return np.sqrt(squares).astype(np.float32)


def nearest_items(columns: ItemColumns, n: int, threads: int = 1, shrinkage: float = 0.0) -> tuple[Items, Matrix]:
    """The ``n`` items most like each one that share a user with it, and their likeness.

    The likeness is the cosine, ``shrinkage`` being added to its denominator.

    Returns:
        int32 and float32, shape (items, n), or fewer if there are fewer others; items ascending in each row;
        -1 after them where there are fewer.
    """
    n_items = len(columns.transposed.indptr) - 1
    n = max(1, min(n, n_items - 1))
    norms = np.maximum(columns.norms(), np.float32(1e-12))
    found, how_like = np.full((n_items, n), -1, np.int32), np.zeros((n_items, n), np.float32)

    def one(start: int) -> None:
        block = columns.products(slice(start, start + BLOCK_SIZE))
        rows = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        likeness = block.data / (norms[block.indices] * norms[rows] + np.float32(shrinkage))
        likeness[block.indices == rows] = 0
        for row, item in enumerate(range(start, start + block.shape[0])):
            own = slice(block.indptr[row], block.indptr[row + 1])
            best = _top_indices(likeness[own], n)
            items = block.indices[own][best]
            ascending = np.argsort(items)
            found[item, : len(best)] = items[ascending]
            how_like[item, : len(best)] = likeness[own][best][ascending]

    _run_in_threads(one, range(0, n_items, BLOCK_SIZE), threads)
    return found, how_like


def _top_indices(values: Matrix, n: int) -> NDArray[np.intp]:
    """Where the ``n`` highest of the positive ``values`` stand, in no order; of equal ones some."""
    if len(values) <= n:
        return np.flatnonzero(values > 0)
    lowest = max(np.partition(values, -n)[-n], np.finfo(np.float32).tiny)
    reaching = np.flatnonzero(values >= lowest)
    if len(reaching) > n:
        equal = values[reaching] == lowest
        reaching = np.append(reaching[~equal], reaching[equal][: n - int((~equal).sum())])
    return reaching


def item_weights(
    columns: ItemColumns, neighbors: Items, order: Items, threads: int = 1, l2: float = RIDGE
) -> csr_array:
    """S, shape (items, items): column j has the weights of j's neighbours, row i what i speaks for.

    Args:
        neighbors: as from :func:`nearest`.
        order: all items, alike ones together: those whose products are computed together share neighbours.
    """
    weights = np.zeros(neighbors.shape, np.float32)
    order = order[neighbors[order, 0] >= 0]
    most = max(1, MAX_PRODUCT_CELLS // _triangle_size(neighbors.shape[1] + 1))
    for start in range(0, len(order), most):
        items = order[start : start + most]
        products = _Products.of(columns, neighbors[items], items, threads)
        weights[items] = products.solve_weights(np.float32(l2), threads)
    return sparse_rows(neighbors, weights)


def sparse_rows(neighbors: Items, weights: Matrix) -> csr_array:
    """Shape (items, items): row i has what i speaks for. The arguments are of shape (items, n); 0 is no weight."""
    n_items, kept = len(neighbors), weights > 0
    owners = np.repeat(np.arange(n_items, dtype=np.int32), kept.sum(axis=1))
    found = csr_array((weights[kept], (neighbors[kept], owners)), shape=(n_items, n_items))
    found.sort_indices()
    return found


def as_neighbors(weights: csr_array, confidences: Matrix) -> ItemItemWeights:
    """The part of a model that holds item-item weights."""
    indptr, indices = weights.indptr.astype(np.int64), weights.indices.astype(np.int32, copy=False)
    return ItemItemWeights(indptr, indices, weights.data, confidences)


@dataclass(frozen=True, slots=True)
class _Products:
    """What decides the weights of some items: products of the items of each one's circle with each other.

    A circle is an item with its n neighbours, in the order of their numbers.

    Attributes:
        upper: shape (items, (n + 1)(n + 2) / 2): the upper triangles, row by row; the lower ones are the same.
        own: where each item stands in its circle, shape (items,).
        size: of a circle, n + 1.
    """

    upper: Matrix
    own_index: Indices
    size: int

    @classmethod
    def of(cls, columns: ItemColumns, neighbors: Items, items: Items, threads: int) -> _Products:
        """Those of some items: all at once or, where that would be more to multiply, a few together."""
        n_items, size = len(items), neighbors.shape[1] + 1
        found = cls(np.zeros((n_items, _triangle_size(size)), np.float32), np.zeros(n_items, np.intp), size)
        needed = _distinct_items(neighbors, items)
        if len(needed) ** 2 <= n_items / GROUP_SIZE * (GROUP_SIZE * size) ** 2:
            found._fill(slice(0, n_items), columns, neighbors, items, needed=needed, threads=threads)
            return found

        def one(start: int) -> None:
            part = slice(start, start + GROUP_SIZE)
            own, group = neighbors[part], items[part]
            found._fill(part, columns, own, group, needed=_distinct_items(own, group), threads=1)

        _run_in_threads(one, range(0, n_items, GROUP_SIZE), threads)
        return found

    def _fill(
        self, part: slice, columns: ItemColumns, neighbors: Items, items: Items, *, needed: Items, threads: int
    ) -> None:
        """Multiply some columns at a time with all that follow, and keep the products that circles ask for."""
        circles = np.column_stack([np.searchsorted(needed, neighbors), np.searchsorted(needed, items)])
        circles[:, :-1][neighbors < 0] = len(needed)  # nobody: a column without anything in it
        self.own_index[part] = (circles < circles[:, -1:]).sum(axis=1)
        circles.sort(axis=1)
        upper = self.upper[part].ravel()
        asked = np.argsort(circles, axis=None, kind="stable")
        ends = np.searchsorted(circles.ravel()[asked], np.arange(len(needed) + 1))
        left = columns.transposed if len(needed) == columns.transposed.shape[0] else columns.transposed[needed]
        rows = max(1, min(BLOCK_SIZE, PANEL_CELLS // len(needed)))
        stretch = rows * -(-len(needed) // (rows * N_STRETCHES))
        for first in range(0, len(needed), stretch):
            following = left[first:].T.tocsr()
            following.resize(following.shape[0], following.shape[1] + 1)

            def one(start: int, first: int = first, following: csr_array = following) -> None:
                stop = min(start + rows, len(needed))
                panel = (left[start:stop] @ following).toarray()
                for places in _chunks(asked[ends[start] : ends[stop]], PANEL_CELLS // (8 * self.size)):
                    _copy_products(upper, panel, (start, first), circles, places)

            _run_in_threads(one, range(first, min(first + stretch, len(needed)), rows), threads)

    def solve_weights(self, l2: np.float32, threads: int) -> Matrix:
        """The weights of the neighbours, shape (items, n)."""
        weights = np.empty((len(self.upper), self.size - 1), np.float32)

        def one(part: slice) -> None:
            weights[part] = _coordinate_descent(self.upper[part], self.own_index[part], self.size, l2)

        size = max(1, SOLVE_CELLS // self.size**2)
        _run_in_threads(one, [slice(start, start + size) for start in range(0, len(weights), size)], threads)
        return weights


def _copy_products(
    upper: Matrix, panel: Matrix, corner: tuple[int, int], circles: Indices, indices: Indices
) -> None:
    """Take from a panel of products, which begins at ``corner``, what some places of ``circles`` ask for."""
    n = circles.shape[1]
    items, ranks = np.divmod(indices, n)
    rows = circles[items, ranks] - corner[0]
    wanted = np.arange(n) >= ranks[:, None]
    begins = items * _triangle_size(n) + _row_offsets(n, ranks)
    found = ((rows * panel.shape[1] - corner[1])[:, None] + circles[items])[wanted]
    upper[(begins[:, None] + np.arange(n))[wanted]] = panel.ravel()[found]


def _coordinate_descent(upper: Matrix, own: Indices, n: int, l2: np.float32) -> Matrix:
    """A few passes of coordinate descent over all items at once, whose own weights stay 0."""
    lower, higher = np.minimum.outer(np.arange(n), np.arange(n)), np.maximum.outer(np.arange(n), np.arange(n))
    places = _row_offsets(n, lower) + higher
    grams = [np.take(upper, row, axis=1) for row in places]
    targets = np.ascontiguousarray(np.take_along_axis(upper, places[own], axis=1).T)
    weights = np.zeros((len(upper), n), np.float32)
    others = (np.arange(n)[:, None] != own).astype(np.float32)
    for _ in range(N_PASSES):
        for t, (gram, target, other) in enumerate(zip(grams, targets, others, strict=True)):
            own_product = gram[:, t]
            taken = np.vecdot(gram, weights) - own_product * weights[:, t]
            weights[:, t] = np.maximum(0, (target - taken) / (own_product + l2)) * other
    of_neighbors: Matrix = weights[others.T > 0].reshape(len(upper), n - 1)
    return of_neighbors


def _chunks(indices: Indices, max_size: int) -> Iterator[Indices]:
    size = max(1, max_size)
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _distinct_items(neighbors: Items, items: Items) -> Items:
    """All that are among them, ascending."""
    found: Items = np.unique(np.append(neighbors, items))
    return found[found >= 0]


def _triangle_size(n: int) -> int:
    return n * (n + 1) // 2


def _row_offsets(n: int, rows: Indices) -> Indices:
    """Where column 0 of some rows would stand in an upper triangle, kept row by row."""
    begins: Indices = rows * n - rows * (rows + 1) // 2
    return begins


def _sample_excess_pairs(matrix: csr_array, seed: int) -> csr_array:
    """``matrix``, or at most so many pairs of each user, chosen by chance, that products stay affordable."""
    lengths = np.diff(matrix.indptr).astype(np.float64)
    if np.square(lengths).sum() <= MAX_PRODUCTS:
        return matrix
    most = _largest_cap(lengths, MAX_PRODUCTS)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    excessive = np.flatnonzero((lengths > most)[rows])
    chance = np.random.default_rng(seed).random(len(excessive), np.float32)
    order = np.lexsort((chance, rows[excessive]))
    of_each = np.diff(matrix.indptr)[lengths > most]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(of_each) - of_each, of_each)
    kept = np.ones(matrix.nnz, bool)
    kept[excessive[rank >= most]] = False
    indptr = np.concatenate([[0], np.cumsum(np.minimum(np.diff(matrix.indptr), most))]).astype(matrix.indptr.dtype)
    return csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _largest_cap(lengths: NDArray[np.float64], budget: float) -> int:
    """The largest whole number at which ``lengths``, cut to it, have squares that sum to at most ``budget``."""
    low, high = 1, int(lengths.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.square(np.minimum(lengths, middle)).sum() <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _run_in_threads(do: Callable[[WorkT], None], work: Iterable[WorkT], threads: int) -> None:
    if threads == 1:
        for one in work:
            do(one)
        return
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(do, work):
            pass
