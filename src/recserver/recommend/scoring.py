"""Scores of items for somebody: of all items within rounding, and of those that are told exactly.

A product of vectors or matrices rounds in an order that depends on its shape, so on who else asks, and on where an
item stands. It finds the few items among which the best must be; the scores of these are added up anew, each by
itself and in double precision. So a score depends on a version, somebody and an item alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recserver.recommend.model.recommender import Recommender, Scores, factor_scores
from recserver.recommend.user_profile import FLOAT32_MAX, UserProfile

ROUNDING_UNIT = 2.0**-23
"""Of a sum or a product in single precision, relative to it, at most; and as much again to be on the safe side."""

MIN_NORMAL, MIN_NORM = 2.0**-126, 2.0**-63
"""What is smaller may become zero, or lose digits: a number in single precision; one that is squared."""

BLOCK_PAIRS = 2**14
"""Exact scores that are added up together."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class ItemScores:
    """Scores of all items for somebody.

    Attributes:
        rough: float32, shape (items,), in an array of its own.
        error: how far each of them may be from the exact one.
        exact: tells the exact scores of the items at some places, shape (places,).
    """

    approximate: Scores
    error: float
    exact: Callable[[Indices], Scores]

    @classmethod
    def from_exact(cls, scores: Scores) -> Self:
        """Scores that are exact as they are."""
        return cls(scores.copy(), 0.0, scores.__getitem__)


def score_items(model: Recommender, profile: UserProfile) -> ItemScores:
    """The scores of all items for somebody: what the factors say, and what the neighbours of the items do."""
    rough, said = factor_scores(profile.factors, model.item_factors), None
    if model.neighbors is not None:
        said = model.neighbors.scores(profile.items, profile.confidences)
        rough += said
    active = profile.factors.nonzero()[0]
    factors = profile.factors[active, np.newaxis]

    def exact(places: Indices) -> Scores:
        def of(some: slice) -> Scores:
            own = model.item_factors[active[:, np.newaxis], places[some]]
            return exact_scores(factors, own, None if said is None else said[places[some]])

        return in_blocks(len(places), of)

    return ItemScores(rough, error_bound(model, profile.factors, said), exact)


def error_bound(model: Recommender, factors: NDArray[np.float32], neighbor_scores: Scores | None) -> float:
    """How far a score in single precision may be from the exact one, in whatever order it was added up.

    A sum of k products is off by at most k roundings of the sum of their magnitudes (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 3.1), which is at most the product of the two norms. Besides,
    each product and each square in a norm may be so small that it loses digits.

    Args:
        said: what neighbours say of each item.
    """
    own = factors.astype(np.float64)
    largest = float(np.sqrt(own @ own)) * (model.max_norm + len(own) * MIN_NORM)
    heard = (
        0.0
        if neighbor_scores is None
        else float(max(neighbor_scores.max(initial=0.0), -neighbor_scores.min(initial=0.0)))
    )
    return ROUNDING_UNIT * ((len(own) + 3) * largest + 2 * heard) + (len(own) + 3) * MIN_NORMAL


def exact_scores(
    factors: NDArray[np.float32], item_factors: NDArray[np.float32], neighbor_scores: Scores | None
) -> Scores:
    """The exact scores of pairs of somebody and an item, shape (pairs,).

    Args:
        factors, item_factors: float32, of each pair, shape (k, pairs); ``factors`` may have one column for all.
            Components that are zero for somebody change nothing, and may be missing.
        said: what neighbours say of the item of each pair.
    """
    products = np.multiply(factors, item_factors, dtype=np.float64)  # exact: twice 24 bits
    if len(products):
        sums = np.add.accumulate(products, axis=0, out=products)[-1]  # one after the other, whatever the shape
    else:
        sums = np.zeros(item_factors.shape[1])
    if neighbor_scores is not None:
        sums += neighbor_scores
    told: Scores = np.clip(sums, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)
    told += 0.0  # there is no -0.0, which would depend on the components that are missing
    return told


def in_blocks(count: int, compute: Callable[[slice], Scores]) -> Scores:
    """``count`` exact scores, found a few at a time: what :func:`added_up` holds meanwhile is large."""
    if count <= BLOCK_PAIRS:
        return compute(slice(count))
    return np.concatenate([compute(slice(start, start + BLOCK_PAIRS)) for start in range(0, count, BLOCK_PAIRS)])
