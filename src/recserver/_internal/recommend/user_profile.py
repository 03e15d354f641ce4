"""User profiles: what a model knows of a user, combined with interactions of the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import FoldIn, Vector
from recserver._internal.results.recommendations import Source

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class UserProfile:
    """A user's factors and interactions, in the terms of one version of a model.

    Attributes:
        factors: float32, shape (k,).
        items: int32, shape (interactions,): item indices, ascending.
        confidences: float32, shape (interactions,): by which the neighbors' weights are multiplied.
        source: ``personal`` or ``fold_in``.
        weights: shape (interactions,): of the interactions in the fit; None if derived from ``confidences``.
    """

    factors: NDArray[np.float32]
    items: NDArray[np.int32]
    confidences: NDArray[np.float32]
    source: Source
    weights: Vector | None = None


def fold_in_user(
    trained: tuple[NDArray[np.int32], Vector] | None,
    extra_ratings: Mapping[int, float],
    fold_in: FoldIn,
    item_factors: NDArray[np.float32],
) -> UserProfile | None:
    """The profile of a user with the interactions of a request; None if all weights are 0 or it overflows.

    Args:
        trained: item indices and weights of the user's interactions in the training; None for a new user.
        extra_ratings: ratings by item index; they replace those of the same items in the training.
        item_factors: float32, shape (k, items).
    """
    indices = np.fromiter(extra_ratings, np.int32, len(extra_ratings))
    weights = fold_in.weighting.weights(np.fromiter(extra_ratings.values(), np.float64, len(extra_ratings)))
    if trained is not None:
        others = ~np.isin(trained[0], indices)
        indices, weights = np.append(trained[0][others], indices), np.append(trained[1][others], weights)
    if not weights.any():
        return None
    order = np.argsort(indices)
    indices, weights = indices[order], weights[order]
    factors = fold_in.solve(item_factors[:, indices], indices, weights)
    confidences = fold_in.confidences(weights)
    if not all(np.abs(values).max(initial=0.0) <= FLOAT32_MAX for values in (factors, confidences)):
        return None
    return UserProfile(
        factors=factors.astype(np.float32),
        items=indices,
        confidences=confidences.astype(np.float32),
        source=Source.FOLD_IN if trained is None else Source.PERSONAL,
        weights=weights,
    )
