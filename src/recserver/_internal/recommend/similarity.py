"""Similarity of items, and of users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recserver._internal.recommend.model.model_arrays import column_norms
from recserver._internal.recommend.model.recommender import Recommender, Scores, factor_scores

BLOCK_PAIRS = 2**20
"""Interactions per block, approximately."""

MIN_NORM = np.float32(1e-30)


def item_similarities(model: Recommender, item: int) -> Scores:
    """The similarity of each item to one, shape (items,), from -1 to 1.

    The cosine of their factors; the neighbor weights of the item, relative to the largest of them; and where a
    model has both, the mean of the two.
    """
    norms: Scores = np.maximum(model.item_norms, MIN_NORM)
    direction = np.ascontiguousarray(model.item_factors[:, item] / norms[item])
    cosines: Scores = factor_scores(direction, model.item_factors) / norms
    np.clip(cosines, -1, 1, out=cosines)  # rounding may exceed the range
    if model.neighbors is None:
        return cosines
    weights = model.neighbors.scores(np.array([item], np.int32), np.ones(1, np.float32))
    return _combine(cosines, weights, weights, has_factors=bool(model.item_norms[item]))


class PoolSimilarities:
    """As :func:`item_similarities`, among a pool of items only."""

    def __init__(self, model: Recommender, indices: NDArray[np.intp]) -> None:
        """
        Args:
            indices: of the items, distinct.
        """
        self._neighbors, self._indices = model.neighbors, indices
        norms = np.maximum(model.item_norms[indices], MIN_NORM)
        self._unit_factors = np.ascontiguousarray((model.item_factors[:, indices] / norms).T)
        self._column = np.full(len(model.items), -1, np.int32)
        self._column[indices] = np.arange(len(indices), dtype=np.int32)

    def similarities_to(self, position: int) -> Scores:
        """The similarity of each item of the pool to the one at ``position`` in it, shape (pool,)."""
        direction = self._unit_factors[position]
        cosines: Scores = self._unit_factors @ direction
        if self._neighbors is None:
            return cosines
        indices, weights = self._neighbors.row(int(self._indices[position]))
        column = self._column[indices]
        in_pool = np.zeros(len(self._indices), np.float32)
        in_pool[column[column >= 0]] = weights[column >= 0]
        return _combine(cosines, in_pool, weights, has_factors=bool(direction.any()))


def _combine(cosines: Scores, weights: Scores, all_weights: Scores, *, has_factors: bool) -> Scores:
    """Cosines and neighbor weights as one similarity.

    Args:
        all_weights: of the item, to the largest of which the others are relative.
    """
    relative: Scores = weights / max(np.abs(all_weights).max(initial=0.0), MIN_NORM)
    return np.float32(0.5) * (cosines + relative) if has_factors else relative


def user_similarities(model: Recommender, user: int) -> Scores:
    """The similarity of each user to one, shape (users,), from -1 to 1.

    The cosine of their factors, or, where the user has none, of their interactions.
    """
    factors = model.user_factors[user]
    if factors.any():
        norms = np.maximum(column_norms(model.user_factors.T), MIN_NORM)
        cosines: Scores = model.user_factors @ (factors / norms[user]) / norms
        return np.clip(cosines, -1, 1, out=cosines)
    lengths = np.diff(model.seen_indptr)
    is_own = np.zeros(len(model.items), np.float32)
    is_own[model.seen_indices[model.seen_indptr[user] : model.seen_indptr[user + 1]]] = 1
    common = np.zeros(len(model.users))
    step = max(1, BLOCK_PAIRS * len(model.users) // max(1, len(model.seen_indices)))
    for start in range(0, len(model.users), step):
        bounds = model.seen_indptr[start : start + step + 1]
        shared = is_own[model.seen_indices[bounds[0] : bounds[-1]]]
        sums = np.concatenate([[0.0], np.cumsum(shared, dtype=np.float64)])
        common[start : start + step] = np.diff(sums[bounds - bounds[0]])
    similarities: NDArray[np.float64] = common / np.sqrt(np.maximum(lengths * lengths[user], 1))
    return similarities.astype(np.float32)
