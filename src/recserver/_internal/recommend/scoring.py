"""Scores of items for a user: approximate ones of all items, and exact ones of those that are returned.

The score of item i for user u is ``user_factors[u] @ item_factors[:, i]``, plus the sum of
``confidence[j] * S[j, i]`` over the user's interactions j where the model has item-item weights S. The
evaluation (``FittedModel.scores`` in ``algorithms/protocol.py``) and the approximate scoring of batches
(``batch_top_n.py``) have implementations of their own; tests compare them.

A product of vectors or matrices rounds in an order that depends on its shape, so on the other requests of a batch
and on the position of an item. It only finds the few items among which the best must be; their scores are summed
again one by one in double precision by :func:`exact_scores`. So a final score depends on the version, the user and
the item alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recserver._internal.recommend.model.recommender import Recommender, Scores, factor_scores
from recserver._internal.recommend.user_profile import FLOAT32_MAX, UserProfile

ROUNDING_UNIT = 2.0**-23
"""Twice the largest relative rounding error of an operation in single precision, to be safe."""

MIN_NORMAL, MIN_NORM = 2.0**-126, 2.0**-63
"""The smallest number that single precision holds in full, and the smallest whose square it does."""

BLOCK_PAIRS = 2**14
"""Exact scores that are computed at a time."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class ItemScores:
    """Scores of all items for a user.

    Attributes:
        approximate: float32, shape (items,), in an array of its own.
        error: the largest difference between an approximate score and the exact one.
        exact: computes the exact scores of the items at some indices, shape (indices,).
    """

    approximate: Scores
    error: float
    exact: Callable[[Indices], Scores]

    @classmethod
    def from_exact(cls, scores: Scores) -> Self:
        """Scores that are exact already."""
        return cls(scores.copy(), 0.0, scores.__getitem__)


def score_items(model: Recommender, profile: UserProfile) -> ItemScores:
    """The scores of all items for a user, by factors and neighbors."""
    approximate, neighbor_scores = factor_scores(profile.factors, model.item_factors), None
    if model.neighbors is not None:
        neighbor_scores = model.neighbors.scores(profile.items, profile.confidences)
        approximate += neighbor_scores
    active = profile.factors.nonzero()[0]
    factors = profile.factors[active, np.newaxis]

    def exact(indices: Indices) -> Scores:
        def block(part: slice) -> Scores:
            item_factors = model.item_factors[active[:, np.newaxis], indices[part]]
            neighbors = None if neighbor_scores is None else neighbor_scores[indices[part]]
            return exact_scores(factors, item_factors, neighbors)

        return in_blocks(len(indices), block)

    return ItemScores(approximate, error_bound(model, profile.factors, neighbor_scores), exact)


def error_bound(model: Recommender, factors: NDArray[np.float32], neighbor_scores: Scores | None) -> float:
    """The largest error of a score in single precision, in whatever order it is summed.

    A sum of k products is off by at most k roundings of the sum of their magnitudes (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 3.1), which is at most the product of the two norms. Products
    and squares that underflow lose a little more.

    Args:
        factors: of the user, shape (k,).
        neighbor_scores: of all items, shape (items,).
    """
    k, exact_factors = len(factors), factors.astype(np.float64)
    max_product = float(np.sqrt(exact_factors @ exact_factors)) * (model.max_norm + k * MIN_NORM)
    max_neighbor = 0.0
    if neighbor_scores is not None:
        max_neighbor = float(max(neighbor_scores.max(initial=0.0), -neighbor_scores.min(initial=0.0)))
    return ROUNDING_UNIT * ((k + 3) * max_product + 2 * max_neighbor) + (k + 3) * MIN_NORMAL


def exact_scores(
    factors: NDArray[np.float32], item_factors: NDArray[np.float32], neighbor_scores: Scores | None
) -> Scores:
    """The exact scores of pairs of a user and an item, shape (pairs,).

    Args:
        factors, item_factors: float32, shape (k, pairs); ``factors`` may have one column for all pairs. Rows in
            which the user's factor is zero may be left out.
        neighbor_scores: of each pair, shape (pairs,).
    """
    products = np.multiply(factors, item_factors, dtype=np.float64)  # exact: twice 24 bits
    if len(products):
        sums = np.add.accumulate(products, axis=0, out=products)[-1]  # in the same order for every shape
    else:
        sums = np.zeros(item_factors.shape[1])
    if neighbor_scores is not None:
        sums += neighbor_scores
    scores: Scores = np.clip(sums, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)
    scores += 0.0  # turns -0.0, which would depend on the rows that are left out, into 0.0
    return scores


def in_blocks(count: int, compute: Callable[[slice], Scores]) -> Scores:
    """``count`` exact scores, computed in blocks: :func:`exact_scores` needs k times the memory of its result."""
    if count <= BLOCK_PAIRS:
        return compute(slice(count))
    return np.concatenate([compute(slice(start, start + BLOCK_PAIRS)) for start in range(0, count, BLOCK_PAIRS)])
