"""Non-negative matrix factorisation by coordinate descent, in numpy at the speed of compiled code.

Objective, for X of shape (rows, columns), W = row factors, H = column factors, both non-negative:
``1/2 |X - W H'|^2 + l2_W/2 |W|^2 + l1_W |W|_1 + l2_H/2 |H|^2 + l1_H |H|_1`` in squared Frobenius norms, which is
that of scikit-learn's NMF. One iteration updates every coordinate of W once, then of H: hierarchical alternating
least squares (Cichocki and Phan 2009), in scikit-learn's order, so that the iterates are the same up to rounding.

Rows are independent of each other while the other side is fixed. So a block of rows is transposed, and one
coordinate of all its rows is updated by a few numpy calls; the effect of coordinates of other chunks is one matrix
product. Blocks run in threads, because numpy, BLAS and scipy's sparse products release the GIL. No array of shape
(rows, columns) exists, and the result does not depend on the number of threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recserver._internal.algorithms.protocol import OnIteration
from recserver._internal.algorithms.threads import thread_pool

Matrix = NDArray[np.float32]

CHUNK_SIZE = 32
"""Coordinates that are updated one after the other; the effect of all others is one matrix product before."""
BLOCK_CELLS = 2**19
"""Factors in a block: it and its products fit in a core's cache."""
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 1024, 4096
"""Of a block: with fewer rows threads wait for each other, with more some are idle."""
GRAM_ROWS = 2**14
"""Rows whose Gram matrix is computed at once."""
MIN_WEIGHT_SHARE = np.float32(1e-12)
"""A lower limit of weights as a share of the largest: the weight of a zero component is zero."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """The penalty of one side's factors: ``l2/2`` times the sum of squares plus ``l1`` times the sum."""

    l2: float = 0.0
    l1: float = 0.0

    def value(self, factors: Matrix, gram: Matrix) -> float:
        return self.l2 / 2 * float(np.trace(gram)) + self.l1 * float(factors.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Factorisation:
    """The result of a factorisation.

    Attributes:
        rows, columns: float32, shape (rows, k) and (columns, k), non-negative.
        iterations: the number of iterations.
        loss: the final value of the objective.
        error: ``|X - W H'|``, the reconstruction error.
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
    on_iteration: OnIteration = lambda iteration, iterations, loss: None,
) -> Factorisation:
    """Minimise the objective of this module.

    Args:
        matrix: float32, shape (rows, columns), of finite numbers.
        start: the initial W and H, float32, non-negative.
        penalties: of W and of H.
        max_iter: the maximum number of iterations.
        tol: stop when an iteration lowers the objective by less than this share of ``1/2 |X|^2``; 0 never stops.
        threads: the number of blocks that are computed at the same time.
        on_iteration: called after each iteration.
    """
    rows, columns = (np.array(side, np.float32, order="C") for side in start)
    transposed = matrix.T.tocsr()
    norm = float(np.square(matrix.data, dtype=np.float64).sum())
    previous, loss, iteration, square = np.inf, np.inf, 0, norm
    with thread_pool(threads) as pool:
        gram = _gram(columns, pool)
        for iteration in range(1, max_iter + 1):
            _update(matrix, rows, columns, _UpdateRule.of(gram, penalties[0]), pool)
            row_gram = _gram(rows, pool)
            cross = _update(transposed, columns, rows, _UpdateRule.of(row_gram, penalties[1]), pool)
            gram = _gram(columns, pool)
            square = max(0.0, norm - 2 * cross + float((row_gram.astype(np.float64) * gram).sum()))
            loss = square / 2 + penalties[0].value(rows, row_gram) + penalties[1].value(columns, gram)
            on_iteration(iteration, max_iter, loss)
            if tol and previous - loss < tol * norm / 2:
                break
            previous = loss
    return Factorisation(rows, columns, iteration, loss, square**0.5)


def random_start(matrix: csr_array, k: int, seed: int) -> tuple[Matrix, Matrix]:
    """Half-normal factors whose product has the mean of ``matrix``, as with scikit-learn's ``init="random"``."""
    random = np.random.default_rng(seed)
    rows, columns = matrix.shape
    scale = np.float32(np.sqrt(matrix.sum(dtype=np.float64) / (rows * columns) / k))
    first, second = (np.abs(random.standard_normal((n, k), np.float32)) * scale for n in (rows, columns))
    return first, second


def largest_singular_value(matrix: csr_array, steps: int = 12) -> float:
    """By power iteration from a vector of ones: accurate to about 1% for non-negative matrices."""
    vector = np.ones(matrix.shape[1], np.float32)
    for _ in range(steps):
        vector = matrix.T @ (matrix @ vector)
        length = np.linalg.norm(vector.astype(np.float64))  # squares may exceed float32
        if not length:
            return 0.0
        vector /= np.float32(length)
    return float(np.linalg.norm((matrix @ vector).astype(np.float64)))


def _gram(factors: Matrix, pool: ThreadPoolExecutor) -> Matrix:
    """``factors' factors``, summed in an order that does not depend on threads."""
    blocks = (factors[start : start + GRAM_ROWS] for start in range(0, len(factors), GRAM_ROWS))
    total: Matrix = sum(
        pool.map(lambda block: block.T @ block, blocks), np.zeros((factors.shape[1],) * 2, np.float32)
    )
    return total


@dataclass(frozen=True, slots=True)
class _UpdateRule:
    """How the coordinates of a row w are updated, with the other side fixed and G its Gram matrix.

    The optimal value of coordinate t, with all others fixed, is
    ``max(0, (x . fixed_t - l1 - sum over r != t of G[t, r] w_r) / (G[t, t] + l2))``.

    Attributes:
        weights: ``G[t, t] + l2``, shape (k,).
        l1_shares: ``l1`` divided by the weights, shape (k, 1).
        chunks: consecutive coordinates t, and ``G[t, r]`` divided by the weights, 0 for r = t: shape (chunk, k),
            0 within the chunk, and shape (chunk, chunk).
    """

    weights: Matrix
    l1_shares: Matrix
    chunks: list[tuple[slice, Matrix, Matrix]]

    @classmethod
    def of(cls, gram: Matrix, penalty: Penalty) -> _UpdateRule:
        k = len(gram)
        weights = np.diag(gram) + np.float32(penalty.l2)
        weights = np.maximum(weights, max(weights.max() * MIN_WEIGHT_SHARE, np.finfo(np.float32).tiny))
        shares = gram / weights[:, None]
        np.fill_diagonal(shares, 0)
        chunks = []
        for first in range(0, k, CHUNK_SIZE):
            coordinates = slice(first, first + CHUNK_SIZE)
            outside = shares[coordinates].copy()
            inside = outside[:, coordinates].copy()
            outside[:, coordinates] = 0
            chunks.append((coordinates, outside, inside))
        return cls(weights, (np.float32(penalty.l1) / weights)[:, None], chunks)


def _update(
    matrix: csr_array, factors: Matrix, fixed: Matrix, rule: _UpdateRule, pool: ThreadPoolExecutor
) -> float:
    """Update each coordinate of ``factors`` once, in place.

    Returns:
        The sum of the elements of ``matrix * (factors fixed')``.
    """
    k = factors.shape[1]
    scaled = fixed / rule.weights
    size = min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, BLOCK_CELLS // k))

    def update_block(start: int) -> float:
        block = slice(start, start + size)
        targets = np.ascontiguousarray((matrix[block] @ scaled).T)  # slices of rows are views
        values = np.ascontiguousarray(factors[block].T)
        for coordinates, outside, inside in rule.chunks:
            residuals = outside @ values
            np.subtract(targets[coordinates] - rule.l1_shares[coordinates], residuals, out=residuals)
            _update_chunk(values[coordinates], residuals, inside)
        factors[block] = values.T
        return float(np.einsum("kr,kr->k", values, targets).astype(np.float64) @ rule.weights)

    return sum(pool.map(update_block, range(0, len(factors), size)))


def _update_chunk(values: Matrix, residuals: Matrix, shares: Matrix) -> None:
    """Update the coordinates of a chunk in place. ``values`` and ``residuals`` have shape (chunk, rows)."""
    value = np.empty(values.shape[1], np.float32)
    for t, residual in enumerate(residuals):
        np.dot(shares[t], values, out=value)
        np.subtract(residual, value, out=value)
        np.maximum(value, 0, out=values[t])
