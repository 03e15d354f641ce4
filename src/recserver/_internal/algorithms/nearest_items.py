"""The nearest items of each item by the cosine similarity of columns of interactions."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recserver._internal.algorithms.interactions import to_indptr
from recserver._internal.algorithms.threads import run_in_threads

Matrix = NDArray[np.float32]
Items = NDArray[np.int32]

BLOCK_SIZE = 256
"""Items whose products with all items are computed at once."""
MAX_PRODUCTS = 6e8
"""The sum over users of the number of pairs of the user's items. More is due to few users with very many items,
of whose items a sample is used."""


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """B and its transpose, for products of columns.

    Attributes:
        rows: B, shape (users, items).
        transposed: shape (items, users).
    """

    rows: csr_array
    transposed: csr_array

    @classmethod
    def of(cls, matrix: csr_array, seed: int = 0) -> ItemColumns:
        rows = _sample_excess_pairs(matrix, seed)
        return cls(rows, rows.T.tocsr())

    def products(self, items: Items | slice) -> csr_array:
        """The products of some items with all items, shape (len(items), items)."""
        return self.transposed[items] @ self.rows

    def norms(self) -> Matrix:
        """The Euclidean norms of the columns, shape (items,)."""
        squares = np.bincount(self.rows.indices, np.square(self.rows.data), minlength=self.rows.shape[1])
        return np.sqrt(squares).astype(np.float32)


def nearest_items(columns: ItemColumns, n: int, threads: int = 1, shrinkage: float = 0.0) -> tuple[Items, Matrix]:
    """The ``n`` items most similar to each item among those that share a user with it, and their similarities.

    The similarity is the cosine with ``shrinkage`` added to its denominator.

    Returns:
        Items and similarities, int32 and float32, shape (items, min(n, items - 1)). Items ascend in each row and
        are padded with -1.
    """
    n_items = len(columns.transposed.indptr) - 1
    n = max(1, min(n, n_items - 1))
    norms = np.maximum(columns.norms(), np.float32(1e-12))
    nearest, similarities = np.full((n_items, n), -1, np.int32), np.zeros((n_items, n), np.float32)

    def search_block(start: int) -> None:
        block = columns.products(slice(start, start + BLOCK_SIZE))
        rows = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        cosines = block.data / (norms[block.indices] * norms[rows] + np.float32(shrinkage))
        cosines[block.indices == rows] = 0
        for row, item in enumerate(range(start, start + block.shape[0])):
            entries = slice(block.indptr[row], block.indptr[row + 1])
            best = _top_indices(cosines[entries], n)
            items = block.indices[entries][best]
            ascending = np.argsort(items)
            nearest[item, : len(best)] = items[ascending]
            similarities[item, : len(best)] = cosines[entries][best][ascending]

    run_in_threads(search_block, range(0, n_items, BLOCK_SIZE), threads)
    return nearest, similarities


def _top_indices(values: Matrix, n: int) -> NDArray[np.intp]:
    """The indices of the ``n`` highest positive values, in no order; which of equal values is arbitrary."""
    if len(values) <= n:
        return np.flatnonzero(values > 0)
    lowest = max(np.partition(values, -n)[-n], np.finfo(np.float32).tiny)
    best = np.flatnonzero(values >= lowest)
    if len(best) > n:
        equal = values[best] == lowest
        best = np.append(best[~equal], best[equal][: n - int((~equal).sum())])
    return best


def _sample_excess_pairs(matrix: csr_array, seed: int) -> csr_array:
    """``matrix`` with a random sample of the pairs of the heaviest users, such that MAX_PRODUCTS holds."""
    lengths = np.diff(matrix.indptr).astype(np.float64)
    if np.square(lengths).sum() <= MAX_PRODUCTS:
        return matrix
    cap = _largest_cap(lengths, MAX_PRODUCTS)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    excessive = np.flatnonzero((lengths > cap)[rows])
    keys = np.random.default_rng(seed).random(len(excessive), np.float32)
    order = np.lexsort((keys, rows[excessive]))
    heavy = np.diff(matrix.indptr)[lengths > cap]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(heavy) - heavy, heavy)
    sampled = np.ones(matrix.nnz, bool)
    sampled[excessive[rank >= cap]] = False
    indptr = to_indptr(np.minimum(np.diff(matrix.indptr), cap)).astype(matrix.indptr.dtype)
    return csr_array((matrix.data[sampled], matrix.indices[sampled], indptr), shape=matrix.shape)


def _largest_cap(lengths: NDArray[np.float64], budget: float) -> int:
    """The largest cap, at least 1, with which the squares of the capped ``lengths`` sum to at most ``budget``."""
    caps = range(1, int(lengths.max()) + 1)
    return max(1, bisect_right(caps, budget, key=lambda cap: np.square(np.minimum(lengths, cap)).sum()))
