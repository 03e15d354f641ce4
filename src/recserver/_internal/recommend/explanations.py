"""Explanations: how much each of a user's interactions adds to the score of a recommended item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recserver._internal.algorithms.fold_in import Matrix
from recserver._internal.recommend.model.recommender import Recommender
from recserver._internal.recommend.user_profile import UserProfile

MAX_SHARES = 2**21
"""Shares in memory at a time: 16 MiB."""

MAX_NAMED = 10
"""Interactions that an explanation names; the others are summed."""

ROUNDING_TOLERANCE = 1e-4
"""The largest rounding error of single precision, relative to the sum of the shares' magnitudes."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a score comes from. The shares and ``others`` add up to the score.

    Attributes:
        shares: item ids of the user's interactions and what each adds to the score, largest magnitude first.
        others: what all other interactions add.
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
    """One explanation for each item.

    Args:
        indices: of the items.
        scores: of the model, shape (indices,).
        final_scores: the same after boosts, which scale every share alike.
    """
    if profile is None or not len(profile.items):
        return [Explanation([], score) for score in final_scores.tolist()]
    factor_shares = _factor_shares(model, profile)
    step, explanations = max(1, MAX_SHARES // len(profile.items)), list[Explanation]()
    for start in range(0, len(indices), step):
        block = slice(start, start + step)
        shares = _shares(model, profile, indices[block], factor_shares)
        shares *= final_scores[block] / np.where(scores[block], scores[block], 1.0)
        pairs = zip(shares.T, final_scores[block].tolist(), strict=True)
        explanations += [_explanation(model, profile, of_item, score) for of_item, score in pairs]
    return explanations


def _factor_shares(model: Recommender, profile: UserProfile) -> Matrix | None:
    """The part of the user's factors that each interaction accounts for, shape (k, interactions); None without
    fold-in."""
    if model.fold_in is None or not len(profile.factors):
        return None
    item_factors = model.item_factors[:, profile.items].astype(np.float64)
    return model.fold_in.shares(profile.factors, item_factors, profile.items, model.weights_of(profile))


def _shares(
    model: Recommender, profile: UserProfile, indices: NDArray[np.intp], factor_shares: Matrix | None
) -> NDArray[np.float64]:
    """What each interaction adds to each score, shape (interactions, indices)."""
    shares = np.zeros((len(profile.items), len(indices)))
    if factor_shares is not None:
        shares += factor_shares.T @ model.item_factors[:, indices]
    if model.neighbors is not None:
        shares += model.neighbors.shares(profile.items, profile.confidences, indices)
    return shares


def _explanation(
    model: Recommender, profile: UserProfile, shares: NDArray[np.float64], score: float
) -> Explanation:
    sizes, largest = np.abs(shares), np.arange(len(shares))
    if len(shares) > MAX_NAMED:
        largest = np.sort(np.argpartition(-sizes, MAX_NAMED)[:MAX_NAMED])
    largest = largest[np.argsort(-sizes[largest], kind="stable")]
    largest = largest[shares[largest] != 0]
    named = shares[largest]
    rest = score - named.sum()
    if len(largest) == np.count_nonzero(shares) and 0 < abs(rest) <= ROUNDING_TOLERANCE * np.abs(named).sum():
        named[0] += rest  # a rounding error, not the share of another interaction
    items = (model.items[int(index)] for index in profile.items[largest])
    return Explanation(list(zip(items, named.tolist(), strict=True)), score - float(named.sum()))
