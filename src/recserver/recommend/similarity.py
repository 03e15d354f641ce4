"""How alike items are to each other, and users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recserver.recommend.model.recommender import Recommender, Scores, factor_scores

BLOCK_PAIRS = 2**20
"""Interactions that are looked at together, about."""

MIN_NORM = np.float32(1e-30)


def item_similarities(model: Recommender, item: int) -> Scores:
    """How alike each item is to one, shape (items,), from -1 to 1.

    The cosine of their factors; the weights that neighbours have for an interaction with the one, relative to the
    largest of them; and where a model has both, the mean of the two.
    """
    norms: Scores = np.maximum(model.item_norms, MIN_NORM)
    direction = np.ascontiguousarray(model.item_factors[:, item] / norms[item])
    alike: Scores = factor_scores(direction, model.item_factors) / norms
    np.clip(alike, -1, 1, out=alike)  # rounding may go beyond
    if model.neighbors is None:
        return alike
    said = model.neighbors.scores(np.array([item], np.int32), np.ones(1, np.float32))
    said /= max(np.abs(said).max(initial=0.0), MIN_NORM)
    return np.float32(0.5) * (alike + said) if model.item_norms[item] else said


class PoolSimilarities:
    """As :func:`to_item`, among a few items only."""

    def __init__(self, model: Recommender, indices: NDArray[np.intp]) -> None:
        """
        Args:
            places: of the items, distinct.
        """
        self._neighbors, self._indices = model.neighbors, indices
        norms = np.maximum(model.item_norms[indices], MIN_NORM)
        self._unit_factors = np.ascontiguousarray((model.item_factors[:, indices] / norms).T)
        self._column = np.full(len(model.items), -1, np.int32)
        self._column[indices] = np.arange(len(indices), dtype=np.int32)

    def similarities_to(self, position: int) -> Scores:
        """How alike each of the items is to the one with this number among them, shape (places,)."""
        own = self._unit_factors[position]
        alike: Scores = self._unit_factors @ own
        if self._neighbors is None:
            return alike
        said = np.zeros(len(self._indices), np.float32)
        indices, weights = self._neighbors.row(int(self._indices[position]))
        column = self._column[indices]
        said[column[column >= 0]] = weights[column >= 0]
        said /= max(np.abs(weights).max(initial=0.0), MIN_NORM)
        return np.float32(0.5) * (alike + said) if own.any() else said


def user_similarities(model: Recommender, user: int) -> Scores:
    """How alike each user is to one, shape (users,), from -1 to 1.

    The cosine of their factors; where a model has none, the cosine of their interactions.
    """
    own = model.user_factors[user]
    if own.any():
        squares = np.einsum("uk,uk->u", model.user_factors, model.user_factors)
        norms = np.maximum(np.sqrt(squares), MIN_NORM)
        alike: Scores = model.user_factors @ (own / norms[user]) / norms
        return np.clip(alike, -1, 1, out=alike)
    lengths = np.diff(model.seen_indptr)
    is_own = np.zeros(len(model.items), np.float32)
    is_own[model.seen_indices[model.seen_indptr[user] : model.seen_indptr[user + 1]]] = 1
    common, step = (
        np.zeros(len(model.users)),
        max(1, BLOCK_PAIRS * len(model.users) // max(1, len(model.seen_indices))),
    )
    for start in range(0, len(model.users), step):
        bounds = model.seen_indptr[start : start + step + 1]
        taken = is_own[model.seen_indices[bounds[0] : bounds[-1]]]
        so_far = np.concatenate([[0.0], np.cumsum(taken, dtype=np.float64)])
        common[start : start + step] = np.diff(so_far[bounds - bounds[0]])
    shares: NDArray[np.float64] = common / np.sqrt(np.maximum(lengths * lengths[user], 1))
    return shares.astype(np.float32)
