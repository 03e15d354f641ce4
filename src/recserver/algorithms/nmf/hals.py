"""Non-negative factorisation by coordinate descent, as quick as compiled code without any of our own.

Objective, for X of shape (rows, columns), W = row factors, H = column factors, both non-negative:
``1/2 |X - W H'|^2 + l2_W/2 |W|^2 + l1_W |W|_1 + l2_H/2 |H|^2 + l1_H |H|_1`` in squared Frobenius norms, which is
that of scikit-learn's NMF. One iteration updates every coordinate of W once, then of H: hierarchical alternating
least squares (Cichocki and Phan 2009), in scikit-learn's order, so that both walk the same path but for rounding.

Rows do not depend on each other while the other side stands still. So a block of rows is turned around, and a
coordinate of all its rows is updated by a few calls of numpy; what coordinates far from each other owe each other
is one matrix product. Blocks run in threads: numpy, BLAS and scipy's sparse products all release the interpreter's
lock. Nothing of the size rows x columns ever exists, and the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from recserver.algorithms.protocol import Told

Matrix = NDArray[np.float32]

CHUNK_SIZE = 32
"""Coordinates whose mutual shares are kept current one by one; all others' are brought in by a product before."""
BLOCK_CELLS = 2**19
"""Factors of a block: it and its products stay in a core's cache."""
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 1024, 4096
"""Of a block: with fewer, threads wait for each other; with more, some get none."""
GRAM_ROWS = 2**14
MIN_WEIGHT_SHARE = np.float32(1e-12)
"""Share of the largest weight, in place of one that is zero because its whole component is."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """What one side's factors cost: ``l2/2`` times their squares and ``l1`` times themselves."""

    l2: float = 0.0
    l1: float = 0.0

    def value(self, factors: Matrix, gram: Matrix) -> float:
        return self.l2 / 2 * float(np.trace(gram)) + self.l1 * float(factors.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Factorisation:
    """What a fit ended in.

    Attributes:
        rows, columns: float32, shape (rows, k) and (columns, k), non-negative.
        iterations: how many there were.
        loss: the objective.
        error: ``|X - W H'|``, the root of twice the objective's first term.
    """

    rows: Matrix
    columns: Matrix
    iterations: int
    loss: float
    error: float


def factorize(
    matrix: csr_array,
    start: tuple[Matrix, Matrix],
    penalties: tuple[Penalty, Penalty],
    *,
    max_iter: int,
    tol: float,
    threads: int = 1,
    on_iteration: Told = lambda iteration, iterations, loss: None,
) -> Factorisation:
    """Minimise the objective of this module.

    Args:
        matrix: float32, shape (rows, columns), of finite numbers.
        start: the first W and H, float32, non-negative.
        penalties: of W and of H.
        max_iter: iterations at most.
        tol: stops when an iteration takes less than this share of ``1/2 |X|^2`` off the objective; 0 never does.
        threads: blocks that are computed at the same time.
        told: is told after each iteration.
    """
    rows, columns = (np.array(one, np.float32, order="C") for one in start)
    turned = matrix.T.tocsr()
    norm = float(np.square(matrix.data, dtype=np.float64).sum())
    before, loss, iteration, square = np.inf, np.inf, 0, norm
    with _thread_pool(threads) as pool:
        gram = _gram(columns, pool)
        for iteration in range(1, max_iter + 1):
            _update(matrix, rows, columns, _UpdateRule.of(gram, penalties[0]), pool)
            row_gram = _gram(rows, pool)
            cross = _update(turned, columns, rows, _UpdateRule.of(row_gram, penalties[1]), pool)
            gram = _gram(columns, pool)
            square = max(0.0, norm - 2 * cross + float((row_gram.astype(np.float64) * gram).sum()))
            loss = square / 2 + penalties[0].value(rows, row_gram) + penalties[1].value(columns, gram)
            on_iteration(iteration, max_iter, loss)
            if tol and before - loss < tol * norm / 2:
                break
            before = loss
    return Factorisation(rows, columns, iteration, loss, square**0.5)


def random_start(matrix: csr_array, k: int, seed: int) -> tuple[Matrix, Matrix]:
    """Half-normal factors whose product is as large as ``matrix`` on average: scikit-learn's ``init="random"``."""
    random = np.random.default_rng(seed)
    rows, columns = matrix.shape
    scale = np.float32(np.sqrt(matrix.sum(dtype=np.float64) / (rows * columns) / k))
    first, second = (np.abs(random.standard_normal((n, k), np.float32)) * scale for n in (rows, columns))
    return first, second


def largest_singular_value(matrix: csr_array, steps: int = 12) -> float:
    """By power iteration from a vector of ones: exact enough for matrices that are nowhere negative."""
    vector = np.ones(matrix.shape[1], np.float32)
    for _ in range(steps):
        vector = matrix.T @ (matrix @ vector)
        length = np.linalg.norm(vector.astype(np.float64))  # squares may exceed float32
        if not length:
            return 0.0
        vector /= np.float32(length)
    return float(np.linalg.norm((matrix @ vector).astype(np.float64)))


@contextmanager
def _thread_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of ours in place of those of BLAS: both at once cost dearly."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield pool


def _gram(factors: Matrix, pool: ThreadPoolExecutor) -> Matrix:
    """``factors' factors``, summed in an order that does not depend on threads."""
    parts = pool.map(lambda start: _gram_of(factors[start : start + GRAM_ROWS]), range(0, len(factors), GRAM_ROWS))
    total: Matrix = sum(parts, np.zeros((factors.shape[1],) * 2, np.float32))
    return total


def _gram_of(part: Matrix) -> Matrix:
    product: Matrix = part.T @ part
    return product


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some neighbouring coordinates: what others take from them, and they from each other. The diagonals are 0."""

    first: int
    last: int
    others: Matrix
    own: Matrix


@dataclass(frozen=True, slots=True)
class _UpdateRule:
    """How a row is updated, while the other side stands still and has the products G.

    The best value of coordinate t, all else equal, is
    ``max(0, (x . fixed_t - l1 - sum over r != t of G[t, r] w_r) / (G[t, t] + l2))``.

    Attributes:
        weights: ``G[t, t] + l2``, shape (k,).
        toll: ``l1`` divided by them, shape (k, 1).
        chunks: the sum's factors divided by them, chunk by chunk.
    """

    weights: Matrix
    l1_shares: Matrix
    chunks: list[_Chunk]

    @classmethod
    def of(cls, gram: Matrix, penalty: Penalty) -> _UpdateRule:
        k = len(gram)
        weights = np.diag(gram) + np.float32(penalty.l2)
        weights = np.maximum(weights, max(weights.max() * MIN_WEIGHT_SHARE, np.finfo(np.float32).tiny))
        shares = gram / weights[:, None]
        np.fill_diagonal(shares, 0)
        chunks = [_chunk(shares, first, min(k, first + CHUNK_SIZE)) for first in range(0, k, CHUNK_SIZE)]
        return cls(weights, (np.float32(penalty.l1) / weights)[:, None], chunks)


def _update(
    matrix: csr_array, factors: Matrix, fixed: Matrix, rule: _UpdateRule, pool: ThreadPoolExecutor
) -> float:
    """Update all of ``factors`` in place, once each.

    Returns:
        The sum over all of ``matrix * (factors fixed')``.
    """
    k = factors.shape[1]
    scaled = fixed / rule.weights
    size = min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, BLOCK_CELLS // k))

    def one(start: int) -> float:
        block = slice(start, start + size)
        wanted = np.ascontiguousarray((_rows(matrix, block) @ scaled).T)
        values = np.ascontiguousarray(factors[block].T)
        for chunk in rule.chunks:
            _update_chunk(chunk, wanted, values, rule.l1_shares)
        factors[block] = values.T
        return float(np.einsum("kr,kr->k", values, wanted).astype(np.float64) @ rule.weights)

    return sum(pool.map(one, range(0, len(factors), size)))


def _update_chunk(chunk: _Chunk, targets: Matrix, values: Matrix, l1_shares: Matrix) -> None:
    """Update some coordinates of a block. All arrays have a row for each coordinate."""
    here = slice(chunk.first, chunk.last)
    own = values[here]
    left = chunk.others @ values
    np.subtract(targets[here] - l1_shares[here], left, out=left)
    taken = np.empty(values.shape[1], np.float32)
    for t in range(len(own)):
        np.dot(chunk.own[t], own, out=taken)
        np.subtract(left[t], taken, out=taken)
        np.maximum(taken, 0, out=own[t])


def _chunk(shares: Matrix, first: int, last: int) -> _Chunk:
    others = shares[first:last].copy()
    own = others[:, first:last].copy()
    others[:, first:last] = 0
    return _Chunk(first, last, others, own)


def _rows(matrix: csr_array, block: slice) -> csr_array:
    """Some rows of a matrix, without a copy of them."""
    indptr = matrix.indptr[block.start : block.stop + 1]
    entries = slice(indptr[0], indptr[-1])
    parts = matrix.data[entries], matrix.indices[entries], indptr - indptr[0]
    return csr_array(parts, shape=(len(indptr) - 1, matrix.shape[1]))
