"""Why an item is recommended: what each of somebody's own interactions adds to its score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recserver.algorithms.fold_in import Matrix
from recserver.recommend.model.recommender import Recommender
from recserver.recommend.user_profile import UserProfile

MAX_SHARES = 2**21
"""That are in memory together: 16 MiB."""

MAX_NAMED = 10
"""Interactions that are named; the others are added up."""

ROUNDING_TOLERANCE = 1e-4
"""Of the magnitudes of all shares together: so much may be lost in single precision."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a score comes from. The shares and ``others`` add up to it.

    Attributes:
        shares: item ids of somebody's own interactions, and what each adds to the score; largest first.
        others: what all further ones add.
    """

    shares: list[tuple[str, float]]
    others: float


def explain(
    model: Recommender,
    profile: UserProfile | None,
    indices: NDArray[np.intp],
    scores: NDArray[np.float64],
    final_scores: NDArray[np.float64],
) -> list[Explanation]:
    """One explanation for each place.

    Args:
        scores: by the model, shape (places,).
        told: what became of them by boosts; every share is boosted alike.
    """
    if profile is None or not len(profile.items):
        return [Explanation([], score) for score in final_scores.tolist()]
    of_factors = _factor_shares(model, profile)
    step, found = max(1, MAX_SHARES // len(profile.items)), list[Explanation]()
    for start in range(0, len(indices), step):
        some = slice(start, start + step)
        shares = _shares(model, profile, indices[some], of_factors)
        shares *= final_scores[some] / np.where(scores[some], scores[some], 1.0)
        each = zip(shares.T, final_scores[some].tolist(), strict=True)
        found += [_explanation(model, profile, own, score) for own, score in each]
    return found


def _factor_shares(model: Recommender, profile: UserProfile) -> Matrix | None:
    """What of somebody's factors each interaction accounts for, shape (k, interactions); None if nobody knows."""
    if model.fold_in is None or not len(profile.factors):
        return None
    own = model.item_factors[:, profile.items].astype(np.float64)
    return model.fold_in.shares(profile.factors, own, profile.items, model.weights_of(profile))


def _shares(
    model: Recommender, profile: UserProfile, indices: NDArray[np.intp], factor_shares: Matrix | None
) -> NDArray[np.float64]:
    """What each interaction adds to each score, shape (interactions, places)."""
    shares = np.zeros((len(profile.items), len(indices)))
    if factor_shares is not None:
        shares += factor_shares.T @ model.item_factors[:, indices]
    if model.neighbors is not None:
        shares += model.neighbors.shares(profile.items, profile.confidences, indices)
    return shares


def _explanation(
    model: Recommender, profile: UserProfile, shares: NDArray[np.float64], score: float
) -> Explanation:
    sizes = np.abs(shares)
    largest = (
        np.arange(len(shares))
        if len(shares) <= MAX_NAMED
        else np.sort(np.argpartition(-sizes, MAX_NAMED)[:MAX_NAMED])
    )
    largest = largest[np.argsort(-sizes[largest], kind="stable")]
    largest = largest[shares[largest] != 0]
    told = shares[largest]
    rest = score - told.sum()
    if len(largest) == np.count_nonzero(shares) and 0 < abs(rest) <= ROUNDING_TOLERANCE * np.abs(told).sum():
        told[0] += rest  # what float32 rounded off the score is nobody else's
    named = [
        (model.items[int(place)], share)
        for place, share in zip(profile.items[largest], told.tolist(), strict=True)
    ]
    return Explanation(named, score - float(told.sum()))
