"""Sparse, non-negative item-item weights: which few items foretell each item best.

For item j with column z_j of Z and its n nearest items N by cosine:
``s_j = argmin over b >= 0 of |z_j - Z_N b|^2 + l2 |b|^2``. That is SLIM (Ning and Karypis 2011) with
neighbourhoods chosen beforehand (their fsSLIM) and without the l1 term: the neighbourhood makes it sparse. Only
products of columns are needed, those of an item's neighbours with each other; where the catalogue is small, all
are computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from recserver.neighbors import Neighbors

Matrix = NDArray[np.float32]
Items = NDArray[np.int32]
WorkT = TypeVar("WorkT")

L2 = 5.0
"""Ridge of the weights, times the mean square of what pairs are worth. Quality is flat from 2 to 10."""
PASSES = 8
"""Of coordinate descent over each item's weights."""
BLOCK = 256
"""Items whose products with all are computed together."""
GRAM_CELLS = 2**22
"""Products that are gathered for a block of items whose weights are computed together: 16 MiB."""
WHOLE_CELLS = 2**27
"""Products of all items with all are kept up to here (512 MiB: 11,585 items); beyond, those of some at a time."""
GROUP = 16
"""Items of a large catalogue, alike ones, whose neighbours' products are computed together."""
MOST_PRODUCTS = 6e8
"""Multiplications of all pairs of items that a user has, summed over users. What is beyond comes from few users
with very many items each: of those a sample counts."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of Z, ready to be multiplied with each other.

    Attributes:
        rows: shape (users, items).
        turned: its transpose, shape (items, users).
    """

    rows: csr_array
    turned: csr_array

    @classmethod
    def of(cls, matrix: csr_array, seed: int = 0) -> Columns:
        rows = _without_excess(matrix, seed)
        return cls(rows, rows.T.tocsr())

    def products(self, items: Items | slice) -> csr_array:
        """Of some items with all, shape (their number, items)."""
        return self.turned[items] @ self.rows

    def products_among(self, items: Items) -> Matrix:
        """Of some items with each other."""
        own = self.turned[items]
        among: Matrix = (own @ own.T.tocsr()).toarray()
        return among

    def norms(self) -> Matrix:
        """Of the items' columns, shape (items,)."""
        squares = np.bincount(self.rows.indices, np.square(self.rows.data), minlength=self.rows.shape[1])
        return np.sqrt(squares).astype(np.float32)


def nearest(columns: Columns, n: int, threads: int = 1, shrinkage: float = 0.0) -> tuple[Items, Matrix]:
    """The ``n`` items most like each one that share a user with it, and their likeness.

    The likeness is the cosine, ``shrinkage`` being added to its denominator.

    Returns:
        int32 and float32, shape (items, n), or fewer if there are fewer others; items ascending in each row;
        -1 after them where there are fewer.
    """
    n_items = len(columns.turned.indptr) - 1
    n = max(1, min(n, n_items - 1))
    norms = np.maximum(columns.norms(), np.float32(1e-12))
    found, how_like = np.full((n_items, n), -1, np.int32), np.zeros((n_items, n), np.float32)

    def one(start: int) -> None:
        block = columns.products(slice(start, start + BLOCK))
        rows = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        likeness = block.data / (norms[block.indices] * norms[rows] + np.float32(shrinkage))
        likeness[block.indices == rows] = 0
        for row, item in enumerate(range(start, start + block.shape[0])):
            own = slice(block.indptr[row], block.indptr[row + 1])
            best = _highest(likeness[own], n)
            items = block.indices[own][best]
            ascending = np.argsort(items)
            found[item, : len(best)] = items[ascending]
            how_like[item, : len(best)] = likeness[own][best][ascending]

    _in_threads(one, range(0, n_items, BLOCK), threads)
    return found, how_like


def _highest(values: Matrix, n: int) -> NDArray[np.intp]:
    """Where the ``n`` highest of the positive ``values`` stand, in no order; of equal ones some."""
    if len(values) <= n:
        return np.flatnonzero(values > 0)
    lowest = max(np.partition(values, -n)[-n], np.finfo(np.float32).tiny)
    reaching = np.flatnonzero(values >= lowest)
    if len(reaching) > n:
        equal = values[reaching] == lowest
        reaching = np.append(reaching[~equal], reaching[equal][: n - int((~equal).sum())])
    return reaching


def item_weights(columns: Columns, neighbors: Items, order: Items, threads: int = 1, l2: float = L2) -> csr_array:
    """S, shape (items, items): column j has the weights of j's neighbours, row i what i speaks for.

    Args:
        neighbors: as from :func:`nearest`.
        order: all items, alike ones together, so that those of a group share neighbours.
    """
    n_items, n = neighbors.shape
    weights = np.zeros((n_items, n), np.float32)
    whole = _all_products(columns, threads) if n_items**2 <= WHOLE_CELLS else None

    def one(items: Items) -> None:
        gathered = _Gathered.empty(len(items), n)
        step = len(items) if whole is not None else GROUP
        for start in range(0, len(items), step):
            part = slice(start, start + step)
            gathered.take(part, neighbors[items[part]], items[part], columns if whole is None else whole)
        weights[items] = gathered.solved(np.float32(l2))

    size = max(1, GRAM_CELLS // n**2)
    order = order[neighbors[order, 0] >= 0]
    _in_threads(one, [order[start : start + size] for start in range(0, len(order), size)], threads)
    return sparse_rows(neighbors, weights)


def sparse_rows(neighbors: Items, weights: Matrix) -> csr_array:
    """Shape (items, items): row i has what i speaks for. The arguments are of shape (items, n); 0 is no weight."""
    n_items, kept = len(neighbors), weights > 0
    owners = np.repeat(np.arange(n_items, dtype=np.int32), kept.sum(axis=1))
    found = csr_array((weights[kept], (neighbors[kept], owners)), shape=(n_items, n_items))
    found.sort_indices()
    return found


def as_neighbors(weights: csr_array, strengths: Matrix) -> Neighbors:
    """The part of a model that holds item-item weights."""
    indptr, indices = weights.indptr.astype(np.int64), weights.indices.astype(np.int32, copy=False)
    return Neighbors(indptr, indices, weights.data, strengths)


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What decides the weights of some items.

    Attributes:
        grams: products of their neighbours, shape (n, items, n): what one step reads lies together.
        wanted: products of their neighbours with themselves, shape (n, items).
    """

    grams: Matrix
    wanted: Matrix

    @classmethod
    def empty(cls, items: int, n: int) -> _Gathered:
        return cls(np.empty((n, items, n), np.float32), np.empty((n, items), np.float32))

    def take(self, part: slice, neighbors: Items, items: Items, products: Matrix | Columns) -> None:
        """Fill in a part of the items, from the products of all items with each other or from columns."""
        nobody = neighbors < 0
        if isinstance(products, Columns):
            needed = np.unique(np.append(neighbors, items))
            needed = needed[needed >= 0]
            neighbors, items = (np.searchsorted(needed, one).astype(np.int32) for one in (neighbors, items))
            products = products.products_among(needed)
        places = np.where(nobody, 0, neighbors).T
        self.grams[:, part] = products[places[:, :, None], places.T[None]]
        self.grams[:, part][nobody.T] = 0
        self.wanted[:, part] = np.where(nobody.T, 0, products[places, items])

    def solved(self, l2: np.float32) -> Matrix:
        """The weights, shape (items, n), by a few passes of coordinate descent over all items at once."""
        weights = np.zeros(self.wanted.shape[::-1], np.float32)
        for _ in range(PASSES):
            for t, (gram, target) in enumerate(zip(self.grams, self.wanted, strict=True)):
                own_product = gram[:, t]
                taken = np.vecdot(gram, weights) - own_product * weights[:, t]
                weights[:, t] = np.maximum(0, (target - taken) / (own_product + l2))
        return weights


def _all_products(columns: Columns, threads: int) -> Matrix:
    n_items = columns.rows.shape[1]
    whole = np.empty((n_items, n_items), np.float32)

    def fill(start: int) -> None:
        block = slice(start, start + BLOCK)
        whole[block] = columns.products(block).toarray()

    _in_threads(fill, range(0, n_items, BLOCK), threads)
    return whole


def _without_excess(matrix: csr_array, seed: int) -> csr_array:
    """``matrix``, or at most so many pairs of each user, chosen by chance, that products stay affordable."""
    lengths = np.diff(matrix.indptr).astype(np.float64)
    if np.square(lengths).sum() <= MOST_PRODUCTS:
        return matrix
    most = _largest_within(lengths, MOST_PRODUCTS)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    chance = np.random.default_rng(seed).random(matrix.nnz, np.float32)
    order = np.lexsort((chance, rows))
    rank = np.empty(matrix.nnz, np.int64)
    rank[order] = np.arange(matrix.nnz) - matrix.indptr[rows]
    kept = rank < most
    indptr = np.concatenate([[0], np.cumsum(np.minimum(np.diff(matrix.indptr), most))]).astype(matrix.indptr.dtype)
    return csr_array((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)


def _largest_within(lengths: NDArray[np.float64], budget: float) -> int:
    """The largest whole number at which ``lengths``, cut to it, have squares that sum to at most ``budget``."""
    low, high = 1, int(lengths.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.square(np.minimum(lengths, middle)).sum() <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _in_threads(do: Callable[[WorkT], None], work: Iterable[WorkT], threads: int) -> None:
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(do, work):
            pass
