"""Why an item is recommended: what each of somebody's own interactions adds to its score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recserver.recommend.person import Person
from recserver.recommend.recommender import Recommender

MOST = 10
"""Interactions that are named; the others are added up."""


ROUNDING = 1e-4
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
    person: Person | None,
    places: NDArray[np.intp],
    scores: NDArray[np.float64],
    told: NDArray[np.float64],
) -> list[Explanation]:
    """One explanation for each place.

    Args:
        scores: by the model, shape (places,).
        told: what became of them by boosts; every share is boosted alike.
    """
    if person is None or not len(person.items):
        return [Explanation([], score) for score in told.tolist()]
    shares = _shares(model, person, places) * (told / np.where(scores, scores, 1.0))
    return [_named(model, person, shares[:, number], score) for number, score in enumerate(told.tolist())]


def _shares(model: Recommender, person: Person, places: NDArray[np.intp]) -> NDArray[np.float64]:
    """What each interaction adds to each score, shape (interactions, places)."""
    shares = np.zeros((len(person.items), len(places)))
    if model.fold_in is not None and len(person.factors):
        own = model.item_factors[:, person.items].astype(np.float64)
        of_factors = model.fold_in.shares(person.factors, own, person.items, model.worth_of(person))
        shares += of_factors.T @ model.item_factors[:, places]
    if model.neighbors is not None:
        shares += model.neighbors.shares(person.items, person.strengths, places)
    return shares


def _named(model: Recommender, person: Person, shares: NDArray[np.float64], score: float) -> Explanation:
    largest = np.argsort(-np.abs(shares), kind="stable")[:MOST]
    largest = largest[shares[largest] != 0]
    told = shares[largest]
    rest = score - told.sum()
    if len(largest) == np.count_nonzero(shares) and 0 < abs(rest) <= ROUNDING * np.abs(told).sum():
        told[0] += rest  # what float32 rounded off the score is nobody else's
    named = [
        (model.items[int(place)], share) for place, share in zip(person.items[largest], told.tolist(), strict=True)
    ]
    return Explanation(named, score - float(told.sum()))
